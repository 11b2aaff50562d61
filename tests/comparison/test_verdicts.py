"""Verdicts: labels and intervals, missing seeds, unstable arms, error rates."""

import json
import subprocess
import sys
from dataclasses import asdict
from math import inf, nan, sqrt

import numpy as np
import pytest

from foveal.comparison.verdicts import TOO_FEW, compute_verdicts, rounded_up


def by_seed(**errors) -> dict[str, dict[int, float]]:
    return {name: dict(enumerate(map(float, values))) for name, values in errors.items()}


def noise(rng: np.random.Generator, contenders: int, seeds: int, *, spread: float = 0.4) -> dict[str, dict[int, float]]:
    """Errors of about 6 % of a baseline, its twin and contenders without a difference."""
    names = ["none", "again", *(f"c{at}" for at in range(contenders))]
    return by_seed(**dict(zip(names, rng.normal(6, spread, (len(names), seeds)), strict=True)))


class TestLabels:
    def test_compute_verdicts_labels_better_worse_and_same(self):
        errors = by_seed(
            none=[6.5, 5.0, 6.4], again=[6.3, 5.3, 6.1], up=[4.3, 3.7, 3.5], down=[9, 7.7, 8.8], se=[6.4, 5.1, 6.3]
        )
        found = compute_verdicts(errors, "none", "again", images=1500)
        assert [each.kind for each in found.values()] == ["better", "worse", "same"]
        assert found["up"].mean == pytest.approx((6.5 + 5.0 + 6.4 + 6.3 + 5.3 + 6.1) / 6 - 11.5 / 3)
        assert found["up"].ci_low > 0 > found["down"].ci_high
        largest = max(-found["se"].ci_low, found["se"].ci_high)
        assert found["se"].label == f"no difference, at most {rounded_up(largest)} points"
        assert largest <= found["se"].limit

    def test_compute_verdicts_by_hand(self):
        """q is 1.5 for the baselines and 6; c is 2.65 (one contender, three seeds); R is 1.96 sqrt(3).

        With 500 images, 6 is not far out of line with the smallest variance, 0.01, the other arms having none.
        """
        errors = by_seed(none=[20, 20, 20], again=[20, 20, 20], se=[23, 20, 17])
        found = compute_verdicts(errors, "none", "again", images=500)["se"]
        half = 2.65 * sqrt((0.75 + 6 / np.log(2)) / 3)
        assert (found.ci_low, found.ci_high) == pytest.approx((-half, half), rel=0.02)
        assert (found.mean, found.p, found.limit) == pytest.approx((0, 1, 1.96 * sqrt(3)), rel=1e-4)
        assert 9 < 6.75 * (2.65 + 0.8416) ** 2 / 3.395**2 + 2 < 10
        assert (found.label, found.seeds_needed) == ("cannot tell, needs about 10 seeds", 10)

    def test_compute_verdicts_label_agrees_with_interval_and_p(self):
        rng, kinds = np.random.default_rng(0), []
        for _ in range(300):
            errors = noise(rng, 4, 4)
            errors["c0"] = {seed: value - rng.uniform(0, 2) for seed, value in errors["c0"].items()}
            if rng.random() < 0.5:
                del errors["c1"][2]
            for each in compute_verdicts(errors, "none", "again", images=1500).values():
                kinds.append(each.kind)
                largest = max(-each.ci_low, each.ci_high)
                assert (each.kind in ("better", "worse")) == (each.p <= 0.05) == (each.ci_low > 0 or each.ci_high < 0)
                assert each.kind != "same" or largest <= each.limit
                assert each.kind != "open" or (largest > each.limit and each.seeds_needed > each.seeds)
                assert each.kind == "open" or each.seeds_needed is None
        assert {"better", "same", "open"} <= set(kinds)

    def test_compute_verdicts_do_not_depend_on_the_order_of_contenders(self):
        errors = noise(np.random.default_rng(3), 4, 3)
        turned = dict(reversed(errors.items()))
        one, other = (compute_verdicts(each, "none", "again", images=1500) for each in (errors, turned))
        assert list(one) == list(reversed(other))
        for name, each in one.items():
            assert asdict(each)["label"] == other[name].label
            assert (each.ci_low, each.ci_high) == pytest.approx((other[name].ci_low, other[name].ci_high))

    @pytest.mark.parametrize(("value", "text"), [(0.941, "0.95"), (0.95, "0.95"), (12.3, "12.30"), (0.034, "0.034"),
                                                 (0.00051, "0.00051"), (0.0998, "0.100")])  # fmt: skip
    def test_rounded_up(self, value, text):
        assert rounded_up(value) == text

    def test_compute_verdicts_returns_plain_data(self):
        found = compute_verdicts(noise(np.random.default_rng(0), 1, 3), "none", "again", images=1500)["c0"]
        assert json.loads(json.dumps(asdict(found)))["contender"] == "c0"

    def test_import_of_verdicts_imports_no_scipy(self):
        code = "import sys, foveal.comparison.verdicts; print('scipy' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)  # noqa: S603
        assert done.stdout == "False\n"


class TestEqualResults:
    @pytest.mark.parametrize("contenders", [1, 5, 20])
    @pytest.mark.parametrize("twin", ["again", None])
    def test_compute_verdicts_of_equal_arms_is_no_difference(self, contenders, twin):
        errors = noise(np.random.default_rng(0), contenders, 3, spread=0)
        if twin is None:
            del errors["again"]
        for each in compute_verdicts(errors, "none", twin, images=1500).values():
            assert (each.mean, each.p, each.kind) == (0, 1, "same")
            assert 0 < each.ci_high <= 200 / 1500  # two images

    def test_compute_verdicts_of_a_contender_equal_to_the_baseline(self):
        errors = noise(np.random.default_rng(0), 3, 5)
        errors["c1"] = errors["again"] = dict(errors["none"])
        found = compute_verdicts(errors, "none", "again", images=1500)["c1"]
        assert found.mean == pytest.approx(0, abs=1e-12)
        assert found.p == 1
        assert found.ci_low < 0 < found.ci_high

    def test_compute_verdicts_of_equal_differences_are_finite(self):
        """Half an image is the smallest standard deviation: c is 2.77, and 2.77 / 2 sqrt(1.5 / 3) images."""
        one = 100 / 1500
        errors = by_seed(none=[6, 6, 6], again=[6, 6, 6], one=[6 - one] * 3, five=[1] * 3)
        found = compute_verdicts(errors, "none", "again", images=1500)
        assert found["one"].mean == pytest.approx(one)
        assert found["one"].ci_high - one == pytest.approx(2.77 / 2 * sqrt(1.5 / 3) * one, rel=0.02)
        assert (found["five"].label, found["five"].p < 0.001) == ("better", True)

    @pytest.mark.parametrize("seeds", [1, 2])
    def test_compute_verdicts_of_too_few_seeds(self, seeds):
        found = compute_verdicts(noise(np.random.default_rng(0), 1, seeds), "none", "again", images=1500)["c0"]
        assert (found.label, found.kind, found.seeds) == (TOO_FEW, "few", seeds)
        assert (found.ci_low, found.ci_high, found.p) == (-inf, inf, 1)


class TestMissingSeeds:
    def test_compute_verdicts_judges_each_group_of_seeds(self):
        errors = noise(np.random.default_rng(5), 4, 5)
        del errors["c1"][0], errors["c2"][0], errors["c2"][1], errors["c2"][2], errors["c3"]
        errors["c4"] = {9: 6.0}  # a seed that the baseline lacks
        found = compute_verdicts(errors, "none", "again", images=1500)
        assert list(found) == ["c0", "c1", "c2"]
        assert [each.seeds for each in found.values()] == [5, 4, 2]
        assert found["c2"].label == TOO_FEW
        last = {name: {seed: errors[name][seed] for seed in range(1, 5)} for name in ("none", "again", "c0", "c1")}
        alone = compute_verdicts(last, "none", "again", images=1500)["c1"]
        assert found["c1"].mean == pytest.approx(alone.mean)
        assert found["c1"].p == pytest.approx(min(1, 2 * alone.p))
        assert found["c1"].ci_high > alone.ci_high

    def test_compute_verdicts_uses_the_seeds_of_both_baselines(self):
        errors = noise(np.random.default_rng(5), 1, 4)
        del errors["again"][1]
        assert compute_verdicts(errors, "none", "again", images=1500)["c0"].seeds == 3


class TestUnstable:
    def test_compute_verdicts_judges_no_arm_that_learned_nothing_and_the_others_without_it(self):
        errors = noise(np.random.default_rng(1), 3, 3)
        without = compute_verdicts({k: v for k, v in errors.items() if k != "c1"}, "none", "again", images=1500)
        errors["c1"] = {0: 90.0, 1: 90.0, 2: 90.0}
        found = compute_verdicts(errors, "none", "again", images=1500, chance=90.0)
        assert (found["c1"].kind, found["c1"].label, found["c1"].ci_low) == ("unstable", "unstable", -inf)
        assert "with seed 2 it learned nothing: its error is 90.00 %" in found["c1"].reason
        assert {name: found[name] for name in without} == without

    def test_compute_verdicts_judges_no_arm_with_a_diverged_run(self):
        errors = noise(np.random.default_rng(1), 3, 3)
        without = compute_verdicts({k: v for k, v in errors.items() if k != "c1"}, "none", "again", images=1500)
        errors["c1"][1] = 30.0
        found = compute_verdicts(errors, "none", "again", images=1500)
        assert found["c1"].kind == "unstable"
        sound = np.mean([list(errors[name].values()) for name in ("none", "again", "c0", "c2")], axis=0)
        spread = np.std(np.array(list(errors["c1"].values())) - sound, ddof=1)
        assert f"its standard deviation is {spread:.2f} points" in found["c1"].reason
        assert {name: found[name] for name in without} == without

    @pytest.mark.parametrize("chance", [85.0, inf])
    def test_compute_verdicts_judges_nothing_against_an_unstable_baseline(self, chance):
        errors = noise(np.random.default_rng(1), 3, 3)
        errors["again"][1] = 85.0
        found = compute_verdicts(errors, "none", "again", images=1500, chance=chance)
        assert {each.kind for each in found.values()} == {"unstable"}
        assert all(each.reason.startswith("again, the baseline, is unstable: ") for each in found.values())


class TestResplit:
    def test_compute_verdicts_of_a_split_for_each_seed_are_wider(self):
        """Nadeau and Bengio: 1/n + 1/2 for 1/n."""
        errors = noise(np.random.default_rng(0), 2, 4)
        one = compute_verdicts(errors, "none", "again", images=1500)["c0"]
        other = compute_verdicts(errors, "none", "again", images=1500, train_images=3000)["c0"]
        assert other.ci_high - other.mean == pytest.approx((one.ci_high - one.mean) * sqrt(0.75 / 0.25))

    def test_compute_verdicts_need_more_images_if_no_number_of_seeds_is_enough(self):
        found = compute_verdicts(noise(np.random.default_rng(0), 5, 3), "none", "again", images=1500, train_images=1500)
        assert found["c0"].label == "cannot tell, needs more images"
        assert found["c0"].seeds_needed is None


@pytest.mark.parametrize(
    ("errors", "changes", "message"),
    [
        ({"none": {0: nan}}, {}, "errors of 'none', seed 0: nan is no percentage"),
        ({"none": {0: 5.0, 3: 101.0}}, {}, "seed 3: 101.0 is no percentage"),
        ({"none": {0: 5.0}}, {"images": 0}, "images=0: must be 1 or more"),
        ({"none": {0: 5.0}}, {"baseline": "nine"}, "arm 'nine'"),
        ({"none": {0: 5.0}}, {"twin": "none"}, "twin='none' is the baseline itself"),
    ],
)
def test_compute_verdicts_refuses_bad_arguments(errors, changes, message):
    with pytest.raises(ValueError, match=message):
        compute_verdicts(errors, **{"baseline": "none", "images": 1500, **changes})


class TestErrorRates:
    @pytest.mark.parametrize("twin", ["again", None])
    def test_compute_verdicts_false_verdicts_and_coverage(self, twin):
        """5 % false verdicts of any of four, 95 % of all intervals together; 800 draws, +-2.3 %."""
        rng, missed, wrong = np.random.default_rng(4), 0, 0
        true = {"c0": 1.0, "c1": 0.0, "c2": 0.0, "c3": -0.3}
        for _ in range(800):
            errors = noise(rng, 4, 3)
            for name, difference in true.items():
                errors[name] = {seed: value - difference for seed, value in errors[name].items()}
            if twin is None:
                del errors["again"]
            found = compute_verdicts(errors, "none", twin, images=1500)
            missed += any(not each.ci_low <= true[name] <= each.ci_high for name, each in found.items())
            wrong += found["c1"].kind in ("better", "worse") or found["c2"].kind in ("better", "worse")
        limit = 0.05 + 3 * sqrt(0.05 * 0.95 / 800)
        assert missed / 800 < limit
        assert 0 < wrong / 800 < limit


class TestDiverged:
    errors = by_seed(none=[6.5, 5.0, 6.4], again=[6.3, 5.3, 6.1], up=[4.3, 3.7, 3.5], se=[6.4, 5.1, 6.3])

    def test_compute_verdicts_does_not_judge_a_contender_with_a_loss_that_was_not_finite(self):
        errors = self.errors | {"up": {0: 4.3, 2: 3.5}}  # seed 1 has no error
        found = compute_verdicts(errors, "none", "again", images=1500, diverged={"up": 1})
        assert (found["up"].kind, found["up"].reason) == ("unstable", "with seed 1 its loss was not finite")
        assert found["up"].mean == pytest.approx((6.5 + 6.3 + 6.4 + 6.1) / 4 - 3.9)
        three = {name: self.errors[name] for name in ("none", "again", "se")}
        alone = compute_verdicts(three, "none", "again", images=1500)
        assert found["se"] == alone["se"]

    @pytest.mark.parametrize("name", ["none", "again"])
    def test_compute_verdicts_judges_none_where_the_baseline_diverged(self, name):
        found = compute_verdicts(self.errors, "none", "again", images=1500, diverged={name: 2})
        assert {each.kind for each in found.values()} == {"unstable"}
        assert found["se"].reason == f"{name}, the baseline, is unstable: with seed 2 its loss was not finite"
