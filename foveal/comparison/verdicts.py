"""What paired differences over seeds allow to say. This file knows no model: numbers in, words out.

Of a contender and the baseline, trained with the same n seeds, d_i is the difference of seed i: accuracy of the
contender minus that of the baseline, in percentage points, so that positive is better. With their mean d and their
standard deviation s (n - 1 in its denominator)

    t = d / (s / sqrt(n)),   p = P(|T| >= |t|),   d -+ t_{0.975} s / sqrt(n)          T with n - 1 degrees of freedom

Of m contenders the p-values, in rising order, are adjusted as Holm (1979) says, so that the chance of one false verdict
or more among all of them stays below 0.05, however they depend on each other:

    adjusted p_(i) = min(1, max over j <= i of (m - j + 1) p_(j))

**The verdict is "better" or "worse" where the adjusted p is below 0.05**, by the sign of the mean. Otherwise it is "no
difference larger than X was found": X is the end of the interval that lies farther from 0, rounded up. What lies beyond
it the data exclude; what lies within it they do not.

The interval and the words never contradict each other. The 95 % interval excludes 0 where p is below 0.05, and the
adjusted p may not be. There, and only there, the interval is that of the level 1 - 0.05 p / adjusted p (before the
minimum with 1), which is wider and contains 0; `level` says so. Each interval is therefore the 95 % one or contains it,
and covers the true difference at least as often; together they are not simultaneous intervals.

How well the experiment could see is another figure: the smallest true difference that would have been found with a
probability of 0.8, for the observed s. It solves P(|T'| > t_{1 - 0.05 / 2m}) = 0.8 with T' of the noncentral t
distribution, exactly, with noncentrality delta sqrt(n) / s. The level is that of Holm's first step, so that whatever
the other contenders do the probability is not smaller.

Departures, all towards saying less. Fewer than three seeds say nothing. Nor do differences that are all alike and not
0: their spread is unknown, not 0, since accuracies come in steps of one image. (Contenders that are alike in every seed
have a difference of 0: that is known.) Both are "too few seeds to say", with an interval without ends and p = 1, and
stay in the count of m.

T is computed for whole degrees of freedom by the finite sums of Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import atan, ceil, cos, exp, fsum, inf, isfinite, lgamma, log, pi, sin, sqrt, tan
from statistics import NormalDist, fmean

LEVEL = 0.05
POWER = 0.8
FEWEST = 3  # seeds
DECIMALS = 9  # below one image in any test part; what lies beyond is rounding of floats
TOO_FEW = "too few seeds to say"
STEPS = 400  # of the integral over s: right to 1e-8


@dataclass(frozen=True)
class Verdict:
    """What the seeds say of a contender against the baseline; differences in percentage points, positive is better."""

    contender: str
    seeds: int
    mean: float
    ci_low: float  # of the interval
    ci_high: float
    level: float  # of the interval: 0.95, or more where Holm's correction turned the verdict
    p: float  # of this contender alone
    p_holm: float  # p among all contenders, by Holm
    min_detectable: float  # the smallest difference that would have been found with a probability of 0.8
    label: str  # "better", "worse", "no difference larger than X was found", "too few seeds to say"

    @property
    def excluded(self) -> float:
        """X: the data exclude a difference that is larger, in either direction."""
        return max(abs(self.ci_low), abs(self.ci_high))


def compute_verdicts(differences: Mapping[str, Sequence[float]]) -> dict[str, Verdict]:
    """A verdict for each contender, in the given order.

    Args:
        differences: of each contender to the baseline, one a seed, in percentage points of accuracy.

    Raises:
        ValueError: a contender without differences, or with one that is not finite.

    >>> compute_verdicts({"se": [1.0, 1.2, 1.1], "cbam": [0.4, -0.3, 0.1]})["cbam"].says
    'no difference larger than 0.94 was found'
    """
    samples = {name: Sample.of(name, values) for name, values in differences.items()}
    p = {name: sample.p for name, sample in samples.items()}
    factors = holm(p)
    return {name: verdict(name, sample, p[name], factors[name], len(p)) for name, sample in samples.items()}


@dataclass(frozen=True)
class Sample:
    """Differences over seeds, as far as a test needs them."""

    seeds: int
    mean: float
    spread: float  # s; infinite where it is unknown

    @classmethod
    def of(cls, name: str, values: Sequence[float]) -> "Sample":
        if len(values) == 0:
            raise ValueError(f"differences of {name!r}: none given; one for each seed")
        wrong = next((value for value in values if not isfinite(value)), None)
        if wrong is not None:
            raise ValueError(f"differences of {name!r}: {wrong} is no difference")
        exact = [round(float(value), DECIMALS) for value in values]
        known = len(exact) >= FEWEST and (len(set(exact)) > 1 or exact[0] == 0)
        mean = fmean(exact)
        spread = sqrt(fsum((value - mean) ** 2 for value in exact) / (len(exact) - 1)) if known else inf
        return cls(len(exact), mean, spread)

    @property
    def error(self) -> float:
        return self.spread / sqrt(self.seeds)

    @property
    def p(self) -> float:
        return 1.0 if self.mean == 0 or self.error == inf else p_value(self.mean / self.error, self.seeds - 1)

    def interval(self, miss: float) -> tuple[float, float]:
        """Of the mean, with this chance to miss the true one."""
        half = self.error if self.error in (0, inf) else t_quantile(miss, self.seeds - 1) * self.error
        return self.mean - half, self.mean + half


def verdict(name: str, sample: Sample, p: float, factor: float, contenders: int) -> Verdict:
    adjusted = min(1.0, factor * p)
    miss = LEVEL / factor if p < LEVEL <= adjusted else LEVEL
    low, high = sample.interval(miss)
    seen = minimum_detectable(sample.spread, sample.seeds, contenders)
    if sample.spread == inf:
        says = TOO_FEW
    elif adjusted < LEVEL:
        says = "better" if sample.mean > 0 else "worse"
    else:
        says = f"no difference larger than {rounded_up(max(-low, high))} was found"
    return Verdict(name, sample.seeds, sample.mean, low, high, 1 - miss, p, adjusted, seen, says)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """By how much each p-value is multiplied, before the minimum with 1: between 1 and their number."""
    factors, largest = {}, 0.0
    for rank, name in enumerate(sorted(p, key=lambda name: p[name])):
        left = len(p) - rank
        largest = max(largest, left * p[name])
        factors[name] = largest / p[name] if p[name] > 0 else float(left)
    return factors


def rounded_up(value: float) -> str:
    """To two digits after the point, where that is not 0 to two significant ones: what is excluded is truly so."""
    digits = 2
    while 0 < value < 10 ** (1 - digits) and digits < DECIMALS:
        digits += 1
    return f"{ceil(value * 10**digits - 1e-6) / 10**digits:.{digits}f}" if value else "0"


def minimum_detectable(spread: float, seeds: int, contenders: int = 1, power: float = POWER) -> float:
    """The true difference that is found with this probability or a larger one, in the unit of `spread`.

    Args:
        spread: standard deviation of the differences over seeds.
        seeds: n; fewer than three find nothing.
        contenders: m, among which a verdict must hold.
        power: the probability.
    """
    if seeds < FEWEST:
        return inf
    return spread if spread in (0, inf) else spread / sqrt(seeds) * noncentrality(seeds - 1, LEVEL / contenders, power)


@cache
def noncentrality(freedom: int, level: float, power: float) -> float:
    """That with which a two-sided test at this level finds a difference with this probability."""
    critical = t_quantile(level, freedom)
    return bisect(lambda shift: found(critical, freedom, shift) - power, 0.0, 10 * critical + 10)


def found(critical: float, freedom: int, shift: float) -> float:
    """P(|T'| > critical) of the noncentral t distribution, for two degrees of freedom or more.

    For each s it is two tails of the normal distribution; their mean over s is taken by Simpson's rule. With the true
    deviation sigma and v degrees of freedom, u = s / sigma has the density

        2 (v/2)^(v/2) / Gamma(v/2) u^(v-1) exp(-v u^2 / 2)
    """
    normal, half = NormalDist(), freedom / 2
    scale = log(2) + half * log(half) - lgamma(half)
    end = 1 + 9 / sqrt(freedom)  # beyond, less than 1e-15 is left
    total = 0.0
    for step in range(1, STEPS + 1):  # at u = 0 the density is 0
        u = end * step / STEPS
        density = exp(scale + (freedom - 1) * log(u) - half * u * u)
        tails = normal.cdf(shift - critical * u) + normal.cdf(-shift - critical * u)
        total += (1 if step == STEPS else 4 if step % 2 else 2) * density * tails
    return total * end / STEPS / 3


def p_value(t: float, freedom: int) -> float:
    """P(|T| >= |t|) of Student's t distribution with whole degrees of freedom."""
    return max(0.0, 1 - within(atan(abs(t) / sqrt(freedom)), freedom))


@cache
def t_quantile(level: float, freedom: int) -> float:
    """The t with P(|T| >= t) = level: for 0.05 the 0.975 quantile."""
    return sqrt(freedom) * tan(bisect(lambda angle: within(angle, freedom) - (1 - level), 0.0, pi / 2))


def within(angle: float, freedom: int) -> float:
    """P(|T| <= sqrt(freedom) tan(angle)): 26.7.3 for odd degrees of freedom, 26.7.4 for even ones."""
    odd = freedom % 2
    term = cos(angle) if odd else 1.0
    total = 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cos(angle) ** 2 * (k - 1) / k
    return 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total


def bisect(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function is 0, to the last digits."""
    while True:
        middle = (low + high) / 2
        if middle in (low, high) or high - low < 1e-15 * high:
            return middle
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)


@dataclass(frozen=True)
class McNemar:
    """The exact test of McNemar (1947) on the images of one seed.

    It speaks of two trained networks, not of their methods: another seed gives two others. Never the verdict.
    """

    gained: int  # images that the contender alone has right
    lost: int  # images that the baseline alone has right
    p: float


def mcnemar(baseline: Sequence[bool], contender: Sequence[bool]) -> McNemar:
    """Whether two trained networks are right on equally many images, of the same images in the same order.

    Were they equally good, each image on which they differ would be gained or lost with a chance of one half: p is
    that of a split as uneven as this one, by the binomial distribution.

    Args:
        baseline: whether it is right, one an image.
        contender: likewise.

    Raises:
        ValueError: lists of different lengths.
    """
    if len(baseline) != len(contender):
        raise ValueError(f"baseline has {len(baseline)} images, contender {len(contender)}: they must be the same")
    pairs = [(bool(old), bool(new)) for old, new in zip(baseline, contender, strict=True)]
    gained, lost = pairs.count((False, True)), pairs.count((True, False))
    ways, tail = 1, 0  # of k images among all that differ, summed up to the smaller part
    for k in range(min(gained, lost) + 1):
        tail += ways
        ways = ways * (gained + lost - k) // (k + 1)
    return McNemar(gained, lost, min(1.0, 2 * tail / 2 ** (gained + lost)))
