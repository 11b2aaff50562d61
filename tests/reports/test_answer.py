"""The answer of a comparison in words."""

from dataclasses import replace

import pytest
from comparisons import BASE, make_comparison

from foveal.comparison.verdicts import compute_verdicts
from foveal.reports.answer import answer

LOWER = (9.0, 10.1, 7.9)  # 2.00 points below BASE, in each seed within 0.1
LOWER_STILL = (7.1, 7.9, 6.0)
HIGHER = (12.9, 14.1, 12.0)
NEAR = (10.8, 12.3, 9.7)  # cannot tell beside the others
AGAIN = (11.05, 12.0, 9.95)


def compared(folder, errors, models=None, **changes):
    """Comparison whose contenders are networks of the given names."""
    made = make_comparison(folder, errors)
    plan = replace(made.plan, models={**made.plan.models, **(models or {})}, **changes)
    return replace(made, plan=plan)


WIDER = {"wider": "small_cnn:width=1.1"}
PLACE = "On digits in small_cnn, "


def test_answer_states_difference_interval_and_time_of_what_pays(tmp_path):
    made = compared(tmp_path, {"none": BASE, "stn": LOWER, "cbam": HIGHER, "sk": NEAR, "gc": ("no room",) * 3})
    verdict = made.verdicts["stn"]
    interval = f"{verdict.ci_low:.2f} to {verdict.ci_high:.2f}"
    assert [made.verdicts[name].kind for name in ("stn", "cbam", "sk")] == ["better", "worse", "open"]
    assert answer(made) == (
        f"{PLACE}stn pays: error 2.00 points lower ({interval}), at 1.10 times the inference time. "
        "cbam is worse. For sk the comparison cannot tell. gc failed."
    )


def test_answer_names_several_that_pay_best_first(tmp_path):
    text = answer(compared(tmp_path, {"none": BASE, "stn": LOWER, "se": LOWER_STILL, "eca": HIGHER, "gc": HIGHER}))
    assert text.startswith(f"{PLACE}se and stn pay: se, error 4.00 points lower (")
    assert "; stn, error 2.00 points lower (" in text
    assert text.endswith(" times the inference time. eca and gc are worse.")


def test_answer_does_not_compare_attention_with_a_control(tmp_path):
    errors = {"none": BASE, "stn": LOWER_STILL, "wider": NEAR, "se": HIGHER}
    assert answer(compared(tmp_path / "a", errors, WIDER)).endswith(
        "For wider the comparison cannot tell. stn was not tested against wider, only against none."
    )
    both = answer(compared(tmp_path / "b", {**errors, "wider": LOWER}, WIDER))
    assert both.startswith(f"{PLACE}stn is better than none: error 4.00 points lower")
    assert "The control wider is better too: error 2.00 points lower" in both
    assert "pay" not in both
    assert both.endswith("stn was not tested against wider, only against none.")


def test_answer_gives_attention_no_credit_for_a_control(tmp_path):
    text = answer(compared(tmp_path, {"none": BASE, "wider": LOWER, "se": HIGHER}, WIDER))
    assert text.startswith(f"{PLACE}no attention is shown to pay. The control wider is better than none: error 2.00")
    assert text.endswith(" times the inference time. se is worse.")


@pytest.mark.parametrize(
    ("errors", "text"),
    [
        ({"se": HIGHER, "eca": HIGHER}, "no attention is better than none. se and eca are worse."),
        ({"se": BASE}, "no attention is better than none. For se there is no difference."),
        ({"se": HIGHER, "eca": HIGHER, "sk": NEAR}, "no attention is shown to be better than none. se and eca are"),
        ({"se": HIGHER, "gc": ("no",) * 3}, "no attention is shown to be better than none. se is worse. gc failed."),
        ({"se": ("no",) * 3}, "there is no answer: no contender was judged. se failed."),
        ({"se": (9.0, "no", 8.0)}, "there is no answer: no contender was judged. se has too few seeds."),
        ({}, "there is nothing to compare with none."),
    ],
)
def test_answer_where_nothing_is_better(errors, text, tmp_path):
    assert answer(compared(tmp_path, {"none": BASE, **errors})).startswith(PLACE + text)


def test_answer_of_unstable_contenders(tmp_path):
    text = answer(compared(tmp_path, {"none": BASE, "eca": BASE, "gc": BASE, "se": (10.0, 60.0, 9.0)}))
    assert text.endswith("For eca and gc there is no difference. se is not judged: a run diverged.")


def test_answer_of_an_unstable_baseline(tmp_path):
    text = answer(compared(tmp_path, {"none": (10.0, 60.0, 9.0), "eca": BASE, "gc": BASE, "se": BASE}))
    assert text.startswith(f"{PLACE}there is no answer: none, the baseline, is unstable: beside what the seeds share, ")
    assert "not judged" not in text


@pytest.mark.parametrize("seeds", [1, 2])
def test_answer_needs_three_seeds(seeds, tmp_path):
    text = answer(compared(tmp_path, {"none": BASE[:seeds], "se": LOWER[:seeds], "gc": ("no",) * seeds}))
    assert text == f"{PLACE}there is no answer: a verdict needs 3 seeds or more."


def test_answer_without_a_baseline(tmp_path):
    assert answer(compared(tmp_path / "a", {"none": ("no",) * 3, "se": BASE})) == (
        f"{PLACE}there is no answer: every run of the baseline, none, failed."
    )
    assert answer(compared(tmp_path / "b", {"none": ("no",) * 3, "se": ("no",) * 3})) == (
        f"{PLACE}there is no answer: every run failed."
    )
    assert answer(compared(tmp_path / "c", {"none": (9.0, "no", "no"), "se": ("no", 9.0, 9.0)})).endswith(
        "no contender was judged. se has no finished seed in common with the baseline."
    )


def test_answer_against_attention_as_the_baseline(tmp_path):
    """Without the plain network, the first contender is the baseline: what pays is not known."""
    made = compared(tmp_path, {"none": BASE, "sk": LOWER}, {"none": "small_cnn+se"})
    assert made.plan.baseline == "none"
    assert answer(made).startswith(f"{PLACE}sk is better than none: error 2.00 points lower")


def test_answer_leaves_out_the_twin(tmp_path):
    errors = {"none": BASE, "none again": AGAIN, "stn": LOWER}
    made = compared(tmp_path, errors, {"none again": "small_cnn"}, twin="none again")
    by_seed = {name: dict(enumerate(values)) for name, values in errors.items()}
    made = replace(made, verdicts=compute_verdicts(by_seed, "none", "none again", images=10_000))
    assert answer(made).startswith(f"{PLACE}stn pays: error 2.00 points lower")
    assert "again" not in answer(made)
