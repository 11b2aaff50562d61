"""Sentences that state a verdict."""

from comparisons import BASE, make_comparison

from foveal.comparison.compare import ComparisonResult
from foveal.reports.sentences import sentence


def said_of(comparison: ComparisonResult, name: str):
    return sentence(comparison, next(row for row in comparison.rows if row.name == name))


def test_a_verdict_is_said_with_its_figures(tmp_path):
    held = make_comparison(
        tmp_path, {"none": BASE, "se": (9.0, 10.1, 7.9), "eca": (11.5, 11.5, 10.0), "gc": (12.0, 13.1, 10.9)}
    )
    better, same, worse = (said_of(held, name) for name in ("se", "eca", "gc"))
    assert (better.kind, better.label) == ("better", "better")
    assert better.why.startswith(
        "On average 2.00 percentage points better than the baseline (none, error 11.00 %); 95 %"
    )
    assert "+1.75 to +2.25, n = 3 seeds." in better.why  # t = 4.303, s = 0.1: 2 -+ 4.303 * 0.1 / sqrt(3)
    assert f"80 % is {held.verdicts['se'].min_detectable:.2f} points" in better.why
    assert better.costs.startswith("It costs 1.10 times the milliseconds and 1.05 times the parameters of the baseline")
    assert same.kind == "same"
    assert same.label == f"no difference larger than {held.verdicts['eca'].label.split()[4]} points was found"
    assert worse.kind == "worse"
    assert "1.00 percentage points worse" in worse.why
    none = said_of(held, "none")
    assert none.why == "Its error is 11.00 % ± 1.00 (mean and standard deviation, n = 3 seeds)."
    assert none.costs == "It costs 10.0 ms for 64 images, 1,000 parameters."


def test_what_failed_is_said_with_its_reason(tmp_path):
    held = make_comparison(tmp_path, {"none": BASE, "se": ("no room",) * 3, "eca": (9.0, "nan", 8.0)})
    assert said_of(held, "se").label == "failed"
    assert said_of(held, "se").failed == ["All 3 seeds failed: no room"]
    few = said_of(held, "eca")
    assert few.kind == "few"
    assert few.failed == ["Seed 1 failed: nan"]
    assert "fewer than three: no interval" in few.why


def test_without_a_baseline_nothing_is_judged(tmp_path):
    held = make_comparison(tmp_path, {"none": ("no",) * 3, "se": BASE})
    assert said_of(held, "se").kind == "alone"
    assert "Its error is 11.00 % ± 1.00, n = 3 seeds; it shares no finished seed with none" in said_of(held, "se").why


def test_seeds_that_are_alike_are_said_to_be(tmp_path):
    held = make_comparison(tmp_path, {"none": BASE, "eca": BASE, "se": (10.0, 11.0, 9.0)})
    assert said_of(held, "eca").why.endswith("n = 3 seeds, the same error as none in each of them.")
    assert "differences that are all alike, so their spread is unknown" in said_of(held, "se").why
