"""Lines of the answer of a comparison."""

from dataclasses import replace
from types import SimpleNamespace

from comparisons import BASE, make_comparison

from foveal.comparison.compare import ComparisonResult
from foveal.reports.sentences import coverage, line, scope


def line_of(comparison: ComparisonResult, name: str):
    return line(comparison, next(row for row in comparison.rows if row.name == name))


def test_line_states_a_verdict_with_its_figures(tmp_path):
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
    better, worse, open_ = (line_of(comparison, name) for name in ("se", "gc", "sk"))
    found = comparison.verdicts["se"]
    assert (better.kind, better.label) == ("better", "better")
    assert better.figures == (
        f"+2.00 points (+{found.ci_low:.2f} to +{found.ci_high:.2f}), error 9.00 ± 1.10 %, time \u00d71.10, "
        "params \u00d71.05"
    )
    assert worse.kind == "worse"
    assert worse.figures.startswith("\u22122.00 points (\u2212")
    assert (open_.kind, open_.label) == (
        "open",
        f"cannot tell, needs about {comparison.verdicts['sk'].seeds_needed} seeds",
    )
    none = line_of(comparison, "none")
    assert (none.kind, none.label) == ("baseline", "the baseline")
    assert none.figures == "Error 11.00 ± 1.00 %, 10.0 ms for 64 images, 1,000 parameters"


def test_line_of_the_twin_states_how_much_the_baseline_differs_from_itself(tmp_path):
    made = make_comparison(tmp_path, {"none": BASE, "none again": (11.2, 11.5, "no"), "se": BASE})
    made = replace(made, plan=replace(made.plan, twin="none again"), verdicts={"se": made.verdicts["se"]})
    twin = line_of(made, "none again")
    assert (twin.kind, twin.label) == ("twin", "the same network")
    assert twin.figures == "Error 11.35 ± 0.21 %, up to 0.50 points from none in a seed"
    assert twin.remarks == ["Seed 2 failed: no"]


def test_line_states_why_a_contender_failed(tmp_path):
    comparison = make_comparison(tmp_path, {"none": BASE, "se": ("no room",) * 3, "eca": (9.0, "nan", 8.0)})
    failed, few = line_of(comparison, "se"), line_of(comparison, "eca")
    assert (failed.kind, failed.label, failed.remarks) == ("failed", "failed", ["All 3 seeds failed: no room"])
    assert "error" not in failed.figures.lower()
    assert (few.kind, few.label, few.remarks) == ("few", "too few seeds", ["Seed 1 failed: nan"])
    assert few.figures.startswith("+2.00 points, error 8.50 ± 0.71 %")  # means of seeds 0 and 2: 10.5 and 8.5


def test_line_judges_nothing_without_a_baseline(tmp_path):
    alone = line_of(make_comparison(tmp_path, {"none": ("no",) * 3, "se": BASE}), "se")
    assert (alone.kind, alone.label) == ("alone", "no verdict")
    assert alone.figures.startswith("Error 11.00 ± 1.00 %, time")


def test_line_states_how_large_a_difference_can_be(tmp_path):
    """Half an image in 10,000 is the smallest standard deviation: 0.005 points; c of one contender is 3.5."""
    same = line_of(make_comparison(tmp_path, {"none": BASE, "eca": BASE}), "eca")
    assert (same.kind, same.label) == ("same", "no difference, at most 0.015 points")
    assert same.figures.startswith("+0.00 points (\u22120.01 to +0.01)")


def test_line_states_why_a_contender_is_unstable(tmp_path):
    comparison = make_comparison(tmp_path, {"none": BASE, "eca": BASE, "gc": BASE, "se": (10.0, 60.0, 9.0)})
    unstable = line_of(comparison, "se")
    assert (unstable.kind, unstable.label) == ("unstable", "unstable")
    assert unstable.remarks[0].startswith("It is not judged: beside what the seeds share, its standard deviation is")


def test_scope_states_what_the_intervals_cover(tmp_path):
    made = make_comparison(tmp_path / "a", {"none": BASE, "se": BASE})
    size, differences, covers = scope(made)
    assert size == "2 contenders, 3 seeds, 4 epochs, one recipe."
    assert differences.startswith("Differences are from none, in percentage points")
    assert covers.endswith("It covers the noise of training, not the choice of images: all seeds share one split.")
    assert len(list(scope(make_comparison(tmp_path / "b", {"none": BASE[:2], "se": BASE[:2]})))) == 2  # no interval
    assert len(list(scope(make_comparison(tmp_path / "c", {"none": BASE})))) == 1


def test_coverage_with_a_split_for_each_seed():
    plan = SimpleNamespace(config=SimpleNamespace(resplit=True))
    assert coverage(plan).startswith("It covers the noise of training and the choice of images")
