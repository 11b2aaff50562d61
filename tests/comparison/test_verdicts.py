"""Verdicts from paired differences: distributions, labels and intervals, error rates."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from scipy import stats

from foveal.comparison.verdicts import (
    TOO_FEW,
    compute_verdicts,
    found,
    holm,
    mcnemar,
    minimum_detectable,
    p_value,
    t_quantile,
)

IMAGES = 1500


DISAGREE = 0.2  # share of images on which two trained networks differ


IMAGE_NOISE = 100 * math.sqrt(DISAGREE / IMAGES)  # standard deviation of an accuracy's difference, in points


class TestDistributions:
    @pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 29, 100])
    def test_t_quantile_and_p_value_agree_with_scipy(self, freedom):
        for t in (0, 0.1, -0.7, 1, 2, 4.3, -12, 50, 300):
            assert p_value(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), abs=1e-10)
        for level in (0.2, 0.05, 0.01, 0.05 / 7):
            assert t_quantile(level, freedom) == pytest.approx(stats.t.isf(level / 2, freedom), rel=1e-10)

    @pytest.mark.parametrize("freedom", [2, 3, 4, 9, 29])
    @pytest.mark.parametrize("shift", [0.5, 1, 3, 6])
    def test_power_agrees_with_scipys_noncentral_t(self, freedom, shift):
        critical = stats.t.isf(0.025, freedom)
        theirs = stats.nct.sf(critical, freedom, shift) + stats.nct.cdf(-critical, freedom, shift)
        assert found(critical, freedom, shift) == pytest.approx(theirs, abs=1e-7)

    def test_power_without_a_difference_is_the_level(self):
        assert found(t_quantile(0.05, 4), 4, 0) == pytest.approx(0.05, abs=1e-7)

    def test_minimum_detectable_of_many_seeds_is_the_textbook_formula(self):
        """delta = (z_{0.975} + z_{0.8}) s / sqrt(n)."""
        textbook = (stats.norm.isf(0.025) + stats.norm.isf(0.2)) / math.sqrt(2000)
        assert minimum_detectable(1.0, 2000) == pytest.approx(textbook, rel=2e-3)


class TestComputeVerdicts:
    def test_compute_verdicts_agrees_with_the_paired_t_test(self):
        ours, base = [91.2, 90.4, 92.0, 91.1], [90.1, 90.2, 90.9, 90.8]
        theirs = stats.ttest_rel(ours, base)
        interval = theirs.confidence_interval(0.95)
        found = compute_verdicts({"se": np.subtract(ours, base)})["se"]
        assert (found.p, found.ci_low, found.ci_high) == pytest.approx(
            (theirs.pvalue, interval.low, interval.high), abs=1e-8
        )
        assert (found.p_holm, found.level, found.seeds) == (found.p, 0.95, 4)

    def test_compute_verdicts_labels_better_and_worse(self):
        found = compute_verdicts({"up": [2, 2.1, 2.2], "down": [-2, -2.1, -2.2], "neither": [-1, 0.5, 1]})
        assert [each.label for each in found.values()][:2] == ["better", "worse"]
        assert found["up"].ci_low > 0 > found["down"].ci_high
        assert found["neither"].label == "no difference larger than 2.76 was found"  # 1/6 + 4.3027 * 1.0408 / sqrt(3)
        assert found["neither"].excluded == pytest.approx(1 / 6 + 4.302653 * 1.040833 / math.sqrt(3), rel=1e-6)

    def test_holm_factors_by_hand(self):
        """0.01 * 3, 0.02 * 2, and 0.03 * 1 that may not fall below it."""
        p = {"c": 0.03, "a": 0.01, "b": 0.02}
        assert {name: factor * p[name] for name, factor in holm(p).items()} == pytest.approx(
            {"a": 0.03, "b": 0.04, "c": 0.04}
        )

    def test_compute_verdicts_label_agrees_with_its_interval(self):
        rng = np.random.default_rng(0)
        turned = 0
        for _ in range(500):
            verdicts = compute_verdicts({str(k): rng.normal(0.8 * (k % 3), 0.6, 4) for k in range(5)})
            for each in verdicts.values():
                excludes = each.ci_low > 0 or each.ci_high < 0
                assert excludes == (each.label in ("better", "worse")) == (each.p_holm < 0.05)
                assert each.level == 0.95 or each.p < 0.05 <= each.p_holm
                assert each.level >= 0.95
                turned += each.level > 0.95
        assert turned > 20  # the case is met

    def test_compute_verdicts_interval_ends_at_the_level_of_holm(self):
        """p = 0.0266 with two more contenders: tested at 0.05 / 3."""
        found = compute_verdicts({"se": [0.5, 1.0, 1.2, 1.9, 0.1], "a": [1, -1, 1, -1, 0.1], "b": [1, -1, 1, -1, 0.1]})[
            "se"
        ]
        assert (found.p < 0.05, found.p_holm) == (True, pytest.approx(3 * found.p))
        theirs = stats.ttest_1samp([0.5, 1.0, 1.2, 1.9, 0.1], 0).confidence_interval(1 - 0.05 / 3)
        assert (found.level, found.ci_low, found.ci_high) == pytest.approx((1 - 0.05 / 3, theirs.low, theirs.high))
        assert found.label.startswith("no difference larger than ")

    def test_compute_verdicts_of_equal_contenders_is_no_difference(self):
        found = compute_verdicts({"same": [0.0, 0.0, -0.0]})["same"]
        assert found.label == "no difference larger than 0 was found"
        assert (found.ci_low, found.ci_high, found.p, found.min_detectable) == (0, 0, 1, 0)

    @pytest.mark.parametrize("differences", [[5.0], [5.0, 5.1], [0.3, 0.1 + 0.2, 0.3]])
    def test_compute_verdicts_of_too_few_seeds_has_no_label(self, differences):
        found = compute_verdicts({"se": differences})["se"]
        assert found.label == TOO_FEW
        assert (found.ci_low, found.ci_high, found.p, found.min_detectable) == (-math.inf, math.inf, 1, math.inf)
        assert found.mean == pytest.approx(np.mean(differences))

    @pytest.mark.parametrize("limit", [0.941, 0.9499, 0.95, 12.3, 0.034, 0.00051])
    def test_compute_verdicts_rounds_up_what_is_excluded(self, limit):
        shift = t_quantile(0.05, 2) / math.sqrt(3)
        found = compute_verdicts({"se": [-limit / shift, 0, limit / shift]})["se"]
        number = float(found.label.split()[4])
        assert limit - 1e-8 <= number <= 1.1 * limit + 1e-8

    @pytest.mark.parametrize(
        ("differences", "message"),
        [([], "'se': the list is empty"), ([1, math.nan], "'se': nan is"), ([math.inf], "inf is")],
    )
    def test_compute_verdicts_refuses_bad_differences(self, differences, message):
        with pytest.raises(ValueError, match=message):
            compute_verdicts({"se": differences})

    def test_compute_verdicts_returns_plain_data(self):
        assert json.loads(json.dumps(asdict(compute_verdicts({"se": [1, 2, 3]})["se"])))["contender"] == "se"


class TestMcNemar:
    @pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (7, 1), (5, 5), (2, 11), (300, 250)])
    def test_mcnemar_is_the_binomial_test_on_discordant_images(self, gained, lost):
        base = [True] * 20 + [False] * 10 + [False] * gained + [True] * lost
        other = [True] * 20 + [False] * 10 + [True] * gained + [False] * lost
        found = mcnemar(base, other)
        assert (found.gained, found.lost) == (gained, lost)
        expected = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1
        assert found.p == pytest.approx(expected, abs=1e-12)

    def test_mcnemar_refuses_different_images(self):
        with pytest.raises(ValueError, match="baseline has 2 images, contender 3"):
            mcnemar([True, False], [True, False, True])


def trials(rng: np.random.Generator, shape: tuple[int, ...], noise: float, difference: float = 0.0) -> np.ndarray:
    """Differences of accuracy, in points: a true one, a seed's own, and what the draw of the test images does.

    Of the images on which the networks differ, each goes to the contender with the chance that the seed's difference
    sets; all others do not count. `noise`: of the seeds, in standard deviations of that of the images.
    """
    seeds = (difference + noise * IMAGE_NOISE * rng.standard_normal(shape)) / 100
    won = np.clip((DISAGREE + seeds) / 2, 0, DISAGREE)
    gained = rng.binomial(IMAGES, won)
    lost = rng.binomial(IMAGES - gained, (DISAGREE - won) / (1 - won))
    return 100 * (gained - lost) / IMAGES


def share(hits: list[bool]) -> tuple[float, float]:
    """Frequency, and three standard errors at a frequency of 5 %."""
    return float(np.mean(hits)), 3 * math.sqrt(0.05 * 0.95 / len(hits))


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("noise", [0, 1, 3])
class TestErrorRates:
    def test_compute_verdicts_false_positive_rate_of_one_contender(self, seeds, noise):
        """At most 5 % false positives, 95 % coverage of the interval; 8,000 trials, +-0.7 %."""
        drawn = trials(np.random.default_rng(seeds), (8000, seeds), noise)
        verdicts = [compute_verdicts({"same": each})["same"] for each in drawn.tolist()]
        wrong, error = share([each.label in ("better", "worse") for each in verdicts])
        missed, _ = share([not each.ci_low <= 0 <= each.ci_high for each in verdicts])
        assert wrong == missed
        assert 0.05 - error < wrong < 0.05 + error  # and not by never speaking up

    def test_compute_verdicts_false_positive_rate_of_five_contenders(self, seeds, noise):
        """The noise of the baseline is shared by all five; 4,000 trials, +-1.0 %."""
        rng = np.random.default_rng(seeds)
        drawn = trials(rng, (4000, 5, seeds), noise)
        drawn = (drawn + trials(rng, (4000, 1, seeds), noise)).round(6)
        verdicts = [compute_verdicts({str(k): each for k, each in enumerate(trial)}) for trial in drawn.tolist()]
        wrong, error = share([any(each.label in ("better", "worse") for each in trial.values()) for trial in verdicts])
        assert wrong < 0.05 + error


@pytest.mark.parametrize(("seeds", "contenders"), [(3, 1), (5, 1), (10, 1), (5, 4)])
@pytest.mark.parametrize("noise", [0, 1])
def test_compute_verdicts_finds_the_minimum_detectable_difference(seeds, noise, contenders):
    """Find it with probability 0.8 alone, at least 0.8 among others; 4,000 trials, +-1.9 %."""
    spread = IMAGE_NOISE * math.sqrt(1 + noise**2)
    planted = minimum_detectable(spread, seeds, contenders)
    rng = np.random.default_rng(seeds)
    drawn = trials(rng, (4000, contenders, seeds), noise)
    drawn[:, 0] = trials(rng, (4000, seeds), noise, planted)
    verdicts = [compute_verdicts({str(k): each for k, each in enumerate(trial)}) for trial in drawn.tolist()]
    found = np.mean([trial["0"].label == "better" for trial in verdicts])
    error = 3 * math.sqrt(0.8 * 0.2 / len(verdicts))
    assert found > 0.8 - error
    assert contenders > 1 or found < 0.8 + error
