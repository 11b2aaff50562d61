"""Lines of a comparison's answer: verdict, difference, error and cost of each contender; what the intervals cover."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite

from foveal.comparison.compare import ComparisonResult, ContenderResult
from foveal.comparison.plan import Plan
from foveal.profiling.costs import BATCH
from foveal.reports.ranking import baseline_row, counted, kind_of, ranked, signed, times
from foveal.reports.tables import LABELS, TIMES, parameter_ratio


@dataclass(frozen=True)
class Line:
    """Line of the answer on one contender."""

    name: str
    kind: str  # see `kind_of`
    label: str
    figures: str
    remarks: list[str]  # why it is unstable, and which seeds failed


def lines(comparison: ComparisonResult) -> list[Line]:
    """Write a line for each contender, best verdict first; the baseline and its twin are last."""
    return [line(comparison, row) for row in ranked(comparison)]


def line(comparison: ComparisonResult, row: ContenderResult) -> Line:
    """Write the line of one contender."""
    kind, verdict = kind_of(comparison, row), comparison.verdicts.get(row.name)
    label = verdict.label if verdict else LABELS[kind]
    remarks = [f"It is not judged: {verdict.reason}."] if verdict and verdict.reason else []
    text = ", ".join(figures(comparison, row))
    return Line(row.name, kind, label, text[:1].upper() + text[1:], [*remarks, *failures(comparison, row)])


def figures(comparison: ComparisonResult, row: ContenderResult) -> Iterator[str]:
    """Yield difference, error and costs of a contender; of the twin how much it differs from the baseline."""
    verdict, kind = comparison.verdicts.get(row.name), kind_of(comparison, row)
    if verdict:
        interval = f" ({signed(verdict.ci_low)} to {signed(verdict.ci_high)})" if isfinite(verdict.ci_low) else ""
        yield f"{signed(verdict.mean)} points{interval}"
    if row.errors:
        yield f"{comparison.plan.measure.error} {row.mean:.2f}{f' ± {row.spread:.2f}' * (len(row.errors) > 1)} %"
    if kind == "baseline":
        yield f"{row.cost.batch:.1f} ms for {BATCH} images"
        yield f"{row.cost.parameters:,} parameters"
    elif kind == "twin":
        base = baseline_row(comparison)
        gaps = [abs(base.errors[seed] - own) for seed, own in row.errors.items() if seed in base.errors]
        if gaps:
            yield f"up to {max(gaps):.2f} points from {base.name} in a seed"
    else:
        yield f"time {TIMES}{times(comparison, row)}"
        yield f"params {TIMES}{parameter_ratio(comparison, row)}"


def failures(comparison: ComparisonResult, row: ContenderResult) -> list[str]:
    """Write which seeds of a contender failed, by reason."""
    found: dict[str, list[int]] = {}
    for seed, reason in row.failed.items():
        found.setdefault(reason, []).append(seed)
    return [f"{seeds_text(seeds, comparison.plan.config.seeds)} failed: {reason}" for reason, seeds in found.items()]


def seeds_text(seeds: list[int], total: int) -> str:
    """Name the seeds, as the subject of a sentence."""
    every = "The only seed" if total == 1 else f"All {total} seeds"
    return every if len(seeds) == total else f"Seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def scope(comparison: ComparisonResult) -> Iterator[str]:
    """Yield the size of the comparison, what the differences are from, and what the intervals cover."""
    plan, verdicts = comparison.plan, comparison.verdicts.values()
    contenders = counted(len(comparison.rows) - (plan.twin is not None), "contender")
    yield f"{contenders}, {counted(plan.config.seeds, 'seed')}, {counted(plan.config.epochs, 'epoch')}, one recipe."
    if verdicts:
        both = any(row.name == plan.twin and row.errors for row in comparison.rows)
        base = f"the mean of {plan.baseline} and {plan.twin}" if both else plan.baseline
        yield f"Differences are from {base}, in percentage points of {plan.measure.quality}: positive is better."
    if plan.measure.explained:
        yield plan.measure.explained
    if any(isfinite(each.ci_low) for each in verdicts):
        yield f"In brackets: the 95 % interval. {coverage(plan)}"


def coverage(plan: Plan) -> str:
    """Write what the intervals cover."""
    if plan.config.resplit:
        return "It covers the noise of training and the choice of images: each seed has a split of its own."
    return "It covers the noise of training, not the choice of images: all seeds share one split."
