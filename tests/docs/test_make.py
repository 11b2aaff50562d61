"""Pages of the mechanisms, made from their docstrings."""

import subprocess
import sys
from pathlib import Path

import pytest

from foveal.mechanisms.registry import MECHANISMS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
def test_docs_pages_are_up_to_date():
    done = subprocess.run([sys.executable, DOCS / "make.py", "--check"], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr


def test_docs_pages_are_complete():
    for name in MECHANISMS:
        text = (DOCS / "mechanisms" / f"{name}.md").read_text()
        parts = ["Formula", "Departures", "What is recorded", "Use", "Citation", "Cost"]
        assert [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")] == parts
        assert (DOCS / "mechanisms" / f"{name}.png").is_file()
