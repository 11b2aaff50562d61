"""Every part of the benchmark runs, on small maps."""

import pytest

import benchmarks.inference
import benchmarks.training
import benchmarks.units
import benchmarks.warping
from benchmarks.bench import PARTS, bench
from benchmarks.results import plot


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_bench_runs_every_part(part, monkeypatch):
    """Run on small maps for one round: the code is tested, not the figures."""
    for room in (benchmarks.units, benchmarks.training):
        monkeypatch.setattr(room, "STAGES", ((128, 8),))
    monkeypatch.setattr(benchmarks.warping, "SHAPES", ((4, 1, 8), (2, 64, 8)))
    for room in (benchmarks.training, benchmarks.inference):
        monkeypatch.setattr(room, "IMAGE", 32)
        monkeypatch.setattr(room, "BATCH", 2)
    (found,) = bench([part], [1], 2)
    assert found[part]
    assert all(row.ratio > 0 for row in found[part])
    assert bool(plot(found).axes) == (part != "kernels")  # which have no goals


def test_bench_yields_results_after_each_part():
    parts = [[*found] for found in bench(["watching", "watching"], [1], 2)]
    assert parts == [["watching"], ["watching"]]
