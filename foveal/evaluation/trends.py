"""Trends of the papers' analyses over the depth of a network, as figures with intervals over trained copies.

Share of variance between classes (eta squared) of the gates s_nc of image n and channel c, with n_k images of class k:

    sum_c sum_k n_k (mean_kc - mean_c)^2 / sum_c sum_n (s_nc - mean_c)^2

Channels are added before the division, so a channel counts by its variance, and a constant one does not count. Gates
that do not depend on the class have an expected share of (K - 1) / (N - 1) of N images and K classes, not of 0.

Interval over S trained networks: mean -+ t sd / sqrt(S), with the 97.5 % quantile t of Student's t of S - 1 degrees of
freedom.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import nan
from statistics import fmean

from torch import Tensor

from foveal.core.intervals import student_interval
from foveal.evaluation.metrics import Interval
from foveal.inspection.drawing.paper_figures import draw_trend
from foveal.inspection.drawing.picture import Picture

CONSTANT = 1e-6  # standard deviation of a gate, in float32, below which only rounding is seen


def share_between(counts: Tensor, means: Tensor, deviations: Tensor) -> float:
    """Compute the share of variance between classes from the figures of K classes; NaN if all gates are constant.

    Args:
        counts: Number of images of each class, (K,).
        means: Means of each class and channel, (K, C); not read for a class without images.
        deviations: Standard deviations within each class, (K, C), with divisor n_k.
    """
    present = counts > 0
    weights = counts[present, None].double() / counts.sum()  # (K, 1)
    mean = means[present].double()
    between = (weights * (mean - (weights * mean).sum(0)).square()).sum(0)  # (C,)
    total = between + (weights * deviations[present].double().square()).sum(0)
    varies = total > CONSTANT**2
    return (between[varies].sum() / total[varies].sum()).item() if varies.any() else nan


@dataclass(frozen=True)
class Trend:
    """A figure of each place of a network, in S trained copies.

    Attributes:
        name: What the figure is, for the axis of the drawing.
        values: By place, in the order of the network: S figures, in the same order of copies.
        reference: The figure's expected value where there is no dependence.
    """

    name: str
    values: dict[str, tuple[float, ...]]
    reference: float = 0.0

    def intervals(self) -> dict[str, Interval]:
        """Compute, by place, the mean over the copies and its 95 % interval."""
        return {path: Interval(*student_interval(values)) for path, values in self.values.items()}

    def rise(self, places: int = 1) -> Interval:
        """Compute the mean of the last places minus that of the first ones, with its 95 % interval over the copies.

        Args:
            places: Number of places at each end, at most half of all.

        Raises:
            ValueError: If there are fewer than twice as many places.
        """
        if not 1 <= places <= len(self.values) / 2:
            raise ValueError(f"places={places}: there are {len(self.values)}, {', '.join(self.values)}")
        ordered = list(self.values.values())
        first, last = (zip(*part, strict=True) for part in (ordered[:places], ordered[-places:]))
        return Interval(*student_interval([fmean(end) - fmean(start) for start, end in zip(first, last, strict=True)]))

    def draw(self) -> Picture:
        """Draw the figure by depth: a point for each copy, and the mean with its interval."""
        intervals = self.intervals()
        lines = {path: (each.mean, each.low, each.high) for path, each in intervals.items()}
        described = "; ".join(f"{path} {each}" for path, each in intervals.items())
        return Picture(draw_trend(self.name, self.values, lines, self.reference), f"{self.name} by depth: {described}")


def trend_of(name: str, runs: Sequence[Mapping[str, float]], reference: float = 0.0) -> Trend:
    """Collect a figure by place of several trained copies of one network.

    Args:
        name: What the figure is.
        runs: The figures of each copy by place.
        reference: The figure's expected value where there is no dependence.

    Raises:
        ValueError: If there are no runs, or their places differ.
    """
    if not runs:
        raise ValueError("runs: the list is empty; the figures of one trained network are needed at least")
    for one, other in pairwise(runs):
        if list(one) != list(other):
            raise ValueError(f"runs: places {', '.join(one)} in one, and {', '.join(other)} in another")
    return Trend(name, {path: tuple(run[path] for run in runs) for path in runs[0]}, reference)
