"""Settings from files: `config.yaml` of a run, `comparison.json` of a comparison; each field is checked.

A file may come from another person, or be cut short. An error is one line that names the file and the field.
"""

import json
from dataclasses import fields
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import yaml

from foveal.core.names import lookup, one_line
from foveal.data.text_files import read_text
from foveal.training.config import TrainConfig, is_of_type, wrong_type

Config = TypeVar("Config", bound=TrainConfig)
LARGEST = 2**16  # bytes of a file of settings, each of which is one line


def read_config(path: Path, kind: type[Config]) -> Config:
    """Read settings from a YAML file; a field that is not in it has its default. Errors as `read_settings`."""
    return kind(**read_settings(path, kind))


def read_settings(path: Path, kind: type[Config]) -> dict[str, Any]:
    """Read the settings that a YAML file states, checked as fields of `kind`.

    Raises:
        ValueError: not a text, not YAML, or no plain `name: value` lines; an unknown field; a value of another type or
            out of range.
    """
    text = read_text(path, LARGEST)
    try:
        check_plain(text)
        stated = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as YAML: {one_line(error):.300}") from error
    check_settings(path, stated, kind)
    return stated


def check_plain(text: str) -> None:
    """Check that a text of YAML holds one value for each name: the others may take very long or become very large.

    Raises:
        ValueError: a list or a mapping as a value, an alias, an anchor, or a tag.
    """
    mappings = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        mappings += isinstance(event, yaml.MappingStartEvent)
        marked = any(getattr(event, name, None) for name in ("anchor", "tag"))
        if marked or mappings > 1 or isinstance(event, yaml.SequenceStartEvent | yaml.AliasEvent):
            raise ValueError(f"a list, a mapping, an alias or a tag, which no setting is {event.start_mark}")


def check_settings(path: Path, stated: Any, kind: type[Config]) -> None:
    """Check the values that a file states as fields of `kind`.

    Raises:
        ValueError: as `read_config`.
    """
    if not isinstance(stated, dict):
        raise ValueError(f"{path}: holds {type(stated).__name__}, not settings by name")
    known = {each.name: each for each in fields(kind)}
    try:
        for name, value in stated.items():
            each = lookup("field", str(name), known)
            if value is not each.default and not is_of_type(value, each.type):
                raise ValueError(wrong_type(name, value, each.type) + hint(value, each.type))
        kind(**stated)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {one_line(error):.300}") from error


def hint(value: Any, needed: Any) -> str:
    """Return the spelling of a number that YAML read as a string: without a point, or without a sign after the e."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return ""
    if not isinstance(value, str) or needed not in (int, float) or not isfinite(number):
        return ""
    spelled = yaml.safe_dump(needed(number)).split()[0]
    return f" (YAML reads {spelled} as a number)"


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        ValueError: not a text, not JSON, or no object.
    """
    stated = parse_json(str(path), read_text(path))
    if not isinstance(stated, dict):
        raise ValueError(f"{path}: holds {type(stated).__name__}; a JSON object is needed")
    return stated


def parse_json(place: str, text: str) -> Any:
    """Parse a text of JSON; ValueError, which names its place, for another one."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: no JSON: {one_line(error):.300}") from error
