"""Text of a comparison's report: the verdict on each contender, its figures and its costs."""

from dataclasses import dataclass
from math import isfinite

from foveal.comparison.compare import ComparisonResult, ContenderResult
from foveal.comparison.verdicts import POWER, Verdict
from foveal.profiling.costs import BATCH

WORDS = {  # of the kinds of verdicts, after their number
    "better": "better",
    "worse": "worse",
    "same": "without a difference",
    "open": "undecided",
    "few": "with too few seeds",
    "unstable": "unstable",
}


def summary(comparison: ComparisonResult) -> str:
    """Summarize what was compared, and count the verdicts."""
    plan, verdicts = comparison.plan, comparison.verdicts.values()
    text = (
        f"{counted(len(comparison.rows) - (plan.twin is not None), 'contender')} in {plan.config.backbone}, "
        f"{counted(plan.config.seeds, 'seed')}, {counted(plan.config.epochs, 'epoch')}, one recipe for all."
    )
    if not any(row.errors for row in comparison.rows):
        return f"{text} Every run failed: there is nothing to compare."
    kinds = [each.kind for each in verdicts]
    found = {kind: kinds.count(kind) for kind in WORDS}
    counts = ", ".join(f"{count} {WORDS[kind]}" for kind, count in found.items() if count or kind == "better")
    return f"{text} {counted(len(kinds), 'contender')} against the baseline: {counts}." if kinds else text


def counted(count: int, what: str) -> str:
    """Format a number with its noun in singular or plural."""
    return f"{count} {what}{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class Sentence:
    """Text of the report on one contender."""

    name: str
    kind: str  # baseline, better, worse, same, open, few, unstable, failed, alone
    label: str
    why: str
    costs: str
    failed: list[str]


def sentence(comparison: ComparisonResult, row: ContenderResult) -> Sentence:
    """Write the text on one contender."""
    plan, verdict = comparison.plan, comparison.verdicts.get(row.name)
    base = next(each for each in comparison.rows if each.name == plan.baseline)
    failed = [f"{seeds_text(seeds, plan.config.seeds)} failed: {reason}" for reason, seeds in reasons(row).items()]
    price = f"{row.cost.batch:.1f} ms for {BATCH} images, {row.cost.parameters:,} parameters"
    ratios = (
        f"It costs {row.cost.batch / base.cost.batch:.2f} times the milliseconds and "
        f"{row.cost.parameters / base.cost.parameters:.2f} times the parameters of the baseline ({price})."
    )
    if not row.errors:
        return Sentence(row.name, "failed", "failed", "", "", failed)
    error = f"Its error is {row.mean:.2f} %" + (f" ± {row.spread:.2f}" if len(row.errors) > 1 else "")
    seeds = f"n = {counted(len(row.errors), 'seed')}"
    if row is base:
        why = f"{error} ({'mean and standard deviation, ' if len(row.errors) > 1 else ''}{seeds})."
        return Sentence(row.name, "baseline", "the baseline", why, f"It costs {price}.", failed)
    if row.name == plan.twin:
        between = [abs(base.errors[seed] - own) for seed, own in row.errors.items() if seed in base.errors]
        why = f"{error}, {seeds}: the same network with other initial weights"
        why += f" differs from itself by up to {max(between):.2f} percentage points." if between else "."
        return Sentence(row.name, "baseline", "the baseline, trained again", why, "", failed)
    if verdict is None:
        why = f"{error}, {seeds}; it has no finished seed in common with {base.name}."
        return Sentence(row.name, "alone", "no verdict", why, ratios, failed)
    return Sentence(row.name, verdict.kind, verdict.label, because(verdict, base), ratios, failed)


def reasons(row: ContenderResult) -> dict[str, list[int]]:
    """Group the failed seeds by reason."""
    found: dict[str, list[int]] = {}
    for seed, reason in row.failed.items():
        found.setdefault(reason, []).append(seed)
    return found


def seeds_text(seeds: list[int], total: int) -> str:
    """Name the seeds, as the subject of a sentence."""
    every = "The only seed" if total == 1 else f"All {total} seeds"
    return every if len(seeds) == total else f"Seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def because(verdict: Verdict, base: ContenderResult) -> str:
    """Describe the figures of a verdict."""
    direction = "better" if verdict.mean >= 0 else "worse"
    against = f"the baseline ({base.name}, error {base.mean:.2f} %)"
    mean = f"On average {abs(verdict.mean):.2f} percentage points {direction} than {against}"
    seeds = f"n = {counted(verdict.seeds, 'seed')}"
    if verdict.kind == "unstable":
        return f"{mean}; {seeds}. It is not judged: {verdict.reason}."
    if not isfinite(verdict.ci_low):
        return f"{mean}; {seeds}, fewer than three: there is no interval."
    interval = f"95 % interval {signed(verdict.ci_low)} to {signed(verdict.ci_high)}"
    text = f"{mean}; {interval}, {seeds}. Two trainings of {base.name} differ by up to {verdict.limit:.2f} points."
    if verdict.seeds_needed is None:
        return text
    return f"{text} {verdict.seeds_needed} seeds would decide with a probability of {100 * POWER:.0f} % or more."


def signed(value: float, digits: int = 2) -> str:
    """Format a number with its sign."""
    return f"{value:+.{digits}f}".replace("-", "\u2212")
