"""Every part of the benchmark runs, on small maps and networks."""

import pytest
import timm
import torch

import benchmarks.inference
import benchmarks.measuring
import benchmarks.training
import benchmarks.units
import benchmarks.warping
import foveal
from benchmarks.bench import PARTS, bench
from benchmarks.results import plot

SMALL = {"resnet18+se": ("legacy_seresnet18", "resnet18"), "resnet18+sk": ("skresnet18", "resnet18")}


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("part", PARTS)
def test_bench_runs_every_part(part, monkeypatch):
    """Run on small maps and networks, each contender a few times: the code is tested, not the figures."""
    monkeypatch.setattr(benchmarks.measuring, "WARM_UP", 1)
    monkeypatch.setattr(benchmarks.measuring, "LEAST", 0.0)
    for room in (benchmarks.units, benchmarks.training):
        monkeypatch.setattr(room, "STAGES", ((128, 8),))
    monkeypatch.setattr(benchmarks.warping, "SHAPES", ((4, 1, 8), (2, 64, 8)))
    for room in (benchmarks.training, benchmarks.inference):
        monkeypatch.setattr(room, "IMAGE", 32)
        monkeypatch.setattr(room, "BATCH", 2)
        goals = [what[2:] for what in room.NETWORKS.values()]
        small = {name: (*names, *more) for (name, names), more in zip(SMALL.items(), goals, strict=True)}
        monkeypatch.setattr(room, "NETWORKS", small)
        if part in ("deployed", "training"):  # the other parts have both formats
            monkeypatch.setattr(room, "LAYOUTS", {"channels last": torch.channels_last})
    (found,) = bench([part], [1], 2)
    assert found[part]
    assert all(row.ratio > 0 for row in found[part])
    assert bool(plot(found).axes) == (part != "kernels")  # which have no goals


@pytest.mark.parametrize("room", [benchmarks.training, benchmarks.inference])
def test_networks_of_the_benchmark_are_known(room):
    for name, (timms, plain, *_) in room.NETWORKS.items():
        with torch.device("meta"):
            foveal.create_model(name)
        assert timm.is_model(timms)
        assert timm.is_model(plain)


@pytest.mark.exhaustive
def test_bench_yields_results_after_each_part():
    parts = [[*found] for found in bench(["watching", "watching"], [1], 2)]
    assert parts == [["watching"], ["watching"]]
