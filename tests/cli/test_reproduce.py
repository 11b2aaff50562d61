"""The command `reproduce`."""

import pytest
from comparisons import TINY_EXPERIMENT

from foveal.comparison import experiments
from foveal.comparison.experiments import list_experiments, parse_experiment


def test_experiments_are_listed_with_the_papers_figures(run_command):
    code, out, _ = run_command("reproduce")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert [line[0] for line in lines if line[0] in list_experiments()] == list(list_experiments())
    assert ["stn-rts", "CNN", "error,", "%", "0.80"] in [line[:5] for line in lines]


def test_an_unknown_experiment_is_refused(run_command):
    assert run_command("reproduce", "stn-rtz")[::2] == (
        2,
        "foveal: unknown experiment 'stn-rtz'; did you mean 'stn-rts'?\n",
    )


@pytest.mark.slow
def test_a_quick_run_says_so(monkeypatch, run_command, jobs_here):
    monkeypatch.setattr(experiments, "list_experiments", lambda: {"tiny": parse_experiment("tiny", TINY_EXPERIMENT)})
    code, out, err = run_command("reproduce", "tiny", "--quick")
    assert code == 0, err
    assert out.startswith("Two networks on digits (nobody, 2000)\n")
    said = "quick: digits, epochs: 1, seeds: 1, instead of digits, epochs: 2, seeds: 2; the figures are worse"
    assert said in " ".join(out.split())
    assert out.splitlines()[-1] == "runs/tiny-quick/report.html"

    code, out, err = run_command("reproduce", "tiny", "--dry-run")
    assert code == 0, err
    assert "digits, epochs: 2, seeds: 2; in runs/tiny\n" in out
