"""Experiments of papers: their descriptions, what was kept of them, and a run of one."""

import json
import re
import runpy
import sys
from math import nan
from pathlib import Path

import pytest
from comparisons import TINY_EXPERIMENT

from foveal.comparison import experiments
from foveal.comparison.contenders import by_name
from foveal.comparison.experiments import Entry, list_experiments, parse_experiment, read_kept
from foveal.comparison.figures import FIGURES, Figure
from foveal.comparison.reproduce import plan_experiment, reproduce
from foveal.comparison.stored_contenders import check_contenders
from foveal.reports.reproduction import entry_lines, reproduction_lines, reproduction_table

ROOT = Path(__file__).parents[2]
# Jaderberg et al., 2015, Table 1: error in per cent without a transformer, and with one of the family stated here
TABLE_1 = {
    "stn-r": (1.2, 0.7),
    "stn-rts": (0.8, 0.5),
    "stn-p": (1.5, 0.8),
    "stn-e": (1.4, 1.1),
    "stn-fcn-r": (2.1, 1.2),
    "stn-fcn-rts": (5.2, 0.8),
    "stn-fcn-p": (3.1, 1.4),
    "stn-fcn-e": (3.2, 2.4),
    "stn-paper-r": (1.2, 0.7),
}
TINY = TINY_EXPERIMENT + "  - {name: files of the gated, contender: se, figure: files, paper: 7}\n"


@pytest.mark.parametrize("name", list_experiments())
def test_descriptions_can_be_run(name):
    described = list_experiments()[name]
    whole, quick = described.config(), described.config(quick=True)
    assert whole.seeds >= 3
    assert (quick.epochs * quick.seeds, quick.seeds) < (whole.epochs * whole.seeds, whole.seeds + 1)
    assert by_name(described.contenders)
    models = {name: whole.backbone if name == "none" else f"{whole.backbone}+{name}" for name in described.contenders}
    assert check_contenders(Path(name), models, whole.backbone)
    assert len({entry.name for entry in described.entries}) == len(described.entries)
    assert {entry.figure for entry in described.entries} <= set(FIGURES)
    assert described.changes


def test_the_papers_figures_are_those_of_the_papers():
    stated = {name: tuple(entry.paper for entry in list_experiments()[name].entries) for name in TABLE_1}
    assert stated == TABLE_1


FEWER = {1: "Of the three seeds, one is kept.", 2: "Of the three seeds, two are kept."}


@pytest.mark.parametrize("name", list_experiments())
def test_kept_figures_are_of_the_described_seeds(name):
    described, kept = list_experiments()[name], read_kept(name)
    if kept is None:
        assert {line[3] for line in entry_lines(described, {})} == {"not run"}
        return
    config = described.config()
    seeds = list(range(config.seed, config.seed + config.seeds))
    count = len(next(iter(kept.values.values())))
    assert count == config.seeds or FEWER[count] in described.changes
    assert {entry: list(own) for entry, own in kept.values.items()} == {
        e.name: seeds[:count] for e in described.entries
    }
    assert set(described.contenders) <= set(kept.minutes)
    assert set(kept.verdicts) == set(described.contenders[1:])
    stated = json.loads((ROOT / f"foveal/comparison/experiments/{name}.json").read_text())
    assert (stated["experiment"], stated["quick"]) == (name, False)


def test_the_page_is_up_to_date(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["reproductions.py", "--check"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "docs/reproductions.py"), run_name="__main__")
    assert not ended.value.code


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="unknown experiment 'stn-rtz'; did you mean 'stn-rts'"):
        reproduce("stn-rtz")


def test_a_description_with_an_unknown_field_is_refused():
    with pytest.raises(TypeError, match="figures"):
        parse_experiment("tiny", TINY.replace("figure:", "figures:"))


def count_files(run):
    return {"files": float(len(list(run.glob("*.csv")))), "folders": 0.0}


@pytest.fixture
def tiny(monkeypatch, jobs_here):
    described = parse_experiment("tiny", TINY)
    monkeypatch.setattr(experiments, "list_experiments", lambda: {"tiny": described})
    monkeypatch.setitem(FIGURES, "files", Figure("", count_files))
    return described


@pytest.mark.slow
def test_an_experiment_is_a_comparison_with_figures_by_seed(tiny, tmp_path):
    """Compare with the errors that the runs state, and with the files that a run folder holds."""
    result = reproduce("tiny", output=tmp_path / "run")
    rows = {row.name: row for row in result.comparison.rows}
    assert list(rows) == ["none", "se"]
    assert result.values["plain"] == rows["none"].errors
    assert result.values["gated"] == rows["se"].errors
    assert list(result.values["plain"]) == [0, 1]
    count = len(list((tmp_path / "run/se-0").glob("*.csv")))
    assert count > 0
    assert result.values["files of the gated"] == {0: count / 2, 1: count / 2}  # the mean over two places
    assert (tmp_path / "run/se-count-files.png").is_file()
    _, plain, gated, files = reproduction_table(result)
    mean = sum(rows["none"].errors.values()) / 2
    assert plain[:4] == ["plain", "error, %", "0.80", f"{mean:.2f}"]
    assert plain[5] == f"{mean - 0.8:+.2f}"
    assert (gated[2], gated[5]) == ("", "")
    assert files[1] == "files"
    assert reproduction_lines(result)[-1] == "differs from the paper: The digits are few."
    stated = json.loads((tmp_path / "run/reproduction.json").read_text())
    assert stated["values"]["plain"] == {str(seed): pytest.approx(each) for seed, each in rows["none"].errors.items()}
    assert list(stated["minutes"]) == ["none", "se"]
    assert all(0 < minutes < 1 for minutes in stated["processor_minutes"].values())
    assert any("accuracy lost" in line for line in stated["scores"]["se"])


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_figure_that_fails_is_stated(tiny, tmp_path, monkeypatch):
    def broken(run):
        raise ValueError(f"{run.name} is empty")

    monkeypatch.setitem(FIGURES, "files", Figure("", broken))
    result = reproduce("tiny", quick=True, output=tmp_path / "run")
    assert result.failed == {"files of the gated": "ValueError: se-0 is empty"}
    assert reproduction_table(result)[3][3] == "not run"
    assert "files of the gated: failed, ValueError: se-0 is empty" in reproduction_lines(result)


def test_entries_without_a_figure_of_the_paper_have_no_difference(tiny):
    line = entry_lines(tiny, {"gated": {0: 1.0, 1: 3.0}}, {"se": 2.0}, {"se": 1.0})[1]
    assert line[:4] == ["gated", "error, %", "", "2.00"]
    assert line[5:] == ["", "2.0 (1.0)"]
    assert Entry("a", "none").figure == "error"


def test_a_dry_run_trains_no_encoder(tmp_path):
    described = list_experiments()["co-localization-translated"]
    message = rf"dry_run=True: the plan needs the encoder in '{re.escape(str(tmp_path))}/run-encoder', which is not"
    with pytest.raises(ValueError, match=message):
        plan_experiment(described, False, None, tmp_path / "run", dry_run=True)
    assert not list(tmp_path.iterdir())


def test_a_path_that_no_name_of_a_network_can_hold_is_refused_before_the_encoder_is_trained(tmp_path):
    described = list_experiments()["co-localization-translated"]
    with pytest.raises(ValueError, match=r"a\+b': the path of an experiment with an encoder must not hold"):
        plan_experiment(described, False, None, tmp_path / "a+b")
    assert not list(tmp_path.iterdir())


def test_an_interval_of_undefined_values_is_not_said_to_be_of_one_seed(tiny):
    shown = [entry_lines(tiny, {"gated": values}, {})[1][4] for values in ({0: 1.0}, {0: nan, 1: 2.0})]
    assert shown == ["one seed", "none"]
