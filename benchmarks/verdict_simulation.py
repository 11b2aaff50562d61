"""Simulated comparisons, and rules that say which of their contenders have a verdict: ours and those of others."""

from collections.abc import Callable
from functools import cache, partial
from math import sqrt

import numpy as np
from scipy import special, stats

from foveal.comparison.twin_rule import (
    DRAWS,
    SEED,
    Array,
    critical_value,
    estimate,
    null_maxima,
    residual_variances,
    unstable_arms,
)
from foveal.comparison.verdicts import LEVEL

CONTENDERS, SEEDS = (1, 2, 4, 5, 6), (3, 4, 5, 10)
SHIFT, OFTEN = 10.0, 0.1  # a diverged run: its error rises by 10 standard deviations, in one run of ten

Rule = Callable[[Array], Array]  # errors (draws, 2 + m, n), twin and baseline first, to what has a verdict (draws, m)


def statistics(errors: Array, baselines: int, **settings) -> Array:
    """Compute |T| of the twin rule or of rule B, which leaves the twin out."""
    found = estimate(errors[:, 2 - baselines :], baselines, **settings)
    return np.abs(found.difference) / np.sqrt(found.variance / errors.shape[-1])


def by_floored_variances(errors: Array, baselines: int, **settings) -> Array:
    """Judge by the twin rule or by rule B."""
    contenders, seeds = errors.shape[1] - 2, errors.shape[2]
    maxima = null_maxima(contenders, seeds, baselines)
    return statistics(errors, baselines, **settings) > critical_value(maxima, LEVEL)


def without_unstable(errors: Array, baselines: int) -> Array:
    """Judge by the twin rule or by rule B what is left after unstable arms are taken away."""
    unstable = np.zeros(errors.shape[:2], bool)
    unstable[:, 2 - baselines :] = unstable_arms(errors[:, 2 - baselines :])
    found = np.zeros((len(errors), errors.shape[1] - 2), bool)
    for out in np.unique(unstable, axis=0):
        if out[:2].any() or out[2:].all():
            continue
        draws = np.flatnonzero((unstable == out).all(1))
        found[np.ix_(draws, ~out[2:])] = by_floored_variances(errors[draws][:, ~out], baselines)
    return found


def dunnett_statistics(errors: Array) -> Array:
    """Compute |T| with the pooled variance of two-way residuals and one baseline."""
    errors = errors[:, 1:]
    means = errors.mean(-1)
    pooled = residual_variances(errors).mean(-1, keepdims=True)
    return np.abs(means[:, 1:] - means[:, :1]) / np.sqrt(2 * pooled / errors.shape[-1])


@cache
def dunnett_critical(contenders: int, seeds: int) -> float:
    """Simulate the critical value of Dunnett's test in blocks."""
    drawn = np.random.default_rng(SEED).standard_normal((DRAWS, contenders + 2, seeds))
    return critical_value(np.sort(dunnett_statistics(drawn).max(-1)), LEVEL)


def dunnett(errors: Array) -> Array:
    """Judge by Dunnett's test in blocks."""
    return dunnett_statistics(errors) > dunnett_critical(errors.shape[1] - 2, errors.shape[2])


def t_and_holm(errors: Array) -> Array:
    """Judge by paired t tests with Holm's correction, one baseline."""
    differences = errors[:, 2:] - errors[:, 1:2]
    seeds, contenders = errors.shape[2], differences.shape[1]
    with np.errstate(divide="ignore"):
        t = np.abs(differences.mean(-1)) / (differences.std(-1, ddof=1) / sqrt(seeds))
    order = np.argsort(-t, axis=1)
    steps = stats.t.isf(LEVEL / 2 / np.arange(contenders, 0, -1), seeds - 1)
    passed = np.logical_and.accumulate(np.take_along_axis(t, order, 1) > steps, axis=1)
    found = np.empty_like(passed)
    np.put_along_axis(found, order, passed, 1)
    return found


RULES: dict[str, tuple[Rule, Rule]] = {  # and what each rule does where runs diverge
    "t + Holm": (t_and_holm, t_and_holm),
    "Dunnett, pooled": (dunnett, dunnett),
    "rule B": (partial(by_floored_variances, baselines=1), partial(without_unstable, baselines=1)),
    "twin rule": (partial(by_floored_variances, baselines=2), partial(without_unstable, baselines=2)),
}


class Noise:
    """Noise of mean 0 and standard deviation 1 for the largest design, in several kinds."""

    def __init__(self, draws: int):
        rng = np.random.default_rng(SEED + 1)  # not the numbers of the critical values
        shape = draws, 2 + max(CONTENDERS), max(SEEDS)
        self.normal = rng.standard_normal(shape)
        share = special.ndtr(self.normal)
        self.skewed = -np.log1p(-share) - 1  # exponential
        self.heavy = special.stdtrit(3.0, share) / sqrt(3)  # Student's t with 3 degrees of freedom
        self.diverged = rng.random(shape) < OFTEN

    def scaled(self, arms: slice, factor: float) -> Array:
        """Multiply the normal noise of some arms."""
        errors = self.normal.copy()
        errors[:, arms] *= factor
        return errors

    def one_diverging(self) -> Array:
        """Let the runs of the first contender diverge, with the same mean as all others."""
        errors = self.normal.copy()
        errors[:, 2] += SHIFT * (self.diverged[:, 2] - OFTEN)
        return errors

    def moved(self, difference: float) -> Array:
        """Move the first contender."""
        errors = self.normal.copy()
        errors[:, 2] -= difference
        return errors
