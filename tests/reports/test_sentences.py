"""Sentences that state a verdict."""

from comparisons import BASE, make_comparison

from foveal.comparison.compare import ComparisonResult
from foveal.reports.sentences import sentence, summary


def sentence_of(comparison: ComparisonResult, name: str):
    return sentence(comparison, next(row for row in comparison.rows if row.name == name))


def test_sentence_states_a_verdict_with_its_figures(tmp_path):
    comparison = make_comparison(
        tmp_path,
        {
            "none": BASE,
            "se": (9.0, 10.1, 7.9),
            "eca": (11.0, 12.0, 10.1),
            "gc": (13.0, 14.1, 11.9),
            "sk": (10.8, 12.3, 9.7),
        },
    )
    better, worse, open_ = (sentence_of(comparison, name) for name in ("se", "gc", "sk"))
    found = comparison.verdicts["se"]
    assert (better.kind, better.label) == ("better", "better")
    assert better.why.startswith(
        "On average 2.00 percentage points better than the baseline (none, error 11.00 %); 95 %"
    )
    assert f"95 % interval +{found.ci_low:.2f} to +{found.ci_high:.2f}, n = 3 seeds." in better.why
    assert better.why.endswith(f"Two trainings of none differ by up to {found.limit:.2f} points.")
    assert better.costs.startswith("It costs 1.10 times the milliseconds and 1.05 times the parameters of the baseline")
    assert worse.kind == "worse"
    assert "2.00 percentage points worse" in worse.why
    needed = comparison.verdicts["sk"].seeds_needed
    assert (open_.kind, open_.label) == ("open", f"cannot tell, needs about {needed} seeds")
    assert open_.why.endswith(f"{needed} seeds would decide with a probability of 80 % or more.")
    none = sentence_of(comparison, "none")
    assert none.why == "Its error is 11.00 % ± 1.00 (mean and standard deviation, n = 3 seeds)."
    assert none.costs == "It costs 10.0 ms for 64 images, 1,000 parameters."


def test_sentence_states_why_a_contender_failed(tmp_path):
    comparison = make_comparison(tmp_path, {"none": BASE, "se": ("no room",) * 3, "eca": (9.0, "nan", 8.0)})
    assert sentence_of(comparison, "se").label == "failed"
    assert sentence_of(comparison, "se").failed == ["All 3 seeds failed: no room"]
    few = sentence_of(comparison, "eca")
    assert few.kind == "few"
    assert few.failed == ["Seed 1 failed: nan"]
    assert "fewer than three: there is no interval" in few.why


def test_sentence_judges_nothing_without_a_baseline(tmp_path):
    comparison = make_comparison(tmp_path, {"none": ("no",) * 3, "se": BASE})
    assert sentence_of(comparison, "se").kind == "alone"
    assert (
        "Its error is 11.00 % ± 1.00, n = 3 seeds; it has no finished seed in common with none"
        in sentence_of(comparison, "se").why
    )


def test_sentence_states_how_large_a_difference_can_be(tmp_path):
    """Half an image in 10,000 is the smallest standard deviation: 0.005 points; c of one contender is 3.5."""
    same = sentence_of(make_comparison(tmp_path, {"none": BASE, "eca": BASE}), "eca")
    assert (same.kind, same.label) == ("same", "no difference, at most 0.015 points")
    assert "95 % interval \u22120.01 to +0.01" in same.why


def test_sentence_states_why_a_contender_is_unstable(tmp_path):
    comparison = make_comparison(tmp_path, {"none": BASE, "eca": BASE, "gc": BASE, "se": (10.0, 60.0, 9.0)})
    unstable = sentence_of(comparison, "se")
    assert (unstable.kind, unstable.label) == ("unstable", "unstable")
    assert "It is not judged: beside what the seeds share, its standard deviation is" in unstable.why
    assert "3 contenders against the baseline: 0 better" in summary(comparison)
    assert summary(comparison).endswith("2 without a difference, 1 unstable.")
