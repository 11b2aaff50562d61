"""Simulated error rates and power of the rules for verdicts, written into docs/verdicts.md.

    python -m benchmarks.verdicts [--draws 25000] [--page docs/verdicts.md]

All rules judge the same simulated comparisons, and all designs and kinds of noise come from the same normal numbers.
The page's text between the two marks is replaced by the tables. It takes a few minutes on one core.
"""

import argparse
from collections.abc import Iterable
from math import sqrt
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.verdict_simulation import (
    CONTENDERS,
    RULES,
    SEEDS,
    SHIFT,
    Noise,
    by_floored_variances,
    without_unstable,
)
from foveal.comparison.twin_rule import (
    DRAWS,
    SEED,
    critical_value,
    estimate,
    inflation,
    null_maxima,
    rate_weights,
    unstable_arms,
)
from foveal.comparison.verdicts import LEVEL, POWER, compute_verdicts

BEGIN, END = "<!-- tables: python -m benchmarks.verdicts -->", "<!-- end of tables -->"
LABELLED = 1_000  # comparisons with labels, which are not computed in arrays
IMAGES = 10**6  # so many that rounding to whole images does not show

COLUMNS = (
    "rule", "equal", "contender 3x", "baseline 3x", "skewed", "heavy tails", "all diverge", "one diverges",
    "power, 2.5", "power, 3.5",
)  # fmt: skip


def main_tables(noise: Noise) -> str:
    """Tabulate the chance of any false verdict, and the power, for all designs."""
    cases = [
        (noise.normal, False), (noise.scaled(slice(2, 3), 3), False), (noise.scaled(slice(0, 2), 3), False),
        (noise.skewed, False), (noise.heavy, False), (noise.normal + SHIFT * noise.diverged, True),
        (noise.one_diverging(), True),
    ]  # fmt: skip
    moved = [noise.moved(2.5), noise.moved(3.5)]
    text = []
    for seeds in SEEDS:
        rows = []
        for contenders in CONTENDERS:
            for name, rules in RULES.items():
                false = [rules[diverges](each[:, : contenders + 2, :seeds]).any(1).mean() for each, diverges in cases]
                power = [rules[0](each[:, : contenders + 2, :seeds])[:, 0].mean() for each in moved]
                rows.append([str(contenders), name, *(f"{each:.3f}" for each in [*false, *power])])
        text.append(f"**{seeds} seeds**\n\n{table(['m', *COLUMNS], rows)}")
    return "\n".join(text)


def critical_table() -> str:
    """Tabulate critical values and lambda."""
    rows = [
        [name, str(m), *(f"{critical_value(null_maxima(m, seeds, baselines), LEVEL):.2f}" for seeds in SEEDS)]
        for name, baselines in (("rule B", 1), ("twin rule", 2))
        for m in CONTENDERS
    ]
    rows.append(["lambda(0.5)", "", *(f"{inflation(0.5, seeds):.2f}" for seeds in SEEDS)])
    return table(["", "m", *(f"{seeds} seeds" for seeds in SEEDS)], rows)


def unstable_table(noise: Noise) -> str:
    """Tabulate how often sound arms are called unstable."""
    rows = []
    for m in CONTENDERS:
        for seeds in SEEDS:
            kinds = noise.normal, noise.heavy, noise.scaled(slice(2, 3), 3)
            equal, heavy, large = (unstable_arms(each[:, : m + 2, :seeds]) for each in kinds)
            shares = equal.any(1).mean(), heavy.any(1).mean(), large[:, 2].mean()
            rows.append([str(m), str(seeds), *(f"{each:.4f}" for each in shares)])
    return table(["m", "seeds", "equal: any arm", "heavy tails: any arm", "contender 3x: this one"], rows)


def diverged_table(noise: Noise) -> str:
    """Tabulate what taking unstable arms away does where one run in ten of all arms diverges."""
    rows = []
    for m in (2, 5):
        for seeds in SEEDS:
            for shift in (SHIFT, 10 * SHIFT):
                errors = (noise.normal + shift * noise.diverged)[:, : m + 2, :seeds]
                unstable, hit = unstable_arms(errors), noise.diverged[:, : m + 2, :seeds].any(2)
                judged = ~unstable[:, 2:] & ~unstable[:, :2].any(1, keepdims=True)
                moved = errors.copy()
                moved[:, 2] -= 2.5
                figures = [
                    unstable[hit].mean(),
                    unstable[~hit].mean(),
                    judged[~hit[:, 2:]].mean(),
                    *(rule(errors, 2).any(1).mean() for rule in (by_floored_variances, without_unstable)),
                    *(rule(moved, 2)[:, 0].mean() for rule in (by_floored_variances, without_unstable)),
                ]
                rows.append([str(m), str(seeds), f"{shift:g}", *(f"{each:.3f}" for each in figures)])
    head = (
        "m", "seeds", "rise", "diverged arm: unstable", "sound arm: unstable", "sound contender: judged",
        "false, all arms", "false, without unstable", "power 2.5, all arms", "power 2.5, without unstable",
    )  # fmt: skip
    return table(head, rows)


def rates_table(noise: Noise) -> str:
    """Tabulate power and false verdicts where error rates differ, with and without weights by e (1 - e)."""
    seeds, rates = 3, np.array([6, 6, 6, 6, 9, 12, 15.0])  # twin, baseline, the moved one, an equal one, three others
    rows = []
    for name, spread in (
        ("in proportion to e (1 - e)", np.sqrt(rates * (100 - rates) / (6 * 94))),
        ("the same for all", np.ones(len(rates))),
    ):
        errors = rates[:, None] + 0.4 * spread[:, None] * noise.normal[:, : len(rates), :seeds]
        errors[:, 2] -= 2.5 * 0.4
        for weighted in (False, True):
            weights = rate_weights(errors, 2, IMAGES) if weighted else 1.0
            found = by_floored_variances(errors, 2, weights=weights)
            rows.append([name, "yes" if weighted else "no", f"{found[:, 0].mean():.3f}", f"{found[:, 1].mean():.3f}"])
    return table(["variance", "weights", "power, 2.5", "false verdict on the equal contender"], rows)


def whole_images_table(noise: Noise) -> str:
    """Tabulate false verdicts where errors are whole numbers of images, with the floor of half an image."""
    offset = np.linspace(0, 1, len(noise.normal))[:, None, None]  # the expected number lies anywhere between two
    rows = []
    for spread in (0.1, 0.25, 0.5, 1.0):
        figures = []
        for m, seeds in ((1, 3), (5, 3), (5, 10)):
            errors = np.round(20 + offset + spread * noise.normal[:, : m + 2, :seeds])
            figures += [by_floored_variances(errors, b, floor=0.25).any(1).mean() for b in (1, 2)]
        rows.append([f"{spread:g}", *(f"{each:.3f}" for each in figures)])
    designs = [f"m = {m}, n = {n}: {name}" for m, n in ((1, 3), (5, 3), (5, 10)) for name in ("rule B", "twin rule")]
    return table(["standard deviation, images", *designs], rows)


def words_table(noise: Noise) -> str:
    """Tabulate the labels of the first of five contenders by its true difference."""
    rows = []
    for name, arms in (("rule B", "ACDEFG"), ("twin rule", "ABCDEFG")):
        for seeds in SEEDS:
            for difference in (0.0, 1.0, 2.5):
                kinds, needed = [], []
                for drawn in noise.moved(difference)[:LABELLED, :7, :seeds]:
                    errors = {
                        arm: dict(enumerate(6 + 0.4 * own)) for arm, own in zip("ABCDEFG", drawn, strict=True)
                        if arm in arms
                    }  # fmt: skip
                    found = compute_verdicts(errors, "A", "B" if "B" in arms else None, images=IMAGES)["C"]
                    kinds.append(found.kind)
                    needed += [found.seeds_needed] if found.seeds_needed else []
                shares = (f"{kinds.count(kind) / len(kinds):.2f}" for kind in ("better", "worse", "same", "open"))
                middle = f"{np.median(needed):.0f}" if needed else ""
                rows.append([name, str(seeds), f"{difference:g}", *shares, middle])
    return table(["", "seeds", "true difference", "better", "worse", "no difference", "cannot tell", "median N"], rows)


def needed_table(noise: Noise) -> str:
    """Tabulate what the twin rule decides with N seeds, computed from the critical value at three."""
    rng, rows, m = np.random.default_rng(SEED + 2), [], 5
    critical = critical_value(null_maxima(m, 3, 2), LEVEL)
    repeatability = stats.norm.isf(LEVEL / 2) * sqrt(2)
    for size in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5):
        target = max(size, repeatability - size) / (critical + stats.norm.ppf(POWER))
        seeds = int(np.ceil(1.5 / target**2 + 2))
        errors = rng.standard_normal((len(noise.normal) // 4, m + 2, seeds))
        errors[:, 2] -= size
        found = estimate(errors, 2)
        half = critical_value(null_maxima(m, seeds, 2), LEVEL) * np.sqrt(found.variance[:, 0] / seeds)
        difference = np.abs(found.difference[:, 0])
        told = difference > half
        same = ~told & (difference + half <= repeatability * np.sqrt(found.pool))
        rows.append([f"{size:g}", str(seeds), *(f"{each.mean():.2f}" for each in (told, same, told | same))])
    return table(["true difference", "N", "better or worse", "no difference", "any of these"], rows)


def resplit_table(comparisons: int) -> str:
    """Tabulate the coverage of all intervals together where each seed has its own split of one set of images.

    The arms are nearest-mean classifiers on 12 of 20 features of two normal classes, each trained on a random half of
    the 200 training images; the test part has 100. The true difference is the mean over all simulated sets.
    """
    rng, arms, dimensions = np.random.default_rng(SEED + 3), 7, 20
    shift = np.linspace(0.1, 0.5, dimensions)
    used = np.array([rng.permutation(dimensions) < 12 for _ in range(arms)])
    used[1] = used[0]
    errors = np.empty((comparisons, arms, max(SEEDS)))
    for each in errors:
        labels = rng.integers(0, 2, 300)
        images = rng.standard_normal((300, dimensions)) + np.outer(2 * labels - 1, shift)
        for seed in range(max(SEEDS)):
            order = rng.permutation(300)
            train, test = order[:200], order[200:]
            for arm in range(arms):
                own = rng.permutation(train)[:100]
                means = [images[own[labels[own] == label]].mean(0) * used[arm] for label in (0, 1)]
                direction = means[1] - means[0]
                answers = (images[test] * used[arm] - (means[0] + means[1]) / 2) @ direction > 0
                each[arm, seed] = (answers != labels[test]).mean()
    truth = errors[:, :2].mean() - errors[:, 2:].mean((0, 2))
    rows = []
    for seeds in SEEDS:
        found = estimate(errors[..., :seeds], 2, floor=0.005**2)
        critical = critical_value(null_maxima(arms - 2, seeds, 2), LEVEL)
        shares = [
            (np.abs(found.difference - truth) <= critical * np.sqrt(found.variance * (1 / seeds + overlap))).all(1)
            for overlap in (0, 100 / 200)
        ]
        rows.append([str(seeds), *(f"{share.mean():.3f}" for share in shares)])
    return table(["seeds", "1 / n", "1 / n + test / training images"], rows)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Format a table as Markdown, figures to the right."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def tables(draws: int) -> str:
    """Make all tables, each with its caption."""
    noise = Noise(draws)
    error, most = sqrt(LEVEL * (1 - LEVEL) / draws), 0.5 / sqrt(draws)
    parts = [
        f"{draws:,} simulated comparisons for each figure: its standard error is {error:.4f} near 0.05 and at most "
        f"{most:.4f}. That of a critical value ({DRAWS:,} comparisons) adds "
        f"{sqrt(LEVEL * (1 - LEVEL) / DRAWS):.4f} to the former.\n",
        "### Any false verdict, and power\n", main_tables(noise),
        "### Critical values\n", critical_table(),
        "### Unstable arms\n\n"
        "How often arms without a diverged run are called unstable, beside a baseline and its twin.\n",
        unstable_table(noise),
        "### One run in ten diverges\n\n"
        "The twin rule; a diverged run of any arm rises by 10 or 100 standard deviations.\n",
        diverged_table(noise),
        "### Error rates that differ\n\n"
        "The twin rule at three seeds. The baseline and two contenders have an error of 6 %, "
        "three others of 9, 12 and 15 %; one of the two is then moved.\n",
        rates_table(noise),
        "### Few images\n\nAny false verdict, where errors are whole numbers of images.\n", whole_images_table(noise),
        f"### Words\n\n{LABELLED:,} comparisons for each line, of five contenders.\n", words_table(noise),
        "### Seeds that are needed\n\n"
        "The twin rule with five contenders: N from three seeds and a difference, and what N seeds then show.\n",
        needed_table(noise),
        "### A split for each seed\n\n"
        f"Probability that the intervals of five contenders hold all true differences, by the "
        f"factor of the variance; {max(LABELLED, draws // 20):,} sets of images, nearest-mean classifiers.\n",
        resplit_table(max(LABELLED, draws // 20)),
    ]  # fmt: skip
    return "\n".join(parts)


def main(arguments: list[str] | None = None) -> None:
    """Replace the tables of the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts", description=__doc__)
    parser.add_argument("--draws", type=int, default=25_000, help="simulated comparisons for each figure")
    parser.add_argument("--page", type=Path, default=Path(__file__).parents[1] / "docs/verdicts.md")
    options = parser.parse_args(arguments)
    before, _, rest = options.page.read_text().partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        parser.error(f"--page {options.page}: needs the lines {BEGIN!r} and {END!r}")
    options.page.write_text(f"{before}{BEGIN}\n\n{tables(options.draws)}\n{END}{after}")


if __name__ == "__main__":
    main()
