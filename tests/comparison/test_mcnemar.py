"""McNemar's exact test."""

import pytest
from scipy import stats

from foveal.comparison.mcnemar import mcnemar


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (7, 1), (5, 5), (2, 11), (300, 250)])
def test_mcnemar_is_the_binomial_test_on_discordant_images(gained, lost):
    base = [True] * 20 + [False] * 10 + [False] * gained + [True] * lost
    other = [True] * 20 + [False] * 10 + [True] * gained + [False] * lost
    found = mcnemar(base, other)
    assert (found.gained, found.lost) == (gained, lost)
    tail = 2 * stats.binom.cdf(min(gained, lost), gained + lost, 0.5)
    assert found.p == pytest.approx(min(1, tail), abs=1e-12)


def test_mcnemar_refuses_different_images():
    with pytest.raises(ValueError, match="baseline has 2 images, contender 3"):
        mcnemar([True, False], [True, False, True])
