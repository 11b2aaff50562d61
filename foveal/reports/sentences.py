"""A comparison in words: what can be said of each contender, with the figures that allow it and what it costs."""

from dataclasses import dataclass
from math import isfinite

from foveal.comparison.compare import ComparisonResult, ContenderResult
from foveal.comparison.verdicts import FEWEST, POWER, TOO_FEW, Verdict
from foveal.profiling.costs import BATCH

KINDS = {"better": "better", "worse": "worse", TOO_FEW: "few"}  # of verdicts; else "same"


def summary(comparison: ComparisonResult) -> str:
    """What was compared, and in how many cases something can be said."""
    plan, verdicts = comparison.plan, comparison.verdicts.values()
    told = (
        f"{counted(len(comparison.rows), 'contender')} in {plan.config.backbone}, "
        f"{counted(plan.config.seeds, 'seed')}, {counted(plan.config.epochs, 'epoch')}, one recipe for all."
    )
    if not any(row.errors for row in comparison.rows):
        return f"{told} Every run failed: there is nothing to compare."
    kinds = [KINDS.get(each.label, "same") for each in verdicts]
    found = {kind: kinds.count(kind) for kind in ("better", "worse", "same", "few")}
    words = {
        "better": "better than the baseline",
        "worse": "worse",
        "same": "without a difference that was found",
        "few": "with too few seeds to say",
    }
    said = ", ".join(f"{count} {words[kind]}" for kind, count in found.items() if count or kind == "better")
    return f"{told} Of {len(kinds)} that can be judged: {said}." if kinds else told


def counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class Sentence:
    """What is said of a contender."""

    name: str
    kind: str  # baseline, better, worse, same, few, failed, alone
    label: str
    why: str
    costs: str
    failed: list[str]


def sentence(comparison: ComparisonResult, row: ContenderResult) -> Sentence:
    plan, verdict = comparison.plan, comparison.verdicts.get(row.name)
    base = next(each for each in comparison.rows if each.name == plan.baseline)
    failed = [f"{who(seeds, plan.config.seeds)} failed: {reason}" for reason, seeds in reasons(row).items()]
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
    if verdict is None:
        why = f"{error}, {seeds}; it shares no finished seed with {base.name}."
        return Sentence(row.name, "alone", "not judged", why, ratios, failed)
    kind, says = KINDS.get(verdict.label, "same"), verdict.label
    if kind == "same":
        says = says.replace(" was found", " points was found")
    return Sentence(row.name, kind, says, because(verdict, base), ratios, failed)


def reasons(row: ContenderResult) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for seed, reason in row.failed.items():
        found.setdefault(reason, []).append(seed)
    return found


def who(seeds: list[int], of: int) -> str:
    every = "The only seed" if of == 1 else f"All {of} seeds"
    return every if len(seeds) == of else f"Seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def because(verdict: Verdict, base: ContenderResult) -> str:
    """The figures under a verdict, in words."""
    way = "better" if verdict.mean >= 0 else "worse"
    against = f"the baseline ({base.name}, error {base.mean:.2f} %)"
    mean = f"On average {abs(verdict.mean):.2f} percentage points {way} than {against}"
    seeds = f"n = {counted(verdict.seeds, 'seed')}"
    if not isfinite(verdict.ci_low):
        spread = (
            "fewer than three"
            if verdict.seeds < FEWEST
            else "differences that are all alike, so their spread is unknown"
        )
        return f"{mean}; {seeds}, {spread}: no interval, and no difference that such a design could have seen."
    if verdict.min_detectable == 0:
        return f"{mean}; {seeds}, the same error as {base.name} in each of them."
    interval = f"{100 * verdict.level:.3g} % interval {signed(verdict.ci_low)} to {signed(verdict.ci_high)}"
    return (
        f"{mean}; {interval}, {seeds}. The smallest difference that this design would have seen with a probability of "
        f"{100 * POWER:.0f} % is {verdict.min_detectable:.2f} points."
    )


def signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "\u2212")
