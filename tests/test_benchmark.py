"""The benchmark: ratios by thought, on a clock of our own; its parts on small maps; the command."""

import json
import time

import pytest
import torch

import benchmarks.inference
import benchmarks.training
import benchmarks.units
import benchmarks.warping
from benchmarks.__main__ import main
from benchmarks.bench import PARTS, bench
from benchmarks.measuring import Case, Count, Goal, Row, rows_of
from benchmarks.results import markdown, plot


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on only when it is told to."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def works(*seconds: float):
        """A run that takes these seconds, one after the other, again and again; two rounds warm it up."""
        calls = iter(range(10**6))

        def run() -> None:
            now[0] += seconds[next(calls) % len(seconds)]

        return run

    return works


def test_a_ratio_is_that_of_each_round(clock):
    """Theirs takes twice as long; when all is ten times slower, the ratio stays."""
    case = Case("by thought", {"ours": clock(1, 10), "theirs": clock(2, 20)}, [Goal("ours", "theirs", 0.5)])
    (row,) = rows_of(case, [1], rounds=6)
    assert (row.ratio, row.low, row.high, row.threads, row.unit) == (0.5, 0.5, 0.5, 1, "ms")
    assert (row.figure, row.beside) == (5500, 11000)
    assert row.verdict == "reached"


def test_short_work_is_repeated_and_told_for_one(clock):
    case = Case("short", {"ours": clock(0.001), "theirs": clock(0.002)}, [Goal("ours", "theirs")])
    (row,) = rows_of(case, [1], rounds=3)
    assert row.figure == pytest.approx(1)
    assert row.ratio == pytest.approx(0.5)
    assert row.verdict == ""


def test_threads_are_set_and_given_back(clock):
    seen = []
    case = Case("threads", {"ours": lambda: seen.append(torch.get_num_threads()) or clock(1)()}, [Goal("ours", "ours")])
    before = torch.get_num_threads()
    rows = [*rows_of(case, [1, 2], rounds=2)]
    assert [row.threads for row in rows] == [1, 2]
    assert set(seen) == {1, 2}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("low", "high", "goal", "verdict"),
    [(0.4, 0.5, 0.5, "reached"), (0.4, 0.6, 0.5, "within noise"), (0.55, 0.6, 0.5, "missed"), (9.0, 9.0, None, "")],
)
def test_what_is_said_of_a_goal(low, high, goal, verdict):
    assert Row("case", 1, "ms", "ours", "timm", 1.0, 1.0, (low + high) / 2, low, high, goal).verdict == verdict


def test_what_is_counted_does_not_depend_on_threads():
    (row,) = rows_of(Count("kept", "bytes", {"ours": 1e6, "timm": 4e6}, [Goal("ours", "timm", 0.3)]), [1, 2], 5)
    assert (row.ratio, row.threads, row.verdict) == (0.25, None, "reached")
    text = markdown({"part": [row]}, {"Processor": "one"})
    assert "| kept |  | ours, 1.0 MB | timm, 4.0 MB | 0.250 |  | 0.30 | reached |" in text
    assert "- Goals: 1 reached, 0 within noise, 0 missed" in text


def test_a_plot_of_nothing_with_a_goal_is_empty():
    assert not plot({"part": []}).axes


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_every_part_runs(part, monkeypatch):
    """On small maps, one round; it is their code that is tested, not their figures."""
    for room in (benchmarks.units, benchmarks.training):
        monkeypatch.setattr(room, "STAGES", ((128, 8),))
    monkeypatch.setattr(benchmarks.warping, "SHAPES", ((4, 1, 8), (2, 64, 8)))
    for room in (benchmarks.training, benchmarks.inference):
        monkeypatch.setattr(room, "IMAGE", 64)
    (found,) = bench([part], [1], 2)
    assert found[part]
    assert all(row.ratio > 0 for row in found[part])
    assert bool(plot(found).axes) == (part != "kernels")  # which have no goals


def test_what_was_found_is_told_after_each_part():
    told = [[*found] for found in bench(["watching", "watching"], [1], 2)]
    assert told == [["watching"], ["watching"]]


def test_the_command_writes_three_files(tmp_path, capsys):
    main(["watching", "--rounds", "2", "--threads", "1", "--output", f"{tmp_path}/b"])
    assert capsys.readouterr().out.split()[-3:] == [f"{tmp_path}/b{end}" for end in (".md", ".json", ".png")]
    held = json.loads((tmp_path / "b.json").read_text())
    assert held["parts"]["watching"][0]["ours"] == "watched before"
    assert "Memory" in held["about"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(["unit"], "part 'unit'"), (["--rounds", "1"], "rounds=1"), (["--threads", "999"], "threads=999")],
)
def test_main_refuses_a_mistake(arguments, text, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert text in capsys.readouterr().err.splitlines()[-1]
