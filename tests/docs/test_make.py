"""Pages of the mechanisms, made from their docstrings."""

import runpy
import sys
from pathlib import Path

import pytest

from foveal.mechanisms.registry import MECHANISMS

DOCS = Path(__file__).parents[2] / "docs"


def test_docs_pages_state_the_docstrings():
    assert runpy.run_path(str(DOCS / "make.py"))["stale"]() == []


@pytest.mark.slow
@pytest.mark.exhaustive
def test_catalogs_are_up_to_date(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["make.py", "--check"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(DOCS / "make.py"), run_name="__main__")
    assert ended.value.code == 0


def test_docs_pages_are_complete():
    for name in MECHANISMS:
        text = (DOCS / "mechanisms" / f"{name}.md").read_text()
        parts = ["Formula", "Departures", "What is recorded", "Use", "Citation", "Cost"]
        assert [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")] == parts
        assert (DOCS / "mechanisms" / f"{name}.png").is_file()
