"""Masks from polygons and from run lengths, as COCO stores them."""

from collections.abc import Sequence

import numpy as np

from foveal.data.annotated_objects import Size

EDGES = 256  # of a polygon in one pass, for memory
LONGEST = 6  # characters of one run: 30 bits
FIRST, LAST = 48, 111  # characters of run lengths, as numbers


def polygons_mask(polygons: Sequence[np.ndarray], size: Size) -> np.ndarray:
    """Draw the union of polygons, each of points (P, 2) in pixels x, y: bool (H, W), true at pixel centres inside."""
    mask = np.zeros(size, dtype=bool)
    for points in polygons:
        mask |= polygon_mask(points, size)
    return mask


def polygon_mask(points: np.ndarray, size: Size) -> np.ndarray:
    """Draw a polygon of points (P, 2) by the even-odd rule: bool (H, W), true at pixel centres inside."""
    height, width = size
    crossings = np.zeros((height, width + 1), dtype=np.int32)
    rows, ends = np.arange(height) + 0.5, np.roll(points, -1, 0)
    for first in range(0, len(points), EDGES):
        (x0, y0), (x1, y1) = points[first : first + EDGES].T, ends[first : first + EDGES].T
        edge, row = np.nonzero((y0[:, None] > rows) != (y1[:, None] > rows))
        x = x0[edge] + (rows[row] - y0[edge]) / (y1[edge] - y0[edge]) * (x1[edge] - x0[edge])
        column = np.ceil(x - 0.5).clip(0, width).astype(np.intp)  # the first pixel centre right of the crossing
        np.add.at(crossings, (row, column), 1)
    return crossings.cumsum(1)[:, :width] % 2 == 1


def runs_mask(counts: Sequence[int], size: Size) -> np.ndarray:
    """Draw run lengths, of pixels outside and inside in turn, column by column: bool (H, W)."""
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(size[1], size[0]).T


def check_runs(counts: Sequence[int], size: Size) -> None:
    """Refuse run lengths that do not fill an image."""
    if any(count < 0 for count in counts) or sum(counts) != size[0] * size[1]:
        raise ValueError(f"run lengths of {sum(counts):,} pixels; {size[0] * size[1]:,} are needed, none below 0")


def decompress_runs(text: str) -> list[int]:
    """Return the run lengths of a text of COCO's: each number in characters of five bits and one that continues it,
    from the fourth on as the difference to the number before the last.

    Raises:
        ValueError: a text that is none of such numbers.
    """
    counts: list[int] = []
    value = length = 0
    for code in map(ord, text):
        if not FIRST <= code <= LAST or length == LONGEST:
            raise ValueError(f"run lengths {text!r:.40} are none of COCO's")
        bits = code - FIRST
        value |= (bits & 31) << 5 * length
        length += 1
        if not bits & 32:
            value |= -1 << 5 * length if bits & 16 else 0
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = length = 0
    if length:
        raise ValueError(f"run lengths {text!r:.40} end within a number")
    return counts
