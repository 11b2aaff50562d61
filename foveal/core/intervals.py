"""Intervals of a mean over few values."""

import statistics
from collections.abc import Sequence
from math import nan, sqrt

OUTSIDE = 0.025  # probability beyond each end


def student_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Compute a mean and the ends of its 95 % interval by Student's t, of one degree of freedom less than values.

    The ends are NaN for one value; all three are, where a value is NaN.
    """
    from scipy.stats import t

    mean = statistics.fmean(values)
    spread = sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1)) if len(values) > 1 else nan
    half = float(t.isf(OUTSIDE, len(values) - 1)) * spread / sqrt(len(values))
    return mean, mean - half, mean + half
