"""Masks of polygons and run lengths, against counts by hand and pycocotools."""

import numpy as np
import pytest

from foveal.data.rasterize import check_runs, decompress_runs, polygon_mask, polygons_mask, runs_mask


def test_polygon_mask_holds_the_pixels_whose_centre_is_inside():
    triangle = polygon_mask(np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]), (5, 5))
    assert triangle.sum(1).tolist() == [3, 2, 1, 0, 0]  # centres on the long side, as (3.5, 0.5), are on its far end
    half = polygon_mask(np.array([[0.6, 0.6], [3.4, 0.6], [3.4, 2.4], [0.6, 2.4]]), (4, 4))
    assert np.argwhere(half).tolist() == [[1, 1], [1, 2]]
    whole = polygon_mask(np.array([[-0.5, -0.5], [4.5, -0.5], [4.5, 4.5], [-0.5, 4.5]]), (4, 4))
    assert whole.all()


def test_polygons_mask_is_a_union_and_a_polygon_has_holes_by_the_even_odd_rule():
    first, second = (np.array([[x, 0.0], [x + 2, 0.0], [x + 2, 2.0], [x, 2.0]]) for x in (0, 1))
    assert polygons_mask([first, second], (2, 4)).sum() == 6
    outline = [[0, 0], [6, 0], [6, 6], [0, 6], [0, 0], [2, 2], [2, 4], [4, 4], [4, 2], [2, 2]]
    assert polygon_mask(np.array(outline, dtype=float), (6, 6)).sum() == 32


def test_polygon_mask_of_many_points_is_that_of_a_circle():
    angles = np.linspace(0, 2 * np.pi, 5000, endpoint=False)
    circle = polygon_mask(50 + 40 * np.stack([np.cos(angles), np.sin(angles)], 1), (100, 100))
    y, x = np.mgrid[:100, :100] + 0.5 - 50
    assert np.array_equal(circle, x**2 + y**2 < 40**2)


def test_runs_go_down_the_columns():
    assert runs_mask([1, 2, 3], (2, 3)).tolist() == [[False, True, False], [True, False, False]]


def test_decompress_runs_of_known_texts():
    """Numbers below 16 are one character from '0' on; from the fourth on, the difference to the one before the last."""
    assert decompress_runs("123") == [1, 2, 3]
    assert decompress_runs("1230") == [1, 2, 3, 2]
    assert decompress_runs("Q1") == [33]  # Q is 1 with a sixth bit that continues it: 1 + 32
    with pytest.raises(ValueError, match="none of COCO's"):
        decompress_runs("QQQQQQQQ")


def test_masks_equal_those_of_pycocotools():
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    random = np.random.default_rng(0)
    for _ in range(100):
        size = tuple(random.integers(1, 60, 2).tolist())
        mask = random.random(size) < random.random()
        counts = decompress_runs(coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode())
        check_runs(counts, size)
        assert np.array_equal(runs_mask(counts, size), mask)
        points = random.random((3, 2)) * 50
        theirs = coco.decode(coco.merge(coco.frPyObjects([points.ravel().tolist()], 50, 50))).astype(bool)
        edge = np.abs(np.diff(points, axis=0, append=points[:1])).sum()
        assert (polygon_mask(points, (50, 50)) != theirs).sum() <= edge / 4  # pixels that an edge crosses
