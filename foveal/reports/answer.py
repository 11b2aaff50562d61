"""Answer of a comparison in words: which attention pays, by how much, at what cost.

It states what the verdicts state, no more: each compares a contender with the baseline, no two contenders with each
other. A control is the plain network, larger or the same.
"""

from collections.abc import Iterator, Mapping

from foveal.comparison.compare import ComparisonResult, ContenderResult
from foveal.comparison.plan import Plan
from foveal.comparison.verdicts import FEWEST
from foveal.reports.ranking import baseline_row, has_attention, kind_of, listed, ranked, times

JUDGED = {"better", "same", "open", "worse"}
REST = {  # by kind of row: what is said of one contender, and of several
    "worse": ("{} is worse.", "{} are worse."),
    "same": ("For {} there is no difference.",) * 2,
    "open": ("For {} the comparison cannot tell.",) * 2,
    "few": ("{} has too few seeds.", "{} have too few seeds."),
    "unstable": ("{} is not judged: a run diverged.", "{} are not judged: runs diverged."),
    "alone": (
        "{} has no finished seed in common with the baseline.",
        "{} have no finished seed in common with the baseline.",
    ),
    "failed": ("{} failed.",) * 2,
}

Rows = list[ContenderResult]


def answer(comparison: ComparisonResult) -> str:
    """Write which attention pays, or why there is no answer, then what was found of the other contenders."""
    plan = comparison.plan
    found: dict[str, Rows] = {}
    for row in ranked(comparison):
        found.setdefault(kind_of(comparison, row), []).append(row)
    judged = bool(JUDGED & set(found))
    first = headline(comparison, found) if judged else no_answer(comparison, found)
    if not judged and says_it_of_all(comparison):
        found = {}
    parts = [first, *rest(found), *not_tested(plan, found)]
    return f"On {plan.config.data} in {plan.config.backbone}, {' '.join(parts)}"


def headline(comparison: ComparisonResult, found: Mapping[str, Rows]) -> str:
    """Write which contenders are better than the baseline, by how much and at what cost."""
    plan, better = comparison.plan, found.get("better", [])
    attention, controls = split(plan, better)
    than = f"is better than {plan.baseline}", f"are better than {plan.baseline}"
    if not better:
        others = set(found) - {"baseline", "twin"}
        shown = "is" if others <= {"same", "worse"} else "is shown to be"
        return f"no {noun(plan)} {shown} better than {plan.baseline}."
    if has_attention(plan, plan.baseline):
        return claim(comparison, better, *than)
    the = f"The control{'s' * (len(controls) > 1)}"
    if not attention:
        return f"no attention is shown to pay. {the} {claim(comparison, controls, *than)}"
    if not controls:
        return claim(comparison, attention, "pays", "pay")
    too = claim(comparison, controls, "is better too", "are better too")
    return f"{claim(comparison, attention, *than)} {the} {too}"


def noun(plan: Plan) -> str:
    """Return what the contenders are called together."""
    attention = any(has_attention(plan, name) for name in plan.models if name != plan.baseline)
    return "attention" if attention and not has_attention(plan, plan.baseline) else "contender"


def claim(comparison: ComparisonResult, rows: Rows, one: str, several: str) -> str:
    """Write that contenders are better, with the difference and the cost of each."""
    names = listed(row.name for row in rows)
    if len(rows) == 1:
        return f"{names} {one}: {gain(comparison, rows[0])}."
    return f"{names} {several}: {'; '.join(f'{row.name}, {gain(comparison, row)}' for row in rows)}."


def gain(comparison: ComparisonResult, row: ContenderResult) -> str:
    """Write by how much a contender is better, with its interval and its time."""
    verdict = comparison.verdicts[row.name]
    interval = f"{verdict.ci_low:.2f} to {verdict.ci_high:.2f}"
    lower = f"{comparison.plan.measure.error} {verdict.mean:.2f} points lower"
    return f"{lower} ({interval}), at {times(comparison, row)} times the inference time"


def no_answer(comparison: ComparisonResult, found: Mapping[str, Rows]) -> str:
    """Write why no contender was judged."""
    plan = comparison.plan
    if not any(row.errors for row in comparison.rows):
        return "there is no answer: every run failed."
    if not baseline_row(comparison).errors:
        return f"there is no answer: every run of the baseline, {plan.baseline}, failed."
    if set(found) <= {"baseline", "twin"}:
        return f"there is nothing to compare with {plan.baseline}."
    if plan.config.seeds < FEWEST:
        return f"there is no answer: a verdict needs {FEWEST} seeds or more."
    return f"there is no answer: {unstable_baseline(comparison) or 'no contender was judged'}."


def unstable_baseline(comparison: ComparisonResult) -> str:
    """Return why the baseline or its twin is unstable, as the verdicts state it; "" if neither is."""
    names = (name for name in (comparison.plan.baseline, comparison.plan.twin) if name)
    starts = tuple(f"{name}, the baseline, is unstable" for name in names)
    return next((each.reason for each in comparison.verdicts.values() if each.reason.startswith(starts)), "")


def says_it_of_all(comparison: ComparisonResult) -> bool:
    """Return True if the reason why there is no answer holds for every contender."""
    few = comparison.plan.config.seeds < FEWEST
    return few or not baseline_row(comparison).errors or bool(unstable_baseline(comparison))


def rest(found: Mapping[str, Rows]) -> Iterator[str]:
    """Write what was found of the contenders that are not better, a sentence for each kind."""
    for kind, (one, several) in REST.items():
        names = [row.name for row in found.get(kind, [])]
        if names:
            yield (several if len(names) > 1 else one).format(listed(names))


def not_tested(plan: Plan, found: Mapping[str, Rows]) -> Iterator[str]:
    """Write that attention that is better than the baseline was not tested against the controls."""
    attention, _ = split(plan, found.get("better", []))
    _, controls = split(plan, [row for kind in JUDGED for row in found.get(kind, [])])
    if attention and controls:
        names, others = (listed(row.name for row in rows) for rows in (attention, controls))
        was = "were" if len(attention) > 1 else "was"
        yield f"{names} {was} not tested against {others}, only against {plan.baseline}."


def split(plan: Plan, rows: Rows) -> tuple[Rows, Rows]:
    """Split rows into those with attention, and the controls: plain networks."""
    attention = [row for row in rows if has_attention(plan, row.name)]
    return attention, [row for row in rows if row not in attention]
