"""McNemar's exact test on the test images of one seed."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class McNemar:
    """McNemar's exact test (1947) on the test images of one seed.

    It compares two trained networks, not the two methods: another seed gives two other networks. It is not used for the
    verdict.
    """

    gained: int  # images that only the contender classifies correctly
    lost: int  # images that only the baseline classifies correctly
    p: float


def mcnemar(baseline: Sequence[bool], contender: Sequence[bool]) -> McNemar:
    """Test whether two trained networks classify equally many of the same images correctly.

    Under the null hypothesis, each image on which they differ is gained or lost with probability 1/2; p is the binomial
    probability of a split at least as uneven as the observed one.

    Args:
        baseline: One entry for each image: True if the baseline is correct.
        contender: The same for the contender, with the images in the same order.

    Raises:
        ValueError: If the lengths differ.

    Examples:
        >>> from foveal.comparison.mcnemar import mcnemar
        >>> mcnemar([True, False, False, False], [True, True, True, True])
        McNemar(gained=3, lost=0, p=0.25)
    """
    from scipy.stats import binomtest

    if len(baseline) != len(contender):
        raise ValueError(f"baseline has {len(baseline)} images, contender {len(contender)}: must be the same images")
    pairs = [(bool(old), bool(new)) for old, new in zip(baseline, contender, strict=True)]
    gained, lost = pairs.count((False, True)), pairs.count((True, False))
    return McNemar(gained, lost, float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0)
