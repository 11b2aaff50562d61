"""Sentences that state a verdict."""

from comparisons import BASE, make_comparison

from foveal.comparison.compare import ComparisonResult
from foveal.reports.sentences import sentence


def sentence_of(comparison: ComparisonResult, name: str):
    return sentence(comparison, next(row for row in comparison.rows if row.name == name))


def test_sentence_states_a_verdict_with_its_figures(tmp_path):
    comparison = make_comparison(
        tmp_path, {"none": BASE, "se": (9.0, 10.1, 7.9), "eca": (11.5, 11.5, 10.0), "gc": (12.0, 13.1, 10.9)}
    )
    better, same, worse = (sentence_of(comparison, name) for name in ("se", "eca", "gc"))
    assert (better.kind, better.label) == ("better", "better")
    assert better.why.startswith(
        "On average 2.00 percentage points better than the baseline (none, error 11.00 %); 95 %"
    )
    assert "+1.75 to +2.25, n = 3 seeds." in better.why  # t = 4.303, s = 0.1: 2 -+ 4.303 * 0.1 / sqrt(3)
    assert f"80 % is {comparison.verdicts['se'].min_detectable:.2f} points" in better.why
    assert better.costs.startswith("It costs 1.10 times the milliseconds and 1.05 times the parameters of the baseline")
    assert same.kind == "same"
    assert same.label == f"no difference larger than {comparison.verdicts['eca'].label.split()[4]} points was found"
    assert worse.kind == "worse"
    assert "1.00 percentage points worse" in worse.why
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


def test_sentence_states_that_seeds_agree(tmp_path):
    comparison = make_comparison(tmp_path, {"none": BASE, "eca": BASE, "se": (10.0, 11.0, 9.0)})
    assert sentence_of(comparison, "eca").why.endswith("n = 3 seeds, the same error as none in each of them.")
    assert "all differences are equal, so their standard deviation is unknown" in sentence_of(comparison, "se").why
