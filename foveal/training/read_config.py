"""Read settings from a YAML file."""

from pathlib import Path
from typing import TypeVar

import yaml

Config = TypeVar("Config")


def read_config(path: Path, kind: type[Config]) -> Config:
    """Read a file of settings as `kind`."""
    return kind(**yaml.safe_load(path.read_text()))
