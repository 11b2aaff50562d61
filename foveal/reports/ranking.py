"""Order of the contenders of a comparison, best verdict first, and what each is: attention, or the plain network."""

from collections.abc import Iterable

from foveal.comparison.compare import ComparisonResult, ContenderResult
from foveal.comparison.plan import Plan

ORDER = {  # of the kinds of rows
    "better": 0, "same": 1, "open": 1, "few": 1, "worse": 2, "unstable": 3, "alone": 4, "failed": 5, "baseline": 6,
    "twin": 7,
}  # fmt: skip


def baseline_row(comparison: ComparisonResult) -> ContenderResult:
    """Return the baseline's results."""
    return next(row for row in comparison.rows if row.name == comparison.plan.baseline)


def kind_of(comparison: ComparisonResult, row: ContenderResult) -> str:
    """Return the kind of a row: that of its verdict, "baseline", "twin", "failed", or "alone" without a verdict.

    A contender is "failed" if all its seeds failed, and "alone" if no finished seed is in common with the baseline.
    """
    if row.name == comparison.plan.baseline:
        return "baseline"
    if row.name == comparison.plan.twin:
        return "twin"
    if not row.errors:
        return "failed"
    verdict = comparison.verdicts.get(row.name)
    return verdict.kind if verdict else "alone"


def ranked(comparison: ComparisonResult) -> list[ContenderResult]:
    """Sort the rows by kind of verdict, then by decreasing difference; the baseline and its twin are last."""

    def place(row: ContenderResult) -> tuple[int, float]:
        verdict = comparison.verdicts.get(row.name)
        return ORDER[kind_of(comparison, row)], -verdict.mean if verdict else 0.0

    return sorted(comparison.rows, key=place)


def has_attention(plan: Plan, name: str) -> bool:
    """Return True if a contender adds attention to the backbone, False for the plain network of any size."""
    return plan.models[name].removeprefix(plan.config.backbone).startswith("+")


def listed(names: Iterable[str]) -> str:
    """Join names in a sentence: "a, b and c"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def counted(count: int, what: str) -> str:
    """Format a number with its noun in singular or plural."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def signed(value: float, digits: int = 2) -> str:
    """Format a number with its sign."""
    return f"{value:+.{digits}f}".replace("-", "\u2212")


def times(comparison: ComparisonResult, row: ContenderResult) -> str:
    """Format the inference time of a contender as a ratio to that of the baseline."""
    return f"{row.cost.batch / baseline_row(comparison).cost.batch:.2f}"
