"""The page of a comparison, in a browser and as text."""

from dataclasses import replace

import pytest
import torch
from browser import check_page, chromium, opened
from comparisons import BASE, make_comparison
from PIL import Image

from foveal.cli.main import app
from foveal.comparison.examine import Examination
from foveal.evaluation.audit import AuditResult
from foveal.evaluation.findings import Finding
from foveal.evaluation.metrics import Interval
from foveal.evaluation.score import AblationResult, LocalizationResult, ScoreResult
from foveal.reports import comparison_page as report
from foveal.reports.comparison_page import by_class, command, write_report
from foveal.reports.look import look
from foveal.training.config import CompareConfig


def test_by_class_shows_the_classes_that_differ_most(tmp_path):
    held = by_class(make_comparison(tmp_path, {"none": BASE, "se": BASE}, classes=100))
    assert held.of == 100
    assert [label for label, _, _ in held.rows] == [f"class {at}" for at in range(80, 100)]
    label, recall, cells = held.rows[-1]
    assert (label, recall) == ("class 99", "90.0")
    assert cells == [("\u22129.9", "rgba(230, 159, 0, 0.60)")]  # 0.001 * 99, the largest


def test_by_class_leaves_a_class_empty_that_no_test_part_of_a_contender_has(tmp_path):
    made = make_comparison(tmp_path, {"none": BASE, "se": BASE, "eca": BASE})
    none, se, eca = made.rows
    rows = (
        replace(none, recall={"a": 0.5, "b": 0.5, "c": 0.5}),
        replace(se, recall={"a": 0.4}),
        replace(eca, recall={"a": 0.45, "b": 0.7}),
    )
    made = replace(made, rows=rows)
    assert by_class(made).rows == [
        ("a", "50.0", [("\u221210.0", "rgba(230, 159, 0, 0.30)"), ("\u22125.0", "rgba(230, 159, 0, 0.15)")]),
        ("b", "50.0", [("", "none"), ("+20.0", "rgba(0, 114, 178, 0.60)")]),
        ("c", "50.0", [("", "none"), ("", "none")]),
    ]


CHANGES = {
    "config": CompareConfig(
        data="folder:/my images/birds", epochs=3, lr=0.001, channels_last=False, amp=True, backbone="resnet18", seeds=5,
        tune=4,
    ),
    "given": ("none", "twin=none", "sk:groups=8", "two=stn+se", "wide=wider:match=ms", "deeper:match=macs"),
}  # fmt: skip


def test_command_reproduces_the_plan(tmp_path):
    import shlex

    plan = replace(make_comparison(tmp_path, {"none": BASE}).plan, **CHANGES)
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
    """Results of an audit and a score, as stored in a comparison."""
    lost = Interval(0.031, 0.02, 0.042)
    audit = AuditResult({"features.0.attention": 0.04}, [Finding("features.0.attention", "constant", 1e-9)], 500)
    located = LocalizationResult("features.0.attention", "pointing", "all", 1500, lost, lost, lost)
    score = ScoreResult(0.9, 1500, (located,), (), (AblationResult("features.0.attention", "mean", lost),))
    return Examination(audit, score)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Page with a better contender, a failed one, and one without a picture."""
    folder = tmp_path_factory.mktemp("cmp")
    held = make_comparison(
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

    def look_at(run: str, *_):
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


def table(shown, title: str):
    return shown.get_by_role("region", name=title, exact=True).locator(".sortable")


def names(shown) -> list[str]:
    return table(shown, "Results").locator("tbody tr > :nth-child(1)").all_inner_texts()


@pytest.mark.parametrize("width", [1280, 390])
def test_write_report_shows_in_a_browser(page, width, browser):
    with opened(browser, page, width) as shown:
        check_page(shown)
        headings = shown.locator("h2").all_inner_texts()
        assert headings == [
            "Differences from the baseline", "Learned attention", "Results and costs", "Accuracy against cost",
            "Learning curves", "Recall by class", "Pairs of trained networks", "Settings and environment",
        ]  # fmt: skip
        assert (
            shown.locator(".lead").inner_text().startswith("On digits in small_cnn, se pays: error 2.00 points lower")
        )
        assert shown.locator(".lead + ul li strong").all_inner_texts() == [
            "se: better.", shown.locator(".open strong").inner_text(), "sk: failed.", "none: the baseline.",
        ]  # fmt: skip
        assert shown.locator("h3").all_inner_texts()[0] == "se"
        assert "All 3 seeds failed: no <room>" in shown.locator(".failed").inner_text()
        assert "Fault: constant" in shown.locator("body").inner_text()
        assert "There is no picture. ValueError: eca has no attention" in shown.locator("body").inner_text()
        assert "The audit and the score failed: OutOfMemoryError: no" in shown.locator("body").inner_text()
        differences, trade, *_ = shown.locator("figure img").all()
        assert "se +2.00, from" in differences.get_attribute("alt")
        for chart in (differences, trade):
            assert chart.bounding_box()["width"] == chart.evaluate("each => each.closest('body').clientWidth - 32")
        alt = trade.get_attribute("alt")
        assert "none 11.00 % at 10.0 ms; se 9.00 % at 11.0 ms; eca 11.67 % at 13.0 ms" in alt
        assert "Pareto front: none, se." in alt
        assert page.stat().st_size < 1_000_000


def test_write_report_sorts_by_click_and_key(page, browser):
    with opened(browser, page, 1280) as shown:
        assert names(shown) == ["se", "eca", "sk", "none"]
        heads = table(shown, "Results").locator("thead th")
        heads.nth(2).locator("button").click()
        assert names(shown) == ["se", "none", "eca", "sk"]
        assert heads.nth(2).get_attribute("aria-sort") == "ascending"
        heads.nth(2).locator("button").press("Enter")
        assert heads.nth(2).get_attribute("aria-sort") == "descending"
        assert names(shown) == ["eca", "none", "se", "sk"]  # what has no figure stays last
        heads.nth(0).locator("button").press("Space")
        assert names(shown) == ["eca", "none", "se", "sk"]
        assert heads.nth(2).get_attribute("aria-sort") is None
        table(shown, "Costs").locator("thead button").nth(3).click()
        assert heads.nth(0).get_attribute("aria-sort") == "ascending"  # another table is another order


def test_write_report_prints_folded_parts_and_whole_tables(page, browser):
    with opened(browser, page, 700) as shown:
        hidden = shown.locator("details table").last
        assert not hidden.is_visible()
        shown.emulate_media(media="print")
        assert hidden.is_visible()
        assert hidden.bounding_box()["height"] > 20
        for box in shown.locator(".wide").all():
            assert box.evaluate("each => each.scrollWidth <= each.clientWidth")


def test_write_report_reads_without_a_script(page, browser):
    context = browser.new_context(java_script_enabled=False)
    shown = context.new_page()
    shown.goto(page.as_uri())
    assert names(shown) == ["se", "eca", "sk", "none"]
    assert shown.locator("th button").count() == 0
    context.close()


def test_write_report_draws_the_first_seed_that_succeeded(tmp_path):
    """The runs have no weights: the reason names the file."""
    text = write_report(make_comparison(tmp_path, {"none": BASE, "se": ("no", 10.0, 9.0)})).read_text()
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
MARKS = pytest.mark.slow, [pytest.mark.slow, pytest.mark.exhaustive]


@pytest.mark.parametrize(
    "case",
    [case if case in FAST else pytest.param(case, marks=MARKS[case.startswith("many with")]) for case in EXTREMES],
)
def test_write_report_makes_a_valid_page_of_any_comparison(case, tmp_path, browser):
    errors, classes = EXTREMES[case]
    written = write_report(make_comparison(tmp_path / "cmp", errors, classes))
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
            assert "there is no answer: every run failed" in text
            assert shown.locator("img").count() == 0
        if case == "many classes":
            assert "These are the 20 of 100 classes" in text
