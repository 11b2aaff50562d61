"""Trends over depth and over trained networks, from gates and selections whose figures are known by thought."""

from collections import OrderedDict
from math import isnan, log2

import pytest
import torch
from torch import nn

import foveal
from foveal.core.intervals import student_interval
from foveal.core.record import Facts, Tap
from foveal.evaluation.paper_analyses import Excitation, SelectionBySize
from foveal.evaluation.trends import share_between, trend_of


class Gates(nn.Module):
    """Record the pixels of images (B, C, 1, 1) as gates."""

    def __init__(self):
        super().__init__()
        facts = Facts(mechanism="test", kind="gate", domain="channel", axes="B C", value_range=(0, 1))
        self.tap = Tap(facts)

    def forward(self, x):
        return self.tap(x.mean((2, 3)))


def excitation(gates, labels, classes):
    """Gates (N, C) of images with labels."""
    images = torch.tensor(gates)[:, :, None, None]
    return foveal.excitation_by_class(
        nn.Sequential(OrderedDict(place=Gates())), [(images, torch.tensor(labels))], classes
    )


SPREAD = [0.2, 0.4, 0.6, 0.8]  # of classes 0 0 1 1: means 0.3 and 0.7, variance 0.04 between and 0.01 within
ALIKE = [0.4, 0.6, 0.4, 0.6]  # equal means, variance 0.01 within
ONE = [1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("channels", "share"),
    [
        ([SPREAD], 0.8),
        ([ALIKE], 0.0),
        ([[0.2, 0.2, 0.9, 0.9]], 1.0),
        ([SPREAD, ALIKE], 0.04 / 0.06),  # variances are added, shares are not averaged
        ([SPREAD, ONE], 0.8),
    ],
)
def test_variance_between_is_the_share_of_the_summed_variance(channels, share):
    gates = [list(row) for row in zip(*channels, strict=True)]
    found = excitation(gates, [0, 0, 1, 1], ["a", "b", "absent"]).variance_between()
    assert list(found) == ["place"]
    assert found["place"] == pytest.approx(share, abs=1e-5)


def test_variance_between_weighs_classes_by_their_images():
    """Gates 0, 0, 0 of one class and 0.8 of another: mean 0.2, all variance between; then one 0 becomes 0.4."""
    assert excitation([[0.0], [0.0], [0.0], [0.8]], [0, 0, 0, 1], "ab").variance_between()["place"] == pytest.approx(1)
    found = excitation([[0.0], [0.0], [0.6], [1.0]], [0, 0, 0, 1], "ab")  # means 0.2, 1 and 0.4
    between = 3 * 0.2**2 + 0.6**2
    total = 2 * 0.4**2 + 0.2**2 + 0.6**2
    assert found.variance_between()["place"] == pytest.approx(between / total, abs=1e-5)


def test_variance_between_of_constant_gates_is_nan():
    assert isnan(excitation([[0.3], [0.3], [0.3]], [0, 1, 1], "ab").variance_between()["place"])


def test_variance_between_of_independent_gates_is_chance():
    """10 images of 3 classes of any sizes, 4,000 channels of noise: the share is near 2 / 9, not 0."""
    gates = torch.rand(10, 4000, generator=torch.Generator().manual_seed(0))
    found = excitation(gates.tolist(), [0, 0, 0, 0, 0, 1, 1, 1, 2, 2], "abc")
    assert found.chance() == pytest.approx(2 / 9)
    assert found.variance_between()["place"] == pytest.approx(2 / 9, abs=0.01)


def test_chance_counts_classes_with_images():
    assert excitation([[0.1], [0.2], [0.3], [0.4], [0.5]], [0, 0, 2, 2, 2], "abc").chance() == pytest.approx(1 / 4)


def test_share_between_does_not_read_classes_without_images():
    nan = float("nan")
    share = share_between(
        torch.tensor([2, 0, 2]), torch.tensor([[0.3], [nan], [0.7]]), torch.tensor([[0.1], [nan], [0.1]])
    )
    assert share == pytest.approx(0.8)


SCALES = (1.0, 1.5, 2.0)


def selection(**differences):
    """Shares of three branches with the given last minus first, at the scales."""
    shares = {}
    for path, values in differences.items():
        last = 0.4 + torch.tensor(values) / 2
        shares[path] = torch.stack([0.8 - last, torch.full_like(last, 0.2), last], 1)
    return SelectionBySize(SCALES, shares)


def test_slopes_are_per_octave():
    rising = [0.1 + 0.3 * log2(scale) for scale in SCALES]
    found = selection(early=rising, late=[0.2, 0.2, 0.2], bent=[0.0, 0.3, 0.0]).slopes()
    assert found["early"] == pytest.approx(0.3)
    assert found["late"] == pytest.approx(0, abs=1e-6)
    x = [0, log2(1.5), 1]
    mean = sum(x) / 3
    bent = (x[1] - mean) * 0.3 / sum((each - mean) ** 2 for each in x)  # least squares
    assert found["bent"] == pytest.approx(bent, abs=1e-6)


@pytest.mark.parametrize("scales", [(1.0,), (2.0, 2.0)])
def test_slopes_need_two_scales(scales):
    found = SelectionBySize(scales, {"place": torch.full((len(scales), 2), 0.5)})
    with pytest.raises(ValueError, match=r"scales=\(.*\): a slope needs two different ones at least"):
        found.slopes()


RUNS = [{"a": 0.1, "b": 0.2, "c": 0.6, "d": 0.6}, {"a": 0.1, "b": 0.4, "c": 0.5, "d": 0.9}]


def test_trend_of_runs_rises_by_the_paired_difference_of_its_ends():
    trend = trend_of("share", RUNS, reference=0.05)
    assert trend.values["d"] == (0.6, 0.9)
    assert trend.intervals()["b"].mean == pytest.approx(0.3)
    for places, differences in ((1, [0.5, 0.8]), (2, [0.45, 0.45])):
        found, expected = trend.rise(places), student_interval(differences)
        assert (found.mean, found.low, found.high) == pytest.approx(expected)


def test_trend_draws_each_network_its_mean_and_the_reference():
    picture = trend_of("share", RUNS, reference=0.05).draw()
    (axis,) = picture.figure.axes
    reference, means = axis.lines
    assert list(reference.get_ydata()) == [0.05, 0.05]
    assert list(means.get_ydata()) == pytest.approx([0.1, 0.3, 0.55, 0.75])
    points = [each.get_offsets()[:, 1].tolist() for each in axis.collections[:4]]
    assert points == [pytest.approx([run[path] for run in RUNS]) for path in "abcd"]
    (low, high) = axis.collections[4].get_segments()[3][:, 1]
    assert (low, high) == pytest.approx((0.75 - 12.706 * 0.15, 0.75 + 12.706 * 0.15), abs=1e-3)
    assert picture.alt_text.startswith("share by depth: a 0.100 [0.100, 0.100]; b 0.300")
    assert trend_of("one", RUNS[:1]).draw().png().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: trend_of("share", []), "runs: the list is empty"),
        (lambda: trend_of("share", [{"a": 1.0}, {"b": 1.0}]), "runs: places a in one, and b in another"),
        (lambda: trend_of("share", RUNS).rise(3), "places=3: there are 4, a, b, c, d"),
        (lambda: trend_of("share", RUNS).rise(0), "places=0"),
    ],
)
def test_trends_refuse_what_they_cannot_compute(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_trends_of_networks():
    images, labels = torch.rand(6, 1, 32, 32), torch.tensor([0, 1, 0, 1, 0, 1])
    gates = foveal.create_model("small_cnn+se", num_classes=2, in_chans=1).eval()
    found = foveal.excitation_by_class(gates, [(images, labels)], ["a", "b"])
    assert isinstance(found, Excitation)
    assert all(0 <= share <= 1 for share in found.variance_between().values())
    kernels = foveal.create_model("small_cnn+sk:groups=8", num_classes=2, in_chans=1).eval()
    slopes = foveal.selection_by_size(kernels, images).slopes()
    assert list(slopes) == ["features.0.conv", "features.2.conv", "features.3.conv"]
