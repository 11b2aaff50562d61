"""Order of the contenders."""

from dataclasses import replace

from comparisons import BASE, make_comparison

from foveal.reports.ranking import has_attention, kind_of, listed, ranked


def test_ranked_puts_the_best_verdict_first_and_the_baseline_last(tmp_path):
    made = make_comparison(
        tmp_path,
        {
            "none": BASE, "sk": ("no",) * 3, "gc": (13.0, 14.1, 11.9), "eca": (10.8, 12.3, 9.7), "se": (9.0, 10.1, 7.9),
            "stn": (7.0, 8.1, 5.9), "ge": (9.0, "no", 8.0), "bam": (1.0, 60.0, 1.0),
        },
    )  # fmt: skip
    kinds = {row.name: kind_of(made, row) for row in ranked(made)}
    assert list(kinds) == ["stn", "se", "ge", "eca", "gc", "bam", "sk", "none"]
    assert list(kinds.values()) == ["better", "better", "few", "open", "worse", "unstable", "failed", "baseline"]


def test_has_attention_tells_networks_from_controls(tmp_path):
    plan = make_comparison(tmp_path, {"none": BASE}).plan
    plan = replace(plan, models={"none": "small_cnn", "wider": "small_cnn:width=1.1", "a": "small_cnn+se"})
    assert [has_attention(plan, name) for name in plan.models] == [False, False, True]


def test_listed_joins_names():
    assert [listed("a"), listed("ab"), listed("abc")] == ["a", "a and b", "a, b and c"]
