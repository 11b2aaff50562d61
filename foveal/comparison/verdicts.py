"""Paired Student's t tests over seeds with Holm's correction: verdicts, intervals, smallest detectable differences.

For a contender and the baseline, trained with the same n seeds, d_i is the difference of seed i: the accuracy of the
contender minus that of the baseline, in percentage points, so positive is better. With their mean d and their sample
standard deviation s (n - 1 in the denominator)

    t = d / (s / sqrt(n)),   p = P(|T| >= |t|),   d -+ t_{0.975} s / sqrt(n)          T with n - 1 degrees of freedom

The p-values of m contenders, in ascending order, are adjusted by Holm's method (1979), so that the probability of one
or more false verdicts among them stays below 0.05 under any dependence:

    adjusted p_(i) = min(1, max over j <= i of (m - j + 1) p_(j))

**The verdict is "better" or "worse" if the adjusted p is below 0.05**, by the sign of the mean. Otherwise it is "no
difference larger than X was found": X is the larger absolute end of the interval, rounded up. The data exclude larger
differences, but not smaller ones.

Interval and verdict never contradict each other. If p is below 0.05 but the adjusted p is not, the 95 % interval
excludes 0 although there is no significant difference. Only in this case, the interval has the level
1 - 0.05 p / adjusted p (before the minimum with 1), which is wider and contains 0; `level` holds that level. Each
interval is therefore the 95 % interval or contains it, and covers the true difference at least as often; together they
are not simultaneous intervals.

The smallest detectable difference is the smallest true difference that would have been found with a probability (power)
of 0.8, given the observed s. It is the exact solution of P(|T'| > t_{1 - 0.05 / 2m}) = 0.8 with T' of the noncentral t
distribution with noncentrality delta sqrt(n) / s. The level is that of Holm's first step, so the power is not smaller
whatever the results of the other contenders.

Deviations from the textbook test are all conservative. Fewer than three seeds give no verdict. Nor do differences that
are all equal and not 0: their standard deviation is unknown, not 0, since accuracies are multiples of one image. (For a
contender that is equal to the baseline in every seed, the difference is 0, and this is a result.) In both cases the
label is "too few seeds to say", with an infinite interval and p = 1, and the contender still counts in m.

The t distribution with integer degrees of freedom is computed by the finite sums of Abramowitz and Stegun (1964),
26.7.3 and 26.7.4.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import atan, ceil, cos, exp, fsum, inf, isfinite, lgamma, log, pi, sin, sqrt, tan
from statistics import NormalDist, fmean

LEVEL = 0.05
POWER = 0.8
FEWEST = 3  # smallest number of seeds for a verdict
DECIMALS = 9  # decimals of a difference: finer than one image in any test part; the rest is rounding error
TOO_FEW = "too few seeds to say"
STEPS = 400  # steps of the integral over s; the error is below 1e-8


@dataclass(frozen=True)
class Verdict:
    """Test of a contender against the baseline over seeds; differences in percentage points, positive is better."""

    contender: str
    seeds: int
    mean: float
    ci_low: float  # of the interval
    ci_high: float
    level: float  # of the interval: 0.95, or more if significant before Holm's correction but not after it
    p: float  # unadjusted
    p_holm: float  # adjusted for all contenders by Holm's method
    min_detectable: float  # smallest difference that would have been found with a probability of 0.8
    label: str  # "better", "worse", "no difference larger than X was found", "too few seeds to say"

    @property
    def excluded(self) -> float:
        """X: the data exclude a larger difference in either direction."""
        return max(abs(self.ci_low), abs(self.ci_high))


def compute_verdicts(differences: Mapping[str, Sequence[float]]) -> dict[str, Verdict]:
    """Compute the verdict of each contender, in the given order.

    Args:
        differences: Contender to its differences from the baseline, one for each seed, in percentage points.

    Raises:
        ValueError: If a contender has no differences, or one that is not finite.

    Examples:
        >>> from foveal.comparison.verdicts import compute_verdicts
        >>> compute_verdicts({"se": [1.0, 1.2, 1.1], "cbam": [0.4, -0.3, 0.1]})["cbam"].label
        'no difference larger than 0.94 was found'
    """
    samples = {name: Sample.of(name, values) for name, values in differences.items()}
    p = {name: sample.p for name, sample in samples.items()}
    factors = holm(p)
    return {name: verdict(name, sample, p[name], factors[name], len(p)) for name, sample in samples.items()}


@dataclass(frozen=True)
class Sample:
    """Number, mean and standard deviation of the differences over seeds."""

    seeds: int
    mean: float
    spread: float  # s; infinite if unknown

    @classmethod
    def of(cls, name: str, values: Sequence[float]) -> "Sample":
        """Summarize the differences of one contender."""
        if len(values) == 0:
            raise ValueError(f"differences of {name!r}: the list is empty; one value for each seed is needed")
        wrong = next((value for value in values if not isfinite(value)), None)
        if wrong is not None:
            raise ValueError(f"differences of {name!r}: {wrong} is not a finite number")
        exact = [round(float(value), DECIMALS) for value in values]
        known = len(exact) >= FEWEST and (len(set(exact)) > 1 or exact[0] == 0)
        mean = fmean(exact)
        spread = sqrt(fsum((value - mean) ** 2 for value in exact) / (len(exact) - 1)) if known else inf
        return cls(len(exact), mean, spread)

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return self.spread / sqrt(self.seeds)

    @property
    def p(self) -> float:
        """The two-sided p-value of the mean."""
        return 1.0 if self.mean == 0 or self.error == inf else p_value(self.mean / self.error, self.seeds - 1)

    def interval(self, miss: float) -> tuple[float, float]:
        """Compute the confidence interval of the mean at the level 1 - `miss`."""
        half = self.error if self.error in (0, inf) else t_quantile(miss, self.seeds - 1) * self.error
        return self.mean - half, self.mean + half


def verdict(name: str, sample: Sample, p: float, factor: float, contenders: int) -> Verdict:
    """Compute one contender's verdict, given its p-value and Holm's factor."""
    adjusted = min(1.0, factor * p)
    miss = LEVEL / factor if p < LEVEL <= adjusted else LEVEL
    low, high = sample.interval(miss)
    detectable = minimum_detectable(sample.spread, sample.seeds, contenders)
    if sample.spread == inf:
        label = TOO_FEW
    elif adjusted < LEVEL:
        label = "better" if sample.mean > 0 else "worse"
    else:
        label = f"no difference larger than {rounded_up(max(-low, high))} was found"
    return Verdict(name, sample.seeds, sample.mean, low, high, 1 - miss, p, adjusted, detectable, label)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Compute Holm's factor of each p-value, before the minimum with 1: between 1 and the number of p-values."""
    factors, largest = {}, 0.0
    for rank, name in enumerate(sorted(p, key=lambda name: p[name])):
        left = len(p) - rank
        largest = max(largest, left * p[name])
        factors[name] = largest / p[name] if p[name] > 0 else float(left)
    return factors


def rounded_up(value: float) -> str:
    """Format a value rounded up to two decimals, or to two significant digits below 0.1."""
    digits = 2
    while 0 < value < 10 ** (1 - digits) and digits < DECIMALS:
        digits += 1
    return f"{ceil(value * 10**digits - 1e-6) / 10**digits:.{digits}f}" if value else "0"


def minimum_detectable(spread: float, seeds: int, contenders: int = 1, power: float = POWER) -> float:
    """Compute the smallest true difference that is found with at least the given power, in the unit of `spread`.

    Args:
        spread: Standard deviation s of the differences over seeds.
        seeds: Number n of seeds; the result is infinite for fewer than three.
        contenders: Number m of contenders in Holm's correction.
        power: Probability to find the difference.
    """
    if seeds < FEWEST:
        return inf
    return spread if spread in (0, inf) else spread / sqrt(seeds) * noncentrality(seeds - 1, LEVEL / contenders, power)


@cache
def noncentrality(freedom: int, level: float, power: float) -> float:
    """Compute the noncentrality at which a two-sided t test at this level has this power."""
    critical = t_quantile(level, freedom)
    return bisect(lambda shift: found(critical, freedom, shift) - power, 0.0, 10 * critical + 10)


def found(critical: float, freedom: int, shift: float) -> float:
    """Compute P(|T'| > critical) of the noncentral t distribution with two or more degrees of freedom.

    For a given s, it is the sum of two tails of the normal distribution; the mean over s is computed by Simpson's rule.
    With the true standard deviation sigma and v degrees of freedom, u = s / sigma has the density

        2 (v/2)^(v/2) / Gamma(v/2) u^(v-1) exp(-v u^2 / 2)
    """
    normal, half = NormalDist(), freedom / 2
    scale = log(2) + half * log(half) - lgamma(half)
    end = 1 + 9 / sqrt(freedom)  # less than 1e-15 of the probability lies beyond
    total = 0.0
    for step in range(1, STEPS + 1):  # at u = 0 the density is 0
        u = end * step / STEPS
        density = exp(scale + (freedom - 1) * log(u) - half * u * u)
        tails = normal.cdf(shift - critical * u) + normal.cdf(-shift - critical * u)
        total += (1 if step == STEPS else 4 if step % 2 else 2) * density * tails
    return total * end / STEPS / 3


def p_value(t: float, freedom: int) -> float:
    """Compute P(|T| >= |t|) of Student's t distribution with integer degrees of freedom."""
    return max(0.0, 1 - within(atan(abs(t) / sqrt(freedom)), freedom))


@cache
def t_quantile(level: float, freedom: int) -> float:
    """Compute t with P(|T| >= t) = level: the 0.975 quantile for a level of 0.05."""
    return sqrt(freedom) * tan(bisect(lambda angle: within(angle, freedom) - (1 - level), 0.0, pi / 2))


def within(angle: float, freedom: int) -> float:
    """Compute P(|T| <= sqrt(freedom) tan(angle)): 26.7.3 for odd degrees of freedom, 26.7.4 for even ones."""
    odd = freedom % 2
    term = cos(angle) if odd else 1.0
    total = 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cos(angle) ** 2 * (k - 1) / k
    return 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total


def bisect(rising: Callable[[float], float], low: float, high: float) -> float:
    """Find the root of an increasing function by bisection, to machine precision."""
    while True:
        middle = (low + high) / 2
        if middle in (low, high) or high - low < 1e-15 * high:
            return middle
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)


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
        >>> from foveal.comparison.verdicts import mcnemar
        >>> mcnemar([True, False, False, False], [True, True, True, True])
        McNemar(gained=3, lost=0, p=0.25)
    """
    if len(baseline) != len(contender):
        raise ValueError(f"baseline has {len(baseline)} images, contender {len(contender)}: must be the same images")
    pairs = [(bool(old), bool(new)) for old, new in zip(baseline, contender, strict=True)]
    gained, lost = pairs.count((False, True)), pairs.count((True, False))
    ways, tail = 1, 0  # binomial coefficients, and their sum up to the smaller count
    for k in range(min(gained, lost) + 1):
        tail += ways
        ways = ways * (gained + lost - k) // (k + 1)
    return McNemar(gained, lost, min(1.0, 2 * tail / 2 ** (gained + lost)))
