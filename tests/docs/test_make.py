"""Pages that scripts make: of the mechanisms, from their docstrings, and of the experiments."""

import runpy
import sys
from pathlib import Path

import pytest

import foveal
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


@pytest.mark.parametrize("script", ["make.py", "reproductions.py"])
def test_a_foveal_of_another_checkout_is_refused(monkeypatch, tmp_path, script):
    monkeypatch.setattr(foveal, "__file__", str(tmp_path / "foveal/__init__.py"))
    monkeypatch.setattr(sys, "argv", [script])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(DOCS / script), run_name="__main__")
    assert f"docs/{script}: Python imports foveal from {tmp_path.resolve() / 'foveal'}, not" in ended.value.code
