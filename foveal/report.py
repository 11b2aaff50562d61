"""A comparison as one self-contained HTML page: what it says first, then its figures, and at the end how it was made.

The page asks for nothing but itself. A script of a few lines sorts its tables; without it they are read as they are.
"""

import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from foveal.auditing import Audit
from foveal.charts import accuracy_against_cost, finished, learning_curves, paired_differences
from foveal.comparing import Comparison, Row
from foveal.costs import BATCH
from foveal.drawing import Picture
from foveal.findings import Finding
from foveal.looking import look
from foveal.machine import machine
from foveal.plans import BACKBONE, SEEDS, Plan, control_of, network_name
from foveal.settings import Recipe
from foveal.tables import costs_table, results_table, write_tables
from foveal.templates import fill
from foveal.training import read_lines
from foveal.verdicts import POWER, TOO_FEW, Verdict

IMAGES = 6  # drawn for each contender
CLASSES = 20  # of which differences are shown
KINDS = {"better": "better", "worse": "worse", TOO_FEW: "few"}  # of verdicts; else "same"
SHADES = {True: "0, 114, 178", False: "230, 159, 0"}  # blue where it is better, else orange


def write_report(comparison: Comparison) -> Path:
    """Write `report.html` into the comparison's folder, beside its tables and each contender's picture; its path."""
    write_tables(comparison)
    plan, done = comparison.plan, finished(comparison)
    page = fill(
        "report.html",
        title=f"Attention on {plan.recipe.data}",
        lead=lead(comparison),
        sentences=[sentence(comparison, row) for row in comparison.rows],
        results=results_table(comparison),
        costs=costs_table(comparison),
        batch=BATCH,
        trade=accuracy_against_cost(comparison) if done else None,
        differences=paired_differences(comparison) if comparison.verdicts else None,
        error_curves=learning_curves(comparison, "validation error, %"),
        loss_curves=learning_curves(comparison, "training loss"),
        classes=by_class(comparison),
        learned=[learned_of(plan, row) for row in comparison.rows if row.learned],
        pairs=pairs_table(comparison),
        command=command(plan),
        made=made(comparison),
        files=[name for name in ("results.csv", "results.json", "results.md") if (plan.folder / name).is_file()],
    )
    path = plan.folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def lead(comparison: Comparison) -> str:
    """What was compared, and in how many cases something can be said."""
    plan, verdicts = comparison.plan, comparison.verdicts.values()
    told = (
        f"{counted(len(comparison.rows), 'contender')} in {plan.backbone}, {counted(plan.seeds, 'seed')}, "
        f"{counted(plan.recipe.epochs, 'epoch')}, one recipe for all."
    )
    if not finished(comparison):
        return f"{told} Every run failed: there is nothing to compare."
    kinds = [KINDS.get(each.says, "same") for each in verdicts]
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
    says: str
    why: str
    costs: str
    failed: list[str]


def sentence(comparison: Comparison, row: Row) -> Sentence:
    plan, verdict = comparison.plan, comparison.verdicts.get(row.name)
    base = next(each for each in comparison.rows if each.name == plan.baseline)
    failed = [f"{who(seeds, plan.seeds)} failed: {reason}" for reason, seeds in reasons(row).items()]
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
    kind, says = KINDS.get(verdict.says, "same"), verdict.says
    if kind == "same":
        says = says.replace(" was found", " points was found")
    return Sentence(row.name, kind, says, because(verdict, base), ratios, failed)


def reasons(row: Row) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for seed, reason in row.failed.items():
        found.setdefault(reason, []).append(seed)
    return found


def who(seeds: list[int], of: int) -> str:
    every = "The only seed" if of == 1 else f"All {of} seeds"
    return every if len(seeds) == of else f"Seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def because(verdict: Verdict, base: Row) -> str:
    """The figures under a verdict, in words."""
    way = "better" if verdict.mean >= 0 else "worse"
    against = f"the baseline ({base.name}, error {base.mean:.2f} %)"
    mean = f"On average {abs(verdict.mean):.2f} percentage points {way} than {against}"
    seeds = f"n = {counted(verdict.seeds, 'seed')}"
    if not isfinite(verdict.low):
        spread = (
            "fewer than three" if verdict.seeds < 3 else "differences that are all alike, so their spread is unknown"
        )
        return f"{mean}; {seeds}, {spread}: no interval, and no difference that such a design could have seen."
    if verdict.seen == 0:
        return f"{mean}; {seeds}, the same error as {base.name} in each of them."
    interval = f"{100 * verdict.level:.3g} % interval {signed(verdict.low)} to {signed(verdict.high)}"
    return (
        f"{mean}; {interval}, {seeds}. The smallest difference that this design would have seen with a probability of "
        f"{100 * POWER:.0f} % is {verdict.seen:.2f} points."
    )


def signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "\u2212")


@dataclass(frozen=True)
class ByClass:
    """Recall of the baseline by class, and what each contender has more or less, in percentage points."""

    head: list[str]
    rows: list[tuple[str, str, list[tuple[str, str]]]]  # class, the baseline's recall, text and colour of each
    of: int  # classes in all


def by_class(comparison: Comparison) -> ByClass | None:
    rows = {row.name: row.recall for row in comparison.rows if row.recall}
    base = rows.pop(comparison.plan.baseline, None)
    if base is None or not rows:
        return None
    points = {label: [100 * (recall[label] - of) for recall in rows.values()] for label, of in base.items()}
    most = sorted(points, key=lambda label: -max(abs(each) for each in points[label]))[:CLASSES]
    largest = max((abs(each) for label in most for each in points[label]), default=0.0) or 1.0
    lines = [
        (label, f"{100 * base[label]:.1f}", [(signed(each, 1), shade(each / largest)) for each in points[label]])
        for label in base
        if label in most
    ]
    return ByClass(["class", f"{comparison.plan.baseline}, %", *rows], lines, len(base))


def shade(share: float) -> str:
    """A colour for a share of the largest difference, -1 to 1."""
    return f"rgba({SHADES[share > 0]}, {0.6 * abs(share):.2f})"


@dataclass(frozen=True)
class Learned:
    """What a contender's first seed learned."""

    name: str
    picture: Picture | None
    no_picture: str  # the reason
    failed: str
    audit: Audit | None
    located: list[list[str]]
    needed: list[list[str]]
    images: int  # of the score


def learned_of(plan: Plan, row: Row) -> Learned:
    picture, reason = picture_of(plan, row)
    said, score = row.learned.get("audit"), row.learned.get("score") or {}
    audit = Audit(said["places"], list(map(finding, said["findings"])), said["images"]) if said else None
    located = [
        [each["where"], each["metric"], *(interval(each[key]) for key in ("attention", "over_centred", "over_another"))]
        for each in score.get("located", [])
    ]
    needed = [[each["where"], each["instead"], interval(each["lost"], 100)] for each in score.get("needed", [])]
    failed = row.learned.get("failed", "")
    return Learned(row.name, picture, reason, failed, audit, located, needed, score.get("images", 0))


def finding(held: dict[str, Any]) -> Finding:
    return Finding(held["where"], held["what"], held["figure"], held["note"])


def picture_of(plan: Plan, row: Row) -> tuple[Picture | None, str]:
    """What the first seed attends to, also as a file; or why there is no picture."""
    folder = plan.runs(row.name)[0]
    try:
        picture = look(str(folder), [plan.recipe.data], IMAGES).picture
    except Exception as error:  # whatever it is: the page goes on, its runs took long
        return None, " ".join(f"{type(error).__name__}: {error}".split())
    picture.save(plan.folder / f"{folder.name}.png")
    return picture, ""


def interval(held: dict[str, float], times: float = 1.0) -> str:
    digits = 1 if times > 1 else 3
    mean, low, high = (f"{times * held[key]:.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})".replace("-", "\u2212")


def pairs_table(comparison: Comparison) -> list[list[str]]:
    """Head and rows: McNemar's test, seed by seed."""
    head = ["contender", "seed", "right alone", f"{comparison.plan.baseline} right alone", "p"]
    rows = [
        [name, str(seed), str(pair.gained), str(pair.lost), f"{pair.p:.3f}"]
        for name, by_seed in comparison.pairs.items()
        for seed, pair in by_seed.items()
    ]
    return [head, *rows] if rows else []


def command(plan: Plan) -> str:
    """The command that plans the same comparison: contenders, and the flags that differ from the defaults."""
    words = ["foveal", "compare", *(typed(plan.backbone, name, model) for name, model in plan.models.items())]
    if plan.backbone != BACKBONE:
        words += ["--backbone", plan.backbone]
    if plan.seeds != SEEDS:
        words += ["--seeds", str(plan.seeds)]
    if plan.tune:
        words += ["--tune", str(plan.tune)]
    for name, value in asdict(plan.recipe).items():
        if value != getattr(Recipe(), name):
            flag = name.replace("_", "-")
            words += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return shlex.join([*words, "--output", str(plan.folder)])


def typed(backbone: str, name: str, model: str) -> str:
    """A contender as the command takes it."""
    if control_of(name) or network_name(backbone, name) == model:
        return name
    if model == backbone:
        return f"{name}=none"
    attached = model.removeprefix(f"{backbone}+")
    if attached != model:
        return f"{name}={attached}"
    return f"{name}={'deeper' if 'extra_blocks' in model else 'wider'}"


def made(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """What to what it was, in words."""
    plan = comparison.plan
    for name, model in plan.models.items():
        yield f"Network of {name}", model
    yield "Split", split(plan)
    yield "Recipe", ", ".join(f"{name} {value}" for name, value in asdict(plan.recipe).items())
    if plan.tune:
        rates = ", ".join(f"{row.name} {row.lr:.3g}" for row in comparison.rows)
        yield f"Learning rates, of {counted(plan.tune, 'trial')} each", rates
    yield "Seeds", ", ".join(map(str, range(plan.seeds)))
    yield from machine().items()
    runs = [
        line["test"]["seconds"]
        for name in plan.models
        for folder in plan.runs(name)
        for line in read_lines(folder)
        if "test" in line
    ]
    yield (
        "Time",
        f"{comparison.seconds:.0f} s in the last call; training took {sum(runs):.0f} s in {counted(len(runs), 'run')}",
    )


def split(plan: Plan) -> str:
    """How many images are in each part, as the first run has them."""
    files = [folder / "split.json" for name in plan.models for folder in plan.runs(name)]
    held: dict[str, Any] = next((json.loads(file.read_text()) for file in files if file.is_file()), {})
    parts = [f"{len(held[part]):,} {part}" for part in ("train", "validation", "test") if part in held]
    left_out = f"; {counted(len(held['skipped']), 'file')} left out" if held.get("skipped") else ""
    return f"{', '.join(parts)} images, the same for all runs{left_out}" if parts else "no run wrote one"
