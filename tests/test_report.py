"""The report of a comparison: its words, its plots' figures, and the page in a browser."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from browser import check_page, chromium, opened
from matplotlib.colors import to_rgb
from PIL import Image

from foveal.cli.main import app
from foveal.comparison.compare import ComparisonResult, ContenderResult, Examination
from foveal.comparison.plan import Plan
from foveal.comparison.verdicts import compute_verdicts, mcnemar
from foveal.evaluation.audit import AuditResult
from foveal.evaluation.findings import Finding
from foveal.evaluation.metrics import Interval
from foveal.evaluation.score import AblationResult, LocalizationResult, ScoreResult
from foveal.profiling.costs import Cost
from foveal.reports import comparison_page as report
from foveal.reports.charts import COLOURS, half_interval, looks, mean_curve, pareto
from foveal.reports.comparison_page import by_class, command, write_report
from foveal.reports.look import look
from foveal.reports.sentences import sentence
from foveal.training.config import CompareConfig

COST = Cost(1_000, 2_000_000, 0.5, 10.0, 20.0, 3_000_000, 4_000_000)
BASE = (11.0, 12.0, 10.0)


def compared(
    folder: Path, errors: dict[str, tuple[float | str, ...]], classes: int = 10, **changes
) -> ComparisonResult:
    """A comparison that nobody ran: of each contender the errors of its seeds, or why one failed."""
    seeds = len(next(iter(errors.values())))
    models = {name: "small_cnn" if name == "none" else f"small_cnn+{name}" for name in errors}
    costs = {name: replace(COST, parameters=1_000 + 50 * at, batch=10.0 + at) for at, name in enumerate(errors)}
    plan = Plan(folder, CompareConfig(data="digits", epochs=4, seeds=seeds), models, costs, dict.fromkeys(errors, 1.0))
    rows = []
    for at, (name, values) in enumerate(errors.items()):
        done = {seed: value for seed, value in enumerate(values) if isinstance(value, float)}
        recall = {f"class {label}": 0.9 - 0.001 * at * label for label in range(classes)} if done else {}
        failed = {seed: value for seed, value in enumerate(values) if isinstance(value, str)}
        rows.append(ContenderResult(name, models[name], 0.01, done, done, recall, costs[name], failed))
        for seed, value in done.items():
            run = plan.runs(name)[seed]
            run.mkdir(parents=True)
            lines = [
                {"epoch": epoch, "train_loss": 2 / epoch, "validation_accuracy": 1 - value / 100 / epoch, "seconds": 1}
                for epoch in range(1, 5)
            ]
            (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            (run / "split.json").write_text(
                json.dumps({"train": ["a"] * 3000, "validation": ["b"], "test": ["c", "d"]})
            )
    base = next(row for row in rows if row.name == plan.baseline).errors
    shared = {row.name: sorted(set(row.errors) & set(base)) for row in rows if row.name != plan.baseline}
    own = {row.name: row.errors for row in rows}
    verdicts = compute_verdicts(
        {name: [base[seed] - own[name][seed] for seed in seeds] for name, seeds in shared.items() if seeds}
    )
    pairs = {name: {seed: mcnemar([True, False], [True, True]) for seed in shared[name]} for name in verdicts}
    folder.mkdir(exist_ok=True)
    return ComparisonResult(replace(plan, **changes), tuple(rows), verdicts, pairs, 12.0)


def said_of(comparison: ComparisonResult, name: str):
    return sentence(comparison, next(row for row in comparison.rows if row.name == name))


def test_a_verdict_is_said_with_its_figures(tmp_path):
    held = compared(
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
    held = compared(tmp_path, {"none": BASE, "se": ("no room",) * 3, "eca": (9.0, "nan", 8.0)})
    assert said_of(held, "se").label == "failed"
    assert said_of(held, "se").failed == ["All 3 seeds failed: no room"]
    few = said_of(held, "eca")
    assert few.kind == "few"
    assert few.failed == ["Seed 1 failed: nan"]
    assert "fewer than three: there is no interval" in few.why


def test_without_a_baseline_nothing_is_judged(tmp_path):
    held = compared(tmp_path, {"none": ("no",) * 3, "se": BASE})
    assert said_of(held, "se").kind == "alone"
    assert (
        "Its error is 11.00 % ± 1.00, n = 3 seeds; it has no finished seed in common with none"
        in said_of(held, "se").why
    )


def test_seeds_that_are_alike_are_said_to_be(tmp_path):
    held = compared(tmp_path, {"none": BASE, "eca": BASE, "se": (10.0, 11.0, 9.0)})
    assert said_of(held, "eca").why.endswith("n = 3 seeds, the same error as none in each of them.")
    assert "all differences are equal, so their standard deviation is unknown" in said_of(held, "se").why


def test_the_pareto_front_by_thought():
    points = {"cheap": (1.0, 9.0), "good": (3.0, 5.0), "beaten": (3.0, 6.0), "dear": (4.0, 5.0), "twin": (1.0, 9.0)}
    assert pareto(points) == {"cheap", "good", "twin"}


def test_the_interval_of_a_mean_is_students():
    row = ContenderResult("se", "", 0.01, {0: 1.0, 1: 2.0, 2: 3.0}, {}, {}, COST)
    assert half_interval(row) == pytest.approx(4.302653 / 3**0.5, abs=1e-5)
    assert half_interval(replace(row, errors={0: 1.0, 1: 2.0})) is None


def test_a_mean_curve_is_over_the_seeds_that_have_the_epoch():
    assert mean_curve([{1: 4.0, 2: 2.0}, {1: 2.0}]) == {1: 3.0, 2: 2.0}


def test_contenders_have_colours_and_markers_of_their_own(tmp_path):
    held = compared(tmp_path, {"none": BASE, **{f"c{at}": BASE for at in range(20)}})
    assert len(set(looks(held).values())) == 21
    assert looks(held)["none"][0] == COLOURS[0]
    light = sorted(sum(to_rgb(colour)) for colour in COLOURS)
    assert len(set(light)) == len(COLOURS)


def test_classes_that_differ_most_are_shown(tmp_path):
    held = by_class(compared(tmp_path, {"none": BASE, "se": BASE}, classes=100))
    assert held.of == 100
    assert [label for label, _, _ in held.rows] == [f"class {at}" for at in range(80, 100)]
    label, recall, cells = held.rows[-1]
    assert (label, recall) == ("class 99", "90.0")
    assert cells == [("\u22129.9", "rgba(230, 159, 0, 0.60)")]  # 0.001 * 99, the largest


CHANGES = {
    "config": CompareConfig(
        data="folder:/my images/birds", epochs=3, lr=0.001, channels_last=False, amp=True, backbone="resnet18", seeds=5,
        tune=4,
    ),
    "given": ("none", "twin=none", "sk:groups=8", "two=stn+se", "wide=wider:match=ms", "deeper:match=macs"),
}  # fmt: skip


def test_the_command_plans_the_same_again(tmp_path):
    import shlex

    plan = replace(compared(tmp_path, {"none": BASE}).plan, **CHANGES)
    _, *words = shlex.split(command(plan))
    _, bound, *_ = app.parse_args(words, exit_on_error=False, print_error=False)
    given = bound.arguments
    assert given["contenders"] == plan.given
    assert {name: given[name] for name in ("settings", "output")} == {
        "settings": plan.config, "output": tmp_path,
    }  # fmt: skip
    usual = replace(plan, config=CompareConfig(), given=("se",))
    assert command(usual) == f"foveal compare se --output {tmp_path}"


def examined() -> Examination:
    """What an audit and a score say, as a comparison keeps it."""
    lost = Interval(0.031, 0.02, 0.042)
    audit = AuditResult({"features.0.attention": 0.04}, [Finding("features.0.attention", "constant", 1e-9)], 500)
    located = LocalizationResult("features.0.attention", "pointing", lost, lost, lost)
    score = ScoreResult(0.9, 1500, (located,), (), (AblationResult("features.0.attention", "mean", lost),))
    return Examination(audit, score)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Of one that is better, one that failed, and one of which a picture is missing."""
    folder = tmp_path_factory.mktemp("cmp")
    held = compared(
        folder / "cmp", {"none": BASE, "se": (9.0, 10.1, 7.9), "sk": ("no <room>",) * 3, "eca": (12.0, 13.1, 9.9)}
    )
    none, se, sk, eca = held.rows
    rows = (
        none,
        replace(se, examination=examined()),
        sk,
        replace(eca, examination=Examination(failed="OutOfMemoryError: no")),
    )
    Image.new("L", (32, 32), 99).save(folder / "a.png")
    picture = look("small_cnn+se", [str(folder / "a.png")])

    def look_at(run: str, images: list[str], most: int):
        if "eca" in run:
            raise ValueError("eca has no attention")
        return picture

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "look", look_at)
        torch.manual_seed(0)
        return write_report(replace(held, rows=rows))


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


def column(shown, table: int, at: int) -> list[str]:
    return shown.locator(".sortable").nth(table).locator(f"tbody tr > :nth-child({at})").all_inner_texts()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_the_report(page, width, browser):
    with opened(browser, page, width) as shown:
        check_page(shown)
        headings = shown.locator("h2").all_inner_texts()
        assert headings == [
            "Verdicts", "Results and costs", "Accuracy, cost and differences", "Learning curves", "Recall by class",
            "Learned attention", "Pairs of trained networks", "Settings and environment",
        ]  # fmt: skip
        assert shown.locator("#verdict + ul li strong").all_inner_texts() == [
            "none: the baseline.", "se: better.", "sk: failed.",
            shown.locator(".same strong").inner_text(),
        ]  # fmt: skip
        assert "All 3 seeds failed: no <room>" in shown.locator(".failed").inner_text()
        assert "Fault: constant" in shown.locator("body").inner_text()
        assert "There is no picture. ValueError: eca has no attention" in shown.locator("body").inner_text()
        assert "The audit and the score failed: OutOfMemoryError: no" in shown.locator("body").inner_text()
        alt = shown.locator("figure img").first.get_attribute("alt")
        assert "none 11.00 % at 10.0 ms; se 9.00 % at 11.0 ms; eca 11.67 % at 13.0 ms" in alt
        assert "Pareto front: none, se." in alt
        assert page.stat().st_size < 1_000_000


def test_a_browser_sorts_by_click_and_by_key(page, browser):
    with opened(browser, page, 1280) as shown:
        assert column(shown, 0, 1) == ["none", "se", "sk", "eca"]
        heads = shown.locator(".sortable").first.locator("thead th")
        heads.nth(1).locator("button").click()
        assert column(shown, 0, 1) == ["se", "none", "eca", "sk"]
        assert heads.nth(1).get_attribute("aria-sort") == "ascending"
        heads.nth(1).locator("button").press("Enter")
        assert heads.nth(1).get_attribute("aria-sort") == "descending"
        assert column(shown, 0, 1) == ["eca", "none", "se", "sk"]  # what has no figure stays last
        heads.nth(0).locator("button").press("Space")
        assert column(shown, 0, 1) == ["eca", "none", "se", "sk"]
        assert heads.nth(1).get_attribute("aria-sort") is None
        shown.locator(".sortable").nth(1).locator("thead button").nth(3).click()
        assert heads.nth(0).get_attribute("aria-sort") == "ascending"  # another table is another order


def test_paper_shows_what_is_folded_and_clips_no_table(page, browser):
    with opened(browser, page, 700) as shown:
        hidden = shown.locator("details table").last
        assert not hidden.is_visible()
        shown.emulate_media(media="print")
        assert hidden.is_visible()
        assert hidden.bounding_box()["height"] > 20
        for box in shown.locator(".wide").all():
            assert box.evaluate("each => each.scrollWidth <= each.clientWidth")


def test_without_a_script_the_tables_are_read_as_they_are(page, browser):
    context = browser.new_context(java_script_enabled=False)
    shown = context.new_page()
    shown.goto(page.as_uri())
    assert column(shown, 0, 1) == ["none", "se", "sk", "eca"]
    assert shown.locator("th button").count() == 0
    context.close()


def test_the_first_seed_that_did_not_fail_is_drawn(tmp_path):
    """There are no weights in these runs: the reason says which it looked for."""
    text = write_report(compared(tmp_path, {"none": BASE, "se": ("no", 10.0, 9.0)})).read_text()
    assert "se-1" in text
    assert "se-0" not in text


LONG = {f"{'a very long name ' * 4}number {at}": BASE for at in range(11)}
EXTREMES = {
    "all failed": ({"none": ("no",) * 3, "se": ("no",) * 3}, 10),
    "the baseline failed": ({"none": ("no",) * 3, "se": BASE}, 10),
    "one seed": ({"none": (11.0,), "se": (10.0,)}, 10),
    "one contender": ({"none": BASE}, 10),
    "no error": ({"none": (0.0, 0.0, 0.0), "se": (0.0, 0.0, 0.0)}, 10),
    "many with long names": ({"none": BASE, **LONG}, 10),
    "many with names that cannot break": ({"none": BASE, **{"x" * 90 + str(at): BASE for at in range(11)}}, 10),
    "many classes": ({"none": BASE, "se": (9.0, 10.1, 7.9)}, 100),
}


FAST = "all failed", "one seed"


@pytest.mark.parametrize(
    "case", [case if case in FAST else pytest.param(case, marks=pytest.mark.slow) for case in EXTREMES]
)
def test_any_comparison_has_a_good_page(case, tmp_path, browser):
    errors, classes = EXTREMES[case]
    written = write_report(compared(tmp_path / "cmp", errors, classes))
    with opened(browser, written, 390) as shown:
        assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert shown.locator(".verdicts li").count() == len(errors)
        for picture in shown.locator("img").all():
            assert picture.get_attribute("alt")
            picture.evaluate("each => each.decode()")
        text = shown.locator("body").inner_text()
        assert "nan" not in text
        assert "+inf" not in text
        if case == "all failed":
            assert "Every run failed" in text
            assert shown.locator("img").count() == 0
        if case == "many classes":
            assert "These are the 20 of 100 classes" in text
