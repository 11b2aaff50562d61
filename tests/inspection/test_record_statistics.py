"""Statistics of Records over many batches."""

import gc
import resource

import pytest
import torch
from helpers import vary_weights, watch_once
from timm import layers
from torch import nn

import foveal
from foveal.inspection.record_statistics import BINS

CHANNELS = 16


def test_watch_statistics_are_those_of_all_images():
    model = nn.Sequential(
        vary_weights(layers.SEModule(CHANNELS)), vary_weights(layers.cbam.CbamModule(CHANNELS)).spatial
    )
    images = torch.randn(11, CHANNELS, 5, 7)
    seen, _ = watch_once(model, images)
    with foveal.watch(model, keep="statistics") as kept, torch.no_grad():
        for batch in images.split(4):
            model(batch)
    assert kept.paths() == seen.paths()
    for path, dims in (("0", (1,)), ("1", (1, 2))):
        values, found = seen[path].values, kept[path]
        assert found.count == 11
        for moments, each in ((found.across_images, values), (found.within_image, None)):
            if each is None:
                expected = [values.mean(dims), values.var(dims, correction=0), values.amin(dims), values.amax(dims)]
                expected = [value.mean(0) for value in expected]
            else:
                expected = [values.mean(0), values.var(0, correction=0), values.amin(0), values.amax(0)]
            statistics = [moments.mean, moments.variance, moments.smallest, moments.largest]
            torch.testing.assert_close([value.float() for value in statistics], expected)
        assert found.histogram.sum() == values.numel()
        for q in (0.1, 0.5, 0.9):
            assert abs(found.quantile(q) - values.flatten().quantile(q, interpolation="nearest")) < 2 / BINS
    assert "gate (16,) of 11 images" in repr(kept)


def test_watch_statistics_leave_out_a_failed_pass():
    model = nn.Sequential(layers.SEModule(CHANNELS), nn.Conv2d(CHANNELS, 4, 3)).eval()
    with foveal.watch(model, keep="statistics") as seen:
        model(torch.rand(2, CHANNELS, 5, 5))
        with pytest.raises(RuntimeError):
            model(torch.rand(3, CHANNELS, 2, 2))
    assert seen["0"].count == 2


def test_watch_statistics_of_a_long_loader_take_constant_memory():
    model, images = (
        nn.Sequential(layers.SEModule(64), layers.cbam.CbamModule(64).spatial).eval(),
        torch.rand(100, 64, 8, 8),
    )
    with foveal.watch(model, keep="statistics") as seen, torch.no_grad():
        model(images)
        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(99):
            model(images)
    assert seen["0"].count == 10_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB
