"""Floored variances, critical values and unstable arms: by hand, against scipy, by simulation."""

from math import log, sqrt

import numpy as np
import pytest
from scipy import stats

from foveal.comparison.twin_rule import (
    adjusted_p,
    critical_value,
    estimate,
    inflation,
    masked_variances,
    null_maxima,
    rate_weights,
    residual_variances,
    unstable_arms,
)


class TestEstimate:
    def test_estimate_of_the_twin_rule_by_hand(self):
        """Seed means are +1, 0, -1: residuals -1, 0, 1 of both baselines, 2, 0, -2 of the contender."""
        errors = np.array([[20.0, 20, 20], [20, 20, 20], [18, 15, 12]])
        assert residual_variances(errors).tolist() == pytest.approx([1.5, 1.5, 6])
        found = estimate(errors, 2)
        assert found.difference.tolist() == pytest.approx([5])
        assert found.pool == pytest.approx(1.5)  # without the contender
        assert found.variance.tolist() == pytest.approx([1.5 / 2 + 6 / log(2)])  # the median of chi2(2) is 2 log 2
        assert found.plain.tolist() == pytest.approx([1.5 / 2 + 6])

    def test_estimate_of_rule_b_by_hand(self):
        found = estimate(np.array([[9.0, 9, 9], [11, 9, 7], [6, 8, 10]]), 1)
        assert found.difference.tolist() == pytest.approx([0, 1])
        assert found.pool == pytest.approx(3)  # of 0, 6 and 6
        assert found.variance.tolist() == pytest.approx([3 + 0.7 * 6] * 2)

    def test_estimate_leaves_out_a_baseline_of_large_spread_with_its_weight(self):
        """Residuals 4, 0, -4 of the contenders and -4, 0, 4 of the baselines would be equal: the first is doubled."""
        errors = np.array([[8.0, 0, -8], [8, 0, -8], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
        base, own = 2 * (16 / 3) ** 2 / 2 * 6 / 5, 2 * (8 / 3) ** 2 / 2 * 6 / 5
        found = estimate(errors, 2)
        assert found.pool == pytest.approx(own)
        assert found.variance.tolist() == pytest.approx([base / 2 + own / log(2)] * 4)

    def test_estimate_is_the_same_if_a_seed_is_harder_for_all(self):
        rng = np.random.default_rng(0)
        errors = rng.normal(6, 1, (5, 4))
        one, other = estimate(errors, 2), estimate(errors + np.array([3, -2, 0, 7]), 2)
        np.testing.assert_allclose(one.difference, other.difference, atol=1e-12)
        np.testing.assert_allclose(one.variance, other.variance, atol=1e-12)

    def test_estimate_of_many_comparisons_is_that_of_each(self):
        errors = np.random.default_rng(0).normal(6, 1, (20, 5, 4))
        weights = rate_weights(errors, 2, 1500)
        found = estimate(errors, 2, weights, 0.5)
        for at, own in enumerate(errors):
            alone = estimate(own, 2, rate_weights(own, 2, 1500), 0.5)
            for name in ("difference", "variance", "plain", "pool"):
                np.testing.assert_allclose(getattr(found, name)[at], getattr(alone, name), rtol=1e-12)

    def test_estimate_has_a_smallest_variance(self):
        found = estimate(np.full((4, 3), 6.0), 2, floor=0.04)
        assert found.variance.tolist() == pytest.approx([0.02 + 0.04] * 2)
        assert found.pool == 0.04

    def test_residual_variances_are_unbiased(self):
        drawn = np.random.default_rng(0).normal(0, 2, (20_000, 4, 3))
        assert residual_variances(drawn).mean(0).tolist() == pytest.approx([4] * 4, rel=0.04)

    def test_rate_weights_are_binomial(self):
        errors = np.array([[9.0, 11], [11, 9], [20, 20], [0, 0]])
        weights = rate_weights(errors, 2, 100)
        assert weights.tolist() == pytest.approx([1, 1, 0.16 / 0.09, 0.005 * 0.995 / 0.09])


class TestCriticalValues:
    @pytest.mark.parametrize(("contenders", "seeds", "known"), [(6, 3, 2.93), (4, 5, 2.64)])
    def test_critical_value_of_the_twin_rule_is_the_published_one(self, contenders, seeds, known):
        assert critical_value(null_maxima(contenders, seeds, 2), 0.05) == pytest.approx(known, abs=0.03)

    @pytest.mark.parametrize(("seeds", "known"), [(3, 1.44), (5, 1.19), (10, 1.08)])
    def test_inflation_is_the_published_one(self, seeds, known):
        assert inflation(0.5, seeds) == pytest.approx(known, abs=0.005)

    @pytest.mark.parametrize("seeds", [3, 5, 10])
    def test_adjusted_p_of_one_contender_and_one_baseline_is_that_of_the_paired_t_test(self, seeds):
        """With two arms, all variances are half of that of the differences, times a constant."""
        rng = np.random.default_rng(seeds)
        for shift in (0, 0.5, 1, 2):
            errors = rng.normal(0, 1, (2, seeds)) + np.array([[shift], [0]])
            found = estimate(errors, 1)
            ours = adjusted_p(np.abs(found.difference) / np.sqrt(found.variance / seeds), null_maxima(1, seeds, 1))
            theirs = stats.ttest_rel(*errors).pvalue
            assert ours[0] == pytest.approx(theirs, abs=4 * sqrt(theirs * (1 - theirs) / 80_000) + 2e-5)

    @pytest.mark.parametrize("level", [0.05, 0.05 / 2, 0.05 / 3])
    def test_critical_value_and_adjusted_p_agree(self, level):
        maxima = null_maxima(2, 3, 2)
        critical = critical_value(maxima, level)
        assert adjusted_p(critical, maxima) > level
        assert adjusted_p(np.nextafter(critical, 9), maxima) <= level

    def test_null_maxima_are_the_same_in_each_process(self):
        one = null_maxima(2, 3, 1)
        null_maxima.cache_clear()
        assert np.array_equal(one, null_maxima(2, 3, 1))

    @pytest.mark.parametrize("baselines", [1, 2])
    @pytest.mark.parametrize("seeds", [3, 10])
    def test_false_verdicts_among_five_contenders(self, baselines, seeds):
        """5 % under equal noise; 10,000 draws, three standard errors and that of the critical value."""
        drawn = np.random.default_rng(7).standard_normal((10_000, 5 + baselines, seeds))
        found = estimate(drawn, baselines)
        largest = (np.abs(found.difference) / np.sqrt(found.variance / seeds)).max(-1)
        share = (largest > critical_value(null_maxima(5, seeds, baselines), 0.05)).mean()
        assert share == pytest.approx(0.05, abs=3 * sqrt(0.05 * 0.95 * (1 / 10_000 + 1 / 80_000)))

    def test_twin_rule_has_the_published_power(self):
        """.58 at 2.5 standard deviations, three seeds and six contenders, where t tests with Holm's have .08."""
        drawn = np.random.default_rng(7).standard_normal((10_000, 8, 3))
        drawn[:, 2] -= 2.5
        found = estimate(drawn, 2)
        statistic = found.difference[:, 0] / np.sqrt(found.variance[:, 0] / 3)
        assert (statistic > critical_value(null_maxima(6, 3, 2), 0.05)).mean() == pytest.approx(0.58, abs=0.02)


class TestUnstableArms:
    def test_masked_variances_are_those_of_the_arms_alone(self):
        errors = np.random.default_rng(0).normal(0, 1, (6, 4))
        use = np.array([True, False, True, True, False, True])
        np.testing.assert_allclose(masked_variances(errors, use)[use], residual_variances(errors[use]), rtol=1e-12)

    def test_unstable_arms_are_found_although_they_hide_each_other(self):
        errors = np.random.default_rng(1).normal(6, 0.4, (7, 3))
        errors[2, 0] = errors[5, 1] = errors[6, 1] = 40
        assert np.flatnonzero(unstable_arms(errors)).tolist() == [2, 5, 6]
        assert not unstable_arms(np.random.default_rng(1).normal(6, 0.4, (7, 3))).any()

    def test_unstable_arms_need_five_times_the_spread(self):
        """The sound arms have a q of about 1 without the last; ten seeds make a ratio of 9 significant, but not far."""
        wave = np.array([1.0, -1] * 5)
        errors = np.stack([wave, -wave, np.roll(np.repeat(wave[:2], 5), 1), np.zeros(10), np.zeros(10)])
        errors[4] = 4 * np.sqrt(0.9) * np.array([1, 1, -1, -1, 1, 1, -1, -1, 0, 0])
        assert not unstable_arms(errors).any()
        errors[4] *= 2.5
        assert np.flatnonzero(unstable_arms(errors)).tolist() == [4]

    @pytest.mark.parametrize("arms", [3, 4, 7])
    @pytest.mark.parametrize("seeds", [3, 5])
    def test_unstable_arms_are_rare_under_equal_noise(self, arms, seeds):
        """About one comparison in 1,000."""
        drawn = np.random.default_rng(2).standard_normal((20_000, arms, seeds))
        assert unstable_arms(drawn).any(1).mean() < 0.002

    def test_unstable_arms_of_two_are_none(self):
        assert not unstable_arms(np.array([[1.0, 1, 1], [1, 50, 1]])).any()

    def test_unstable_arms_of_equal_errors_are_none(self):
        errors = np.full((5, 3), 6.0)
        errors[3, 1] += 0.1
        assert not unstable_arms(errors, floor=0.05**2).any()
