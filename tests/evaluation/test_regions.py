"""Regions over the cells of a map: boxes by hand, unions against pixels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.evaluation.regions import region_of_all, region_of_each, singles, unions

SIZE = 12, 18
CORNERS = st.tuples(st.integers(0, 17), st.integers(0, 11), st.integers(1, 18), st.integers(1, 12))


def pixels(boxes):
    drawn = torch.zeros(SIZE)
    for x0, y0, x1, y1 in boxes:
        drawn[y0:y1, x0:x1] = 1
    return drawn


def test_coverage_of_a_half_covered_cell_is_a_half():
    (box,) = region_of_each(torch.tensor([[10.0, 0.0, 30.0, 20.0]]))
    cover = box.coverage((40, 80), (2, 4))  # cells of 20x20 pixels
    assert cover.tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0, 0]]
    assert box.holds((40, 80), (2, 4)).tolist() == [[True, True, False, False], [False] * 4]  # centres on its edges


def test_coverage_of_a_union_counts_a_pixel_once():
    boxes = torch.tensor([[0.0, 0.0, 6.0, 6.0], [3.0, 0.0, 9.0, 6.0]])
    assert region_of_all(boxes).coverage(SIZE, (1, 1)).item() == pytest.approx(9 * 6 / (12 * 18))
    half = torch.tensor([[0.0, 0.0, 1.5, 1.0], [1.0, 0.5, 2.0, 1.0]])  # between pixels too
    assert region_of_all(half).coverage((2, 2), (1, 1)).item() == pytest.approx((1.5 + 0.25) / 4)


@settings(deadline=None, max_examples=15, derandomize=True)
@given(st.lists(CORNERS.filter(lambda box: box[0] < box[2] and box[1] < box[3]), min_size=1, max_size=6))
def test_union_of_boxes_equals_that_of_their_pixels(boxes):
    drawn = pixels(boxes)
    masks = torch.stack([pixels([box]) for box in boxes]).bool()
    for union in (region_of_all(torch.tensor(boxes).float()), region_of_all(masks)):
        assert torch.allclose(union.coverage(SIZE, SIZE), drawn, atol=1e-6)
        means = drawn.unflatten(0, (3, 4)).unflatten(2, (3, 6)).mean((1, 3))  # cells of 4x6 pixels
        assert torch.allclose(union.coverage(SIZE, (3, 3)), means, atol=1e-5)
        assert torch.equal(union.holds(SIZE, SIZE), drawn.bool())


def test_targets_average_over_the_objects_of_an_image():
    box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    objects = [torch.zeros(0, 4), torch.cat([box, box + 4]), box]
    alone, together = singles(objects, SIZE), unions(objects, SIZE)
    assert (alone.owners.tolist(), together.owners.tolist()) == ([1, 1, 2], [1, 2])
    assert alone.average(torch.tensor([[1.0, 0.0, 5.0]])).tolist() == [[0.5, 5.0]]
    assert [part.owners.tolist() for part in alone.parts(2)] == [[1, 1], [2]]
    assert unions([torch.zeros(0, 4)], SIZE).average(torch.zeros(2, 0)).shape == (2, 0)
