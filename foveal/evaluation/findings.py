"""Findings on the attention of a place, derived from its Records and Statistics.

A threshold is the smallest difference that could matter in practice, not a noise level: in a trained network, smaller
differences have no effect. `foveal.evaluation.finding_types` defines the types of findings.

Axes: as in `foveal.core.record`, and N images or crops.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from foveal.core.record import Record
from foveal.evaluation.finding_types import FINDING_TYPES, FindingType
from foveal.inspection.record_statistics import BINS, Statistics
from foveal.ops.geometry import IDENTITY
from foveal.ops.warps import grid_of, outline

ALIKE = 1e-3  # share of the range, a quarter of one step of an 8-bit image: smaller differences of weights are equal
ALIKE_SHARES = 1e-2  # the same for weights that sum to one, as a share of the mean weight
EDGE = 2 / BINS  # share of the range at either end; there a sigmoid's slope is below 0.008, and 0.25 in its middle
NEARLY = 0.95  # share of all weights that counts as nearly all
ONE_KEY = 0.98  # sum of squares of weights that sum to one: the largest weight is then at least 0.98
RARE = 0.01  # share of a selection: a branch with less could be removed
MOVED = 0.01  # share of half the image: below half a pixel up to 100 pixels, which interpolation hides
FLIPPED = 0.01  # share of the images: more than a single outlier
TINY = 1e-3  # share of the image's area, 1/32 of its side: one pixel of a 32-pixel image
OUTSIDE = 0.5  # share of the output: more padding than image
STEPS = 8  # points along the side of the grid on which transforms are compared


@dataclass(frozen=True)
class Finding:
    """A finding at one place."""

    path: str
    type: str  # a key of `FINDING_TYPES`
    figure: float | None = None
    note: str = ""

    @property
    def definition(self) -> FindingType:
        return FINDING_TYPES[self.type]

    @property
    def is_fault(self) -> bool:
        return self.definition.is_fault

    def __str__(self) -> str:
        figure = "" if self.figure is None else self.definition.figure_format.format(self.figure)
        details = ", ".join(each for each in (figure, self.note) if each)
        return f"{self.type}: {details}" if details else self.type


def findings_of(
    seen: Record | Statistics, path: str, *, untrained: bool = False, weighed: tuple[int, int] | None = None
) -> list[Finding]:
    """Compute the findings at a place.

    Args:
        seen: Statistics of gates, masks, selections and affinities; a Record of transforms, crops and glimpses.
        path: Path of the place.
        untrained: True if the mechanism is still at its initialization as the identity.
        weighed: Height and width of the feature map that a mask weights.
    """
    if isinstance(seen, Record):
        judged = judge_paths(seen, untrained) if seen.kind == "glimpse" else judge_transforms(seen, untrained)
    else:
        judged = judge_weights(seen, untrained, weighed)
    return [Finding(path, *each) for each in judged]


Judged = Iterator[tuple[str, float | None, str]]


def judge_weights(seen: Statistics, untrained: bool, weighed: tuple[int, int] | None) -> Judged:
    """Yield the findings on weights."""
    if not seen.across_images.mean.isfinite().all():
        yield "not finite", None, ""
    elif weighed is not None and collapsed_map(seen, weighed):
        yield "collapsed map", weighed[0] * weighed[1], ""
    elif untrained:
        yield "at birth", None, ""
    elif seen.kind == "selection":
        yield from judge_selection(seen)
        yield from judge_constant(seen)
    else:
        saturated = list(judge_saturation(seen))
        yield from saturated
        if not any(what in ("saturated open", "saturated closed") for what, _, _ in saturated):  # these imply the rest
            yield from judge_constant(seen)
            yield from judge_uniform(seen)


def collapsed_map(seen: Statistics, weighed: tuple[int, int]) -> bool:
    """Return True if a mask has one position although its feature map has several."""
    mask = seen.kind == "mask" and seen.axes.endswith("H W") and not seen.hard
    return mask and seen.across_images.mean.shape[-2:] == (1, 1) and weighed != (1, 1)


def summed(seen: Statistics) -> int:
    """Return the number of trailing dimensions over which the weights sum to one; 0 if they do not."""
    last = {"affinity": 2 if seen.axes.endswith("Y X") else 1, "mask": 2 if seen.axes == "B H W" else 0}
    dims = last.get(seen.kind, 0)
    if not dims or seen.value_range[0] < 0:
        return 0
    sums = seen.across_images.mean.flatten(-dims).sum(-1)
    return dims if sums.sub(1).abs().max() < ALIKE_SHARES else 0


def scale_and_limit(seen: Statistics) -> tuple[float, float]:
    """Return the unit of deviations, and the largest deviation in this unit that counts as none."""
    if summed(seen):
        return float(seen.across_images.mean.mean()), ALIKE_SHARES
    low, high = seen.value_range
    if high - low == float("inf"):
        low, high = float(seen.across_images.smallest.min()), float(seen.across_images.largest.max())
    return max(high - low, torch.finfo(torch.float32).tiny), ALIKE


def judge_constant(seen: Statistics) -> Judged:
    """Yield a finding if the weights do not depend on the image."""
    scale, limit = scale_and_limit(seen)
    deviation = float(seen.across_images.variance.max()) ** 0.5 / scale
    if seen.count > 1 and deviation <= limit:
        yield "constant", deviation, ""


def judge_uniform(seen: Statistics) -> Judged:
    """Yield a finding if all weights within an image are equal."""
    scale, limit = scale_and_limit(seen)
    deviation = float(seen.within_image.variance.max()) ** 0.5 / scale
    if seen.across_images.mean.numel() > seen.within_image.mean.numel() and deviation <= limit:
        yield "uniform", deviation, ""


def judge_saturation(seen: Statistics) -> Judged:
    """Yield a finding if nearly all weights are at the ends of their range, or on one key."""
    dims = summed(seen)
    if dims:
        squares = (seen.across_images.variance + seen.across_images.mean**2).flatten(-dims)
        largest = float(squares.sum(-1).mean())
        if squares.shape[-1] > 1 and largest >= ONE_KEY:
            yield "saturated on one key", largest, ""
    elif seen.histogram is not None:
        yield from judge_ends(seen)


def judge_ends(seen: Statistics) -> Judged:
    """Yield findings on the ends of the range, from the histogram.

    The end bins also count weights outside the range, from a learned strength; these are not saturated.
    """
    low, high = seen.value_range
    shares = seen.histogram / seen.histogram.sum() if seen.histogram is not None else torch.zeros(BINS)
    bins = round(EDGE * BINS)
    closed, opened = float(shares[:bins].sum()), float(shares[-bins:].sum())
    mean = (float(seen.across_images.mean.mean()) - low) / (high - low)
    far = EDGE * (high - low)
    within = (
        float(seen.across_images.smallest.min()) >= low - far and float(seen.across_images.largest.max()) <= high + far
    )
    if closed >= NEARLY and abs(mean) <= 1 - NEARLY:
        yield "saturated closed", closed, ""
    elif opened >= NEARLY and abs(mean - 1) <= 1 - NEARLY:
        yield "saturated open", opened, ""
    elif closed + opened >= NEARLY and within:
        yield "saturated at both ends", closed + opened, ""


def judge_selection(seen: Statistics) -> Judged:
    """Yield findings on a selection, with weights (K, C) of K branches."""
    chosen = seen.across_images.mean.mean(-1)  # (K,)
    for branch, share in enumerate(chosen.tolist()):
        if share >= 1 - RARE:
            yield "branch always chosen", share, f"branch {branch}"
        elif share <= RARE and float(chosen.max()) < 1 - RARE:  # otherwise "branch always chosen" implies it
            yield "branch never chosen", share, f"branch {branch}"
    even = 1 / len(chosen)
    off = max(float(seen.across_images.largest.max()) - even, even - float(seen.across_images.smallest.min()))
    if off <= ALIKE:
        yield "uniform", off, "between the branches"


def judge_transforms(seen: Record, untrained: bool) -> Judged:
    """Yield findings on transforms, one or several for each image."""
    several = seen.values.flatten(1, -3) if seen.axes == "B K 2 3" else seen.values[:, None]  # (B, K, ...)
    values = several.flatten(0, 1).float()  # (N, ...)
    if not values.isfinite().all():
        yield "not finite", None, ""
        return
    grid = grid_of(values, STEPS, STEPS)  # (N, STEPS, STEPS, 2)
    moved = float((grid - grid_of(values.new_tensor([IDENTITY]), STEPS, STEPS)).abs().max())
    if moved <= MOVED:
        yield ("at birth", None, "") if untrained else ("stuck at the identity", moved, "")
        return
    spread = float(grid.unflatten(0, several.shape[:2]).std(0, correction=0).max())
    if len(several) > 1 and spread <= MOVED:
        yield "constant", spread, ""
    area = signed_area(outline(values)) / 4  # share of the image's area
    for what, bad, most in (("flipped", area <= -TINY, FLIPPED), ("collapsed", area.abs() < TINY, FLIPPED)):
        share = float(bad.float().mean())
        if share > most:
            yield what, share, ""
    outside = float((grid.abs().amax(-1) > 1).float().mean())
    if outside > OUTSIDE:
        yield "outside the image", outside, ""


def signed_area(points: Tensor) -> Tensor:
    """Compute the signed areas (N,) of polygons (N, P, 2); positive if clockwise, since y points down."""
    x, y = points.unbind(-1)
    return (x * y.roll(-1, 1) - x.roll(-1, 1) * y).sum(1) / 2


def judge_paths(seen: Record, untrained: bool) -> Judged:
    """Yield findings on paths of glimpses (B, T, 2)."""
    path = seen.values.float()
    if not path.isfinite().all():
        yield "not finite", None, ""
        return
    moved = float((path - path[:, :1]).abs().max())
    if moved <= MOVED:
        yield ("at birth", None, "") if untrained else ("never moves", moved, "")
        return
    cornered = float((path[:, 1:].abs().amin(-1) >= 1 - MOVED).float().mean())
    if cornered >= NEARLY:
        yield "in a corner", cornered, ""
    spread = float(path.std(0, correction=0).max())
    if len(path) > 1 and spread <= MOVED:
        yield "constant", spread, ""
