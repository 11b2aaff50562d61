"""Differences from the baseline over few seeds: floored variances, critical values by simulation, unstable arms.

Errors are arrays (..., k arms, n seeds); the leading dimensions are independent comparisons. The first arms are the
baseline, trained once or twice for each seed; the other m are contenders. Seeds are blocks: what a seed shifts in all
arms alike cancels. With the two-way residuals r_ij = x_ij - mean of arm i - mean of seed j + grand mean,

    q_i = sum over seeds of r_ij^2 / (n - 1) * k / (k - 1)              variance of arm i, unbiased if all are equal
    q_0 = mean of q over the arms of the baseline
    p   = mean of q without the largest of q_0 and the q_i; q_0 has the weight of its arms       the pool

    baseline twice (twin rule):   v_0 = max(p, q_0) / 2,         v_i = max(p, lambda(0.5) q_i)
    baseline once (rule B):       v_0 = max(p, lambda(0.4) q_0), v_i = max(p, 0.7 q_i)
    T_i = |d_i| / sqrt((v_0 + v_i) / n)

d_i is the mean error of the baseline minus that of the contender, and lambda(a) = (n - 1) / (a-quantile of chi-squared
with n - 1 degrees of freedom). An arm of small spread is thus judged by the pool of all arms, and an arm of large
spread by its own. The pool has many degrees of freedom, so its test has far more power than one by each arm's own
spread. The critical value is the quantile of max T_i over m contenders under equal normal noise, by simulation.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DRAWS = 80_000
SEED = 1  # of the simulation: the same draws in each process
CHUNK = 1_000_000  # numbers drawn at a time
OUT_OF_LINE = 5.0  # ratio of an unstable arm's standard deviation to that of the other arms, at least
BY_CHANCE = 0.001  # probability of one or more unstable arms under equal normal noise, about


@dataclass(frozen=True)
class Estimates:
    """Differences from the baseline and their variances, for one comparison or many."""

    difference: Array  # (..., m) d_i, positive where the contender is better
    variance: Array  # (..., m) v_0 + v_i, of a difference in one seed
    plain: Array  # (..., m) the same without lambda: closer to the true variance, for plans but not for verdicts
    pool: Array  # (...) p, the variance of one run of the baseline


def residual_variances(errors: Array) -> Array:
    """Compute q (..., k), the variance of each arm from its two-way residuals."""
    arms, seeds = errors.shape[-2:]
    residuals = errors - errors.mean(-1, keepdims=True)
    residuals = residuals - residuals.mean(-2, keepdims=True)
    return (residuals**2).sum(-1) / (seeds - 1) * arms / (arms - 1)


def estimate(errors: Array, baselines: int, weights: Array | float = 1.0, floor: float = 0.0) -> Estimates:
    """Estimate differences and variances by the twin rule or, with one baseline, by rule B.

    Args:
        errors: (..., k, n), the baseline's arms first.
        baselines: Arms of the baseline: 1 or 2.
        weights: (..., k) Variance of each arm that its error rate suggests, relative to that of the baseline. The q are
            divided by it before they are pooled, and the variances multiplied by it after.
        floor: Smallest variance of an arm.
    """
    weights = np.broadcast_to(weights, errors.shape[:-1])
    seeds = errors.shape[-1]
    q = residual_variances(errors) / weights
    base, own = q[..., :baselines].mean(-1, keepdims=True), q[..., baselines:]
    pool = pool_without_largest(base, own, baselines)

    def total(of_base: float, of_own: float) -> Array:
        first = np.maximum(np.maximum(pool, of_base * base) * weights[..., :1], floor) / baselines
        return first + np.maximum(np.maximum(pool, of_own * own) * weights[..., baselines:], floor)

    variance = total(1.0, inflation(0.5, seeds)) if baselines == 2 else total(inflation(0.4, seeds), 0.7)
    means = errors.mean(-1)
    difference = means[..., :baselines].mean(-1, keepdims=True) - means[..., baselines:]
    return Estimates(difference, variance, total(1.0, 1.0), np.maximum(pool[..., 0], floor))


def rate_weights(errors: Array, baselines: int, images: int) -> Array:
    """Compute e (1 - e) of the error rate e of each arm (..., k), relative to that of the baseline.

    Args:
        errors: (..., k, n) In per cent, the baseline's arms first.
        baselines: Arms of the baseline.
        images: Test images; a rate is at least half an image from 0 and 1.
    """
    rates = errors.mean(-1) / 100
    rates[..., :baselines] = rates[..., :baselines].mean(-1, keepdims=True)
    rates = np.clip(rates, 0.5 / images, 1 - 0.5 / images)
    return rates * (1 - rates) / (rates * (1 - rates))[..., :1]


def pool_without_largest(base: Array, own: Array, weight: int) -> Array:
    """Average q_0 (..., 1), with its weight, and the q_i (..., m), without the largest of them."""
    total, largest = own.sum(-1, keepdims=True), own.max(-1, keepdims=True)
    contenders = own.shape[-1]
    without_own = (weight * base + total - largest) / (weight + contenders - 1)
    return np.where(base > largest, total / contenders, without_own)


@cache
def inflation(quantile: float, seeds: int) -> float:
    """Compute lambda: the ratio of a variance to the given quantile of its estimate from n seeds."""
    from scipy.stats import chi2

    return float((seeds - 1) / chi2.ppf(quantile, seeds - 1))


@cache
def null_maxima(contenders: int, seeds: int, baselines: int) -> Array:
    """Simulate max T_i (80,000,) without any difference, under equal normal noise, in ascending order."""
    rng = np.random.default_rng(SEED)
    shape = contenders + baselines, seeds
    size = max(1, CHUNK // (shape[0] * shape[1]))
    drawn = []
    for begin in range(0, DRAWS, size):
        found = estimate(rng.standard_normal((min(size, DRAWS - begin), *shape)), baselines)
        drawn.append((np.abs(found.difference) / np.sqrt(found.variance / seeds)).max(-1))
    maxima = np.sort(np.concatenate(drawn))
    maxima.flags.writeable = False  # it is shared
    return maxima


def critical_value(maxima: Array, level: float) -> float:
    """Return the value above which the adjusted p is at most `level`."""
    return float(maxima[-int(level * (len(maxima) + 1))])


def adjusted_p(statistics: Any, maxima: Array) -> Array:
    """Compute the share of simulated maxima that reach each statistic, with the statistic itself counted as one."""
    reached = len(maxima) - np.searchsorted(maxima, statistics, side="left")
    return (reached + 1) / (len(maxima) + 1)


def unstable_arms(errors: Array, weights: Array | float = 1.0, floor: float = 0.0) -> NDArray[np.bool_]:
    """Find the arms (..., k) whose spread over seeds is far out of line with that of the others.

    Arms are taken away one by one, that of the largest q first, fewer than half of them. Under equal normal noise the
    ratio of its q to the mean q of the a - 1 others, computed without it, has the F distribution with n - 1 and
    (n - 1) (a - 2) degrees of freedom. If the ratio is at least 25, five times the standard deviation, and its p times
    a at most 0.001, then this arm and all that were taken away before it are unstable. (Two unstable arms hide each
    other if each is compared with all the others: Rosner, 1983.) Of two arms, neither is.

    Args:
        errors, weights, floor: As for `estimate`.
    """
    weights = np.broadcast_to(weights, errors.shape[:-1])
    left, unstable = np.ones(errors.shape[:-1], bool), np.zeros(errors.shape[:-1], bool)
    q = residual_variances(errors) / weights
    for arms in range(errors.shape[-2], errors.shape[-2] // 2 + 1, -1):
        top = np.where(left, q, -1).argmax(-1)[..., None]
        largest = np.take_along_axis(q, top, -1)[..., 0]
        np.put_along_axis(left, top, False, -1)
        q = masked_variances(errors, left) / weights
        ratio = largest / np.maximum((q * left).sum(-1) / (arms - 1), floor)
        unstable |= (ratio >= smallest_ratio(arms, errors.shape[-1]))[..., None] & ~left
    return unstable


@cache
def smallest_ratio(arms: int, seeds: int) -> float:
    """Compute the smallest ratio of an unstable arm's variance to that of the others."""
    from scipy.stats import f

    return max(OUT_OF_LINE**2, float(f.isf(BY_CHANCE / arms, seeds - 1, (seeds - 1) * (arms - 2))))


def masked_variances(errors: Array, use: NDArray[np.bool_]) -> Array:
    """Compute q from the arms of the mask alone; the values of the other arms mean nothing."""
    arms = use.sum(-1, keepdims=True)
    residuals = errors - errors.mean(-1, keepdims=True)
    residuals = residuals - (residuals * use[..., None]).sum(-2, keepdims=True) / arms[..., None]
    return (residuals**2).sum(-1) / (errors.shape[-1] - 1) * arms / (arms - 1)
