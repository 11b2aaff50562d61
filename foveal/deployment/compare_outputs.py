"""How far the outputs of a rewritten model are from those of the original."""

from collections.abc import Iterable

from torch import Tensor


def largest_difference(expected: Iterable[Tensor], given: Iterable[Tensor]) -> float:
    """Largest absolute difference between paired tensors, relative to the largest magnitude in the expected one.

    Infinity where a difference is not finite.
    """
    worst = 0.0
    for wanted, own in zip(expected, given, strict=True):
        off = (own - wanted).abs().max() / wanted.abs().max().clamp(min=1e-12)
        worst = max(worst, float(off.nan_to_num(nan=float("inf"))))
    return worst
