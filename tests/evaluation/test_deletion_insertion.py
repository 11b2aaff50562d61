"""Deletion and insertion curves of an output that is a known mean of pixels."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from foveal.evaluation.deletion_insertion import (
    NAMES,
    STEPS,
    DeletionInsertionResult,
    blurred,
    curve_areas,
    deletion_insertion_results,
    removal_order,
)
from foveal.evaluation.metrics import Interval

SIDE = 20


def bright_row() -> torch.Tensor:
    """Two rows of 20 at 1, a tenth of the pixels, and so much as the mean colour; 0 elsewhere: two images."""
    images = torch.zeros(2, 1, SIDE, SIDE)
    images[0, 0, 3:5] = 1
    images[1, 0, 11:13] = 1
    return images


def of_rows(images: torch.Tensor) -> torch.Tensor:
    """Mean over the bright rows: an output of known pixels."""
    return torch.stack([images[0, 0, 3:5].mean(), images[1, 0, 11:13].mean()])


def test_curve_areas_of_a_right_and_a_wrong_map():
    images = bright_row()
    right, wrong = images[:, 0], 1 - images[:, 0]
    deletion, insertion = curve_areas(of_rows, images, [right, wrong])
    # whole image 1, mean colour 0.1; the first of ten steps takes all that counts, or the last does
    torch.testing.assert_close(deletion[0], torch.full((2,), ((1 + 0.1) / 2 + 9 * 0.1) / 10))
    torch.testing.assert_close(deletion[1], torch.full((2,), (9 * 1 + (1 + 0.1) / 2) / 10))
    start = torch.tensor(gaussian_filter(images[:, 0].numpy(), 2.5, mode="mirror", truncate=2, axes=(1, 2)))[:, None]
    torch.testing.assert_close(insertion[0], ((of_rows(start) + 1) / 2 + 9) / 10)
    torch.testing.assert_close(insertion[1], (9 * of_rows(start) + (of_rows(start) + 1) / 2) / 10)


def test_curve_areas_of_a_uniform_map_follow_a_line():
    """Every tenth of the pixels then holds about a tenth of those that count: the answer falls on a line.

    To three standard errors of the mean turn of 40 pixels, 0.9 / sqrt(12 * 40); row by row it would be 0.28 and 0.64.
    """
    images = bright_row()
    deletion, _ = curve_areas(of_rows, images, [torch.ones(2, 5, 5)])
    torch.testing.assert_close(deletion[0], torch.full((2,), (1 + 0.1) / 2), atol=0.123, rtol=0)


def test_curve_areas_runs_as_many_passes_as_it_states():
    batch_sizes = []

    def counted(images):
        batch_sizes.append(len(images))
        return images.mean((1, 2, 3))

    curve_areas(counted, torch.rand(4, 3, 8, 8), [torch.rand(4, 2, 2)] * 3)
    assert batch_sizes == [4] * (3 + 2 * (STEPS - 1) * 3)


def test_removal_order_sorts_by_weight_and_mixes_ties():
    maps = torch.tensor([[[0.1, 0.9], [0.5, 0.3]]])
    found = removal_order(maps, (8, 8))
    assert found.flatten().sort().values.tolist() == list(range(64))
    quarters = [found[0, y : y + 4, x : x + 4].flatten() for y, x in ((0, 4), (4, 0), (4, 4), (0, 0))]
    assert [set(each.tolist()) for each in quarters] == [set(range(start, start + 16)) for start in (0, 16, 32, 48)]
    assert quarters[0].tolist() != sorted(quarters[0].tolist())  # no corner of a cell comes first
    region = torch.zeros(1, 8, 8)
    region[:, 2:6, 2:6] = 1
    flat, ones = removal_order(torch.zeros(1, 8, 8), (8, 8)), removal_order(region, (8, 8))
    assert ones[region.bool()].max() == 15
    assert torch.equal(flat[region.bool()].argsort(), ones[region.bool()].argsort())


def test_blurred_agrees_with_scipy():
    images = torch.rand(2, 3, 16, 24)
    theirs = gaussian_filter(images.numpy(), 2, mode="mirror", truncate=2, axes=(2, 3))
    torch.testing.assert_close(blurred(images), torch.tensor(theirs))
    torch.testing.assert_close(blurred(torch.ones(1, 1, 2, 2)), torch.ones(1, 1, 2, 2))  # too small to blur


@pytest.mark.parametrize(("name", "sign"), [*zip(NAMES, (-1, 1), strict=True)])
def test_deletion_insertion_result_prefers_small_deletion_and_large_insertion(name, sign):
    def curve(mean: float) -> DeletionInsertionResult:
        difference = Interval(sign * mean, sign * mean - 0.01, sign * mean + 0.01)
        return DeletionInsertionResult("here", name, Interval(0.5, 0.4, 0.6), difference, difference)

    assert curve(0.1).beats_both
    assert not curve(-0.1).beats_both
    assert not curve(0.005).beats_both  # its interval holds 0


def test_deletion_insertion_results_pair_differences():
    found = torch.zeros(2, 3, 50)
    found[:, 0] = torch.rand(50)
    found[:, 1] = found[:, 0] + 0.25
    deletion, insertion = deletion_insertion_results("here", found)
    assert (deletion.vs_center_baseline.mean, deletion.vs_center_baseline.high) == pytest.approx(
        (-0.25, -0.25), abs=1e-5
    )
    assert (deletion.curve, insertion.curve) == ("deletion", "insertion")
