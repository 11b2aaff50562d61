"""Names from users are text: neither mathematics in a chart, nor cells of a table, nor formulas of a spreadsheet."""

import csv
import re

import pytest
import torch
from comparisons import make_comparison
from rich.console import Console

import foveal
from foveal.cli import console
from foveal.core.answers import Answers
from foveal.core.record import Record
from foveal.reports.charts import accuracy_against_cost, learning_curves, paired_differences
from foveal.reports.tables import write_tables
from foveal.training.predictions import predicted_right, write_predictions

NAMES = ("$x_{", "a|b", "=1+1", "[red]", "<b>", r"\frac")


@pytest.fixture
def compared(tmp_path):
    return make_comparison(tmp_path, {"none": [2.0, 2.5, 2.2], **{name: [1.0, 1.5, 1.3] for name in NAMES}})


def test_charts_show_names_as_they_are(compared):
    for chart in (
        accuracy_against_cost(compared),
        paired_differences(compared),
        learning_curves(compared, "training loss"),
    ):
        assert chart.svg().startswith(b"<?xml")
        assert "$x_{" in {text.get_text() for text in chart.figure.findobj(lambda each: hasattr(each, "get_text"))}


def test_write_tables_keeps_the_cells_apart(compared):
    write_tables(compared)
    folder = compared.plan.folder
    lines = [line for line in (folder / "results.md").read_text().splitlines() if line]
    counts = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    assert counts == [9] * 2 * (2 + 1 + len(NAMES))
    assert any(r"a\|b" in line for line in lines)
    with (folder / "results.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert "'=1+1" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_predictions_hold_no_formulas_and_are_read_again(tmp_path):
    names, answers = ["=A1.png", "@b.png"], Answers(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), 2)
    write_predictions(tmp_path, names, torch.tensor([0, 1]), ("-minus", "+plus"), answers)
    rows = (tmp_path / "predictions.csv").read_text().splitlines()
    assert rows[1].startswith("'=A1.png,'-minus,'-minus,0.731")
    assert rows[2].startswith("'@b.png,'+plus,'-minus,")
    assert predicted_right(tmp_path) == {"'=A1.png": True, "'@b.png": False}


def test_draw_shows_predictions_and_places_as_they_are(tmp_path):
    record = Record(
        path="$place_{", mechanism="se", kind="gate", domain="channel", axes="B C", value_range=(0.0, 1.0),
        values=torch.rand(1, 8), forward=0, call=0,
    )  # fmt: skip
    picture = foveal.draw([record], torch.rand(1, 3, 8, 8), ["$cat_{"])
    assert picture.save(tmp_path / "seen.png").is_file()


def test_print_table_prints_brackets(capsys, monkeypatch):
    monkeypatch.setattr(console, "console", Console(width=140))
    console.print_table(["name"], [["[red]x[/red]"], ["[/]"]])
    out = capsys.readouterr().out
    assert "[red]x[/red]" in out
    assert "[/]" in out


def test_print_table_folds_a_long_name(capsys, monkeypatch):
    monkeypatch.setattr(console, "console", Console(width=50))
    console.print_table(["class", "images"], [["z" * 80, "12"]])
    out = capsys.readouterr().out
    assert out.count("z") == 80
    assert "12" in out


def test_print_table_on_a_narrow_terminal_keeps_names_whole_and_loses_nothing(capsys, monkeypatch):
    monkeypatch.setattr(console, "console", Console(width=50))
    console.print_table(["experiment", "what it is"], [["co-localization-cluttered", "z" * 60]])
    out = capsys.readouterr().out
    assert "co-localization-cluttered" in out
    assert {"what", "it", "is"} <= set(out.split())
    assert out.count("z") == 60 + 1  # one in the name
