"""Ratios and repetitions on a simulated clock; verdicts on goals."""

import time

import pytest
import torch

from benchmarks.measuring import Case, Count, Goal, Row, rows_of
from benchmarks.results import markdown


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock with a simulated one."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def works(*seconds: float):
        """Function whose calls take these seconds in turn, after two rounds of warm-up."""
        calls = iter(range(10**6))

        def run() -> None:
            now[0] += seconds[next(calls) % len(seconds)]

        return run

    return works


def test_rows_of_takes_the_ratio_of_each_round(clock):
    """Keep the ratio 1/2 also in rounds that are ten times slower."""
    case = Case("by thought", {"ours": clock(1, 10), "theirs": clock(2, 20)}, [Goal("ours", "theirs", 0.5)])
    (row,) = rows_of(case, [1], rounds=6)
    assert (row.ratio, row.low, row.high, row.threads, row.unit) == (0.5, 0.5, 0.5, 1, "ms")
    assert (row.figure, row.beside) == (5500, 11000)
    assert row.verdict == "reached"


def test_rows_of_repeats_short_work_and_reports_one_call(clock):
    case = Case("short", {"ours": clock(0.001), "theirs": clock(0.002)}, [Goal("ours", "theirs")])
    (row,) = rows_of(case, [1], rounds=3)
    assert row.figure == pytest.approx(1)
    assert row.ratio == pytest.approx(0.5)
    assert row.verdict == ""


def test_rows_of_sets_and_restores_threads(clock):
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
def test_row_verdict_compares_the_interval_with_the_goal(low, high, goal, verdict):
    assert Row("case", 1, "ms", "ours", "timm", 1.0, 1.0, (low + high) / 2, low, high, goal).verdict == verdict


def test_rows_of_counts_once_for_all_thread_numbers():
    (row,) = rows_of(Count("kept", "bytes", {"ours": 1e6, "timm": 4e6}, [Goal("ours", "timm", 0.3)]), [1, 2], 5)
    assert (row.ratio, row.threads, row.verdict) == (0.25, None, "reached")
    text = markdown({"part": [row]}, {"Processor": "one"})
    assert "| kept |  | ours, 1.0 MB | timm, 4.0 MB | 0.250 |  | 0.30 | reached |" in text
    assert "- Goals: 1 reached, 0 within noise, 0 missed" in text
