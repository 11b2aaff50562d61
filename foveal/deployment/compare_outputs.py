"""Difference between the outputs of a rewritten model and those of the original."""

from collections.abc import Iterable

from torch import Tensor


def largest_difference(expected: Iterable[Tensor], actual: Iterable[Tensor]) -> float:
    """Compute the largest absolute difference of paired tensors, relative to the largest magnitude of the expected one.

    Return infinity if a difference is not finite.
    """
    worst = 0.0
    for reference, own in zip(expected, actual, strict=True):
        off = (own - reference).abs().max() / reference.abs().max().clamp(min=1e-12)
        worst = max(worst, float(off.nan_to_num(nan=float("inf"))))
    return worst
