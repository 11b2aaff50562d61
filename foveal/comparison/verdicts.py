"""Verdicts on contenders against a baseline that is trained with the same seeds.

The rules are in `foveal.comparison.twin_rule`; docs/verdicts.md explains them and holds simulated error rates. With the
difference d of a contender (percentage points of accuracy, positive is better), its variance v_0 + v_i, n seeds, and c,
the 95 % quantile of the largest statistic of all contenders, the interval is

    d -+ c sqrt((v_0 + v_i) / n)

All intervals together hold the true differences with a probability of 95 %, and p is adjusted for all contenders by the
same simulation: p is at most 0.05 if, and only if, the interval excludes 0. All seeds share one split of the data, so
the interval covers the noise of training, not that of the choice of images. With a split for each seed, 1 / n becomes
1 / n + test images / training images (Nadeau and Bengio, 2003), because the seeds' training images overlap.

    better, worse                    the interval excludes 0
    no difference, at most X         X, its end that is further from 0, is at most R
    cannot tell, needs about N seeds any other interval
    too few seeds                    fewer than three
    unstable                         an arm's runs diverged: no rule holds for it

R = 1.96 sqrt(2 p), with the variance p of one run, is the repeatability limit (ISO 5725): two trainings of the same
network differ by less in 19 of 20 cases. A difference that is at most as large as that between two copies of one
network is called none, and X states how large it can be. With N seeds, a true difference as large as the observed one
gives one of the first three verdicts with a probability of 0.8 or more:

    N = (v_0 + v_i) (c + 0.84)^2 / max(|d|, R - |d|)^2 + 2         (one split for all seeds; lambda is 1 in v)

Where error rates e differ, variances are taken in proportion to e (1 - e). Errors are multiples of one test image, so
equal results are no infinite evidence: no standard deviation is smaller than half an image, the largest one of a count
with two neighbouring values, and R is at least two images.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, sqrt
from statistics import NormalDist, fmean

import numpy as np

from foveal.comparison.twin_rule import (
    Array,
    adjusted_p,
    critical_value,
    estimate,
    null_maxima,
    rate_weights,
    residual_variances,
    unstable_arms,
)
from foveal.core.names import lookup

LEVEL = 0.05
POWER = 0.8
FEWEST = 3  # smallest number of seeds for a verdict
TOO_FEW = "too few seeds"
UNSTABLE = "unstable"
ROUNDING = 1e-9  # of an error in per cent

Errors = Mapping[int, float]  # by seed, in per cent


@dataclass(frozen=True)
class Verdict:
    """Verdict on a contender against the baseline; differences in percentage points, positive is better."""

    contender: str
    seeds: int
    mean: float
    ci_low: float  # of the interval; all intervals together have the level 0.95
    ci_high: float
    p: float  # adjusted for all contenders
    kind: str  # "better", "worse", "same", "open" (cannot tell), "few", "unstable"
    label: str
    limit: float = inf  # R: two trainings of the baseline differ by less in 19 of 20 cases
    seeds_needed: int | None = None  # N; None if there is a verdict, or no number of seeds is enough
    reason: str = ""  # why it is unstable


@dataclass(frozen=True)
class Design:
    """What all verdicts of a comparison share."""

    baselines: int  # runs of the baseline for each seed: 1 or 2
    images: int  # in the test part
    chance: float  # error of the best constant answer, in per cent
    overlap: float  # test images / training images if each seed has its own split, else 0
    level: float  # of the contenders with the same seeds

    @property
    def floor(self) -> float:
        """The smallest variance of an arm: its standard deviation is at least half a test image."""
        return (50 / self.images) ** 2


def compute_verdicts(
    errors: Mapping[str, Errors],
    baseline: str,
    twin: str | None = None,
    *,
    images: int,
    chance: float = inf,
    train_images: int | None = None,
    diverged: Mapping[str, int] | None = None,
) -> dict[str, Verdict]:
    """Compute the verdict on each contender that shares a seed with the baseline, in the given order.

    A contender is judged on the seeds that it shares with the baseline and its twin, together with all other arms that
    have these seeds. If some contenders lack a seed, those with the same seeds are judged at the level of 0.05 divided
    by the number of such groups, and p is multiplied by it, so that it still holds for all contenders together.

    Args:
        errors: Test error in per cent by arm and seed. A seed that failed is left out.
        baseline: The arm with which the others are compared.
        twin: The arm that is the baseline, trained a second time for each seed; None for a single baseline.
        images: Number of test images.
        chance: Error of the best constant answer, in per cent. A run with an error as large has learned nothing.
        train_images: Number of training images if each seed has its own split; None if all seeds share one.
        diverged: Arms of which the loss of a run was not finite, with its seed. They are unstable.

    Raises:
        ValueError: If the baseline or its twin is missing, an error is not a percentage, or there are no images.

    Examples:
        >>> from foveal.comparison.verdicts import compute_verdicts
        >>> errors = {"none": [6.5, 5.0, 6.4], "again": [6.3, 5.3, 6.1], "stn": [4.3, 3.7, 3.5], "se": [6.4, 5.1, 6.3]}
        >>> by_seed = {name: dict(enumerate(values)) for name, values in errors.items()}
        >>> [each.label for each in compute_verdicts(by_seed, "none", "again", images=1500).values()]
        ['better', 'no difference, at most 0.53 points']
    """
    first = [baseline] if twin is None else [baseline, twin]
    check(errors, first, images)
    common = set.intersection(*(set(errors[name]) for name in first))
    shared = {name: tuple(sorted(common & set(own))) for name, own in errors.items() if name not in first}
    shared = {name: seeds for name, seeds in shared.items() if seeds}
    lost = without_verdict(first, shared, diverged or {})
    judged_arms = {name: seeds for name, seeds in shared.items() if name not in lost}
    groups = list(dict.fromkeys(seeds for seeds in judged_arms.values() if len(seeds) >= FEWEST))
    overlap = images / train_images if train_images else 0.0
    design = Design(len(first), images, chance, overlap, LEVEL / max(1, len(groups)))
    found: dict[str, Verdict] = {}
    for seeds in groups:
        names = [*first, *(name for name, own in judged_arms.items() if set(seeds) <= set(own))]
        judged = judge({name: {seed: errors[name][seed] for seed in seeds} for name in names}, design)
        found |= {name: each for name, each in judged.items() if shared[name] == seeds}
    for name, seeds in shared.items():
        if name not in found:
            mean = fmean(fmean(errors[base][seed] for base in first) - errors[name][seed] for seed in seeds)
            kind, label = ("unstable", UNSTABLE) if name in lost else ("few", TOO_FEW)
            found[name] = unjudged(name, len(seeds), mean, kind, label, lost.get(name, ""))
    return {name: found[name] for name in shared}


def without_verdict(first: Sequence[str], contenders: Iterable[str], diverged: Mapping[str, int]) -> dict[str, str]:
    """Return the contenders that are not judged since the loss of a run, or one of the baseline's, was not finite."""
    reasons = {name: f"with seed {seed} its loss was not finite" for name, seed in diverged.items()}
    broken = next((f"{name}, the baseline, is unstable: {reasons[name]}" for name in first if name in reasons), "")
    return {name: broken or reasons[name] for name in contenders if broken or name in reasons}


def check(errors: Mapping[str, Errors], first: Sequence[str], images: int) -> None:
    """Check the arguments of `compute_verdicts`."""
    for name in first:
        lookup("arm", name, errors)
    if len(set(first)) < len(first):
        raise ValueError(f"twin={first[-1]!r} is the baseline itself; name the arm of its second training")
    if images < 1:
        raise ValueError(f"images={images}: must be 1 or more")
    for name, own in errors.items():
        wrong = next((seed for seed, value in own.items() if not 0 <= value <= 100), None)
        if wrong is not None:
            raise ValueError(f"errors of {name!r}, seed {wrong}: {own[wrong]} is no percentage, 0 to 100")


def unjudged(name: str, seeds: int, mean: float, kind: str, label: str, reason: str = "") -> Verdict:
    """Return a verdict that judges nothing."""
    return Verdict(name, seeds, mean, -inf, inf, 1.0, kind, label, reason=reason)


def judge(arms: Mapping[str, Errors], design: Design) -> dict[str, Verdict]:
    """Judge the contenders of arms with the same seeds, the baseline's arms first."""
    names = list(arms)
    errors = np.array([list(own.values()) for own in arms.values()])
    seeds = errors.shape[-1]
    unstable = find_unstable(arms, errors, design)
    first, contenders = names[: design.baselines], names[design.baselines :]
    means = dict(zip(names, errors.mean(-1).tolist(), strict=True))
    broken = next((f"{name}, the baseline, is unstable: {unstable[name]}" for name in first if name in unstable), "")
    stable = [name for name in contenders if name not in unstable and not broken]
    found = {
        name: unjudged(
            name, seeds, fmean(means[base] for base in first) - means[name], "unstable", UNSTABLE,
            unstable.get(name, broken),
        )
        for name in contenders
        if name not in stable
    }  # fmt: skip
    if stable:
        found |= judge_stable(stable, errors[[names.index(name) for name in [*first, *stable]]], design)
    return {name: found[name] for name in contenders}


def find_unstable(arms: Mapping[str, Errors], errors: Array, design: Design) -> dict[str, str]:
    """Find the arms whose runs diverged, with the reason."""
    reasons = {
        name: f"with seed {seed} it learned nothing: its error is {value:.2f} %, that of a constant answer "
        f"{design.chance:.2f} %"
        for name, own in arms.items()
        for seed, value in own.items()
        if value > design.chance - ROUNDING
    }
    left = [at for at, name in enumerate(arms) if name not in reasons]
    if len(left) < 2 or any(name in reasons for name in list(arms)[: design.baselines]):
        return reasons
    names = [list(arms)[at] for at in left]
    far = unstable_arms(errors[left], rate_weights(errors[left], design.baselines, design.images), design.floor)
    sound = errors[left][~far]
    usual = sqrt(residual_variances(sound).mean())
    own = (errors[left] - sound.mean(0)).std(-1, ddof=1)
    return reasons | {
        name: f"beside what the seeds share, its standard deviation is {spread:.2f} points, that of the others "
        f"{usual:.2f}"
        for name, out, spread in zip(names, far, own, strict=True)
        if out
    }


def judge_stable(names: Sequence[str], errors: Array, design: Design) -> dict[str, Verdict]:
    """Judge contenders of which none is unstable."""
    seeds = errors.shape[-1]
    found = estimate(errors, design.baselines, rate_weights(errors, design.baselines, design.images), design.floor)
    maxima = null_maxima(len(names), seeds, design.baselines)
    critical = critical_value(maxima, design.level)
    spreads = np.sqrt(found.variance * (1 / seeds + design.overlap))
    p = np.minimum(1, adjusted_p(np.abs(found.difference) / spreads, maxima) * LEVEL / design.level)
    limit = max(NormalDist().inv_cdf(1 - LEVEL / 2) * sqrt(2 * found.pool), 200 / design.images)
    verdicts = {}
    for at, name in enumerate(names):
        mean, half = float(found.difference[at]), critical * float(spreads[at])
        target = max(abs(mean), limit - abs(mean)) / (critical + NormalDist().inv_cdf(POWER))
        needed = seeds_needed(target**2 / float(found.plain[at]) - design.overlap, seeds)
        kind, label = words(mean - half, mean + half, limit, needed)
        if kind != "open":
            needed = None
        verdicts[name] = Verdict(name, seeds, mean, mean - half, mean + half, float(p[at]), kind, label, limit, needed)
    return verdicts


def seeds_needed(inverse: float, seeds: int) -> int | None:
    """Compute N, more than the present seeds, from 1 / (N - 2); None if no number of seeds is enough."""
    return max(ceil(1 / inverse + 2), seeds + 1) if inverse > 0 else None


def words(low: float, high: float, limit: float, needed: int | None) -> tuple[str, str]:
    """Return kind and label of an interval."""
    largest = max(-low, high)
    if low > 0 or high < 0:
        return ("better", "better") if low > 0 else ("worse", "worse")
    if largest <= limit:
        return "same", f"no difference, at most {rounded_up(largest)} points"
    return "open", f"cannot tell, needs {f'about {needed} seeds' if needed else 'more images'}"


def rounded_up(value: float) -> str:
    """Format a positive value rounded up to two decimals, or to two significant digits below 0.1."""
    digits = 2
    while value < 10 ** (1 - digits):
        digits += 1
    return f"{ceil(value * 10**digits - 1e-6) / 10**digits:.{digits}f}"
