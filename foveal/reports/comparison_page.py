"""Report of a comparison as one self-contained HTML page: the answer, pictures, tables, then how it was produced.

The page loads no other file. A short script sorts its tables; without scripts, the tables are in their original order.
"""

import json
import platform
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foveal.comparison.compare import ComparisonResult, ContenderResult
from foveal.comparison.examine import Examination
from foveal.comparison.plan import Plan
from foveal.core.files import write_file
from foveal.core.names import one_line, remark_lines
from foveal.evaluation.audit import AuditResult
from foveal.evaluation.metrics import Interval
from foveal.inspection.drawing.picture import Picture, save_pages
from foveal.profiling.environment import cores, gpus, processor, versions
from foveal.reports.answer import answer
from foveal.reports.charts import accuracy_against_cost, learning_curves, paired_differences
from foveal.reports.look import look
from foveal.reports.ranking import counted, ranked, signed
from foveal.reports.render import fill
from foveal.reports.sentences import coverage, lines, scope
from foveal.reports.tables import costs_table, results_table, write_tables
from foveal.training.config import CompareConfig
from foveal.training.run_folder import finished, read_times

IMAGES = 6  # images drawn for each contender
CLASSES = 20  # maximum number of classes in the table by class
SHADES = {True: "0, 114, 178", False: "230, 159, 0"}  # blue if better, orange if worse


def write_report(comparison: ComparisonResult) -> Path:
    """Write the report of a comparison to its folder.

    The folder then contains `report.html`, the tables `results.csv`, `results.json` and `results.md`, and a PNG picture
    of the attention of each contender. The report is one HTML file that loads no other file. For example,
    `foveal.write_report(foveal.compare(["none", "se"], seeds=3))`.

    Args:
        comparison (ComparisonResult): The result of `foveal.compare`.

    Returns:
        The path (`Path`) of `report.html`.

    Raises:
        OSError: If the folder `comparison.plan.folder` cannot be written.
    """
    write_tables(comparison)
    plan = comparison.plan
    page = fill(
        "report.html",
        title=f"Attention on {plan.config.data}",
        answer=answer(comparison),
        lines=lines(comparison),
        scope=list(scope(comparison)),
        results=results_table(comparison),
        costs=costs_table(comparison),
        trade=accuracy_against_cost(comparison),
        differences=paired_differences(comparison),
        error_curves=learning_curves(comparison, f"validation {plan.measure.error}, %"),
        loss_curves=learning_curves(comparison, "training loss"),
        classes=by_class(comparison),
        learned=[learned_of(plan, row) for row in ranked(comparison) if worth_showing(row)],
        pairs=pairs_table(comparison),
        measure=plan.measure,
        micro_batch=plan.config.micro_batch if plan.config.grad_accum_steps > 1 else None,
        command=command(plan),
        provenance=provenance(comparison),
        coverage=coverage(plan),
        files=[
            name
            for name in ("results.csv", "results.json", "results.md", "costs.json")
            if (plan.folder / name).is_file()
        ],
    )
    return write_file(plan.folder / "report.html", page)


@dataclass(frozen=True)
class ByClass:
    """Recall, or average precision, of the baseline by class, and each contender's difference in percentage points."""

    head: list[str]
    rows: list[tuple[str, str, list[tuple[str, str]]]]  # class, the baseline's figure, text and colour of each cell
    of: int  # total number of classes


def by_class(comparison: ComparisonResult) -> ByClass | None:
    """Build the table by class, with the classes that differ most; None without figures of the baseline."""
    rows = {row.name: found for row in comparison.rows if (found := row.recall or row.average_precision)}
    base = rows.pop(comparison.plan.baseline, None)
    if base is None or not rows:
        return None
    points = {
        label: [100 * (recall[label] - of) if label in recall else None for recall in rows.values()]
        for label, of in base.items()
    }
    largest = {
        label: max((abs(each) for each in own if each is not None), default=0.0) for label, own in points.items()
    }
    most = sorted(points, key=lambda label: -largest[label])[:CLASSES]
    scale = max(map(largest.__getitem__, most), default=0.0) or 1.0
    lines = [
        (label, f"{100 * base[label]:.1f}", [cell(each, scale) for each in points[label]])
        for label in base
        if label in most
    ]
    return ByClass(["class", f"{comparison.plan.baseline}, %", *rows], lines, len(base))


def cell(points: float | None, scale: float) -> tuple[str, str]:
    """Return the text and colour of a difference; empty where none of a contender's test parts has the class."""
    return ("", "none") if points is None else (signed(points, 1), shade(points / scale))


def shade(share: float) -> str:
    """Return the colour of a cell, given its share of the largest difference, -1 to 1."""
    return f"rgba({SHADES[share > 0]}, {0.6 * abs(share):.2f})"


@dataclass(frozen=True)
class Learned:
    """Picture, audit and score of a contender's first seed that did not fail."""

    name: str
    pictures: list[Picture]
    no_picture: str  # the reason if there is no picture
    failed: str
    audit: AuditResult | None
    located: list[list[str]]
    ablations: list[list[str]]
    images: int  # number of images of the score


def worth_showing(row: ContenderResult) -> bool:
    """Return True if a contender has attention, its examination failed, or its first seed failed."""
    found = row.examination
    return bool(found and (found.audit or found.failed)) or bool(
        row.errors and row.failed and min(row.failed) < min(row.errors)
    )


def learned_of(plan: Plan, row: ContenderResult) -> Learned:
    """Collect pictures, audit and score of a contender."""
    pictures, reason = pictures_of(plan, row)
    found = row.examination or Examination()
    score = found.score
    located = [
        [each.path, each.measure, *map(shown, (each.attention, each.vs_center_baseline, each.vs_shuffled_baseline))]
        for each in (score.located if score else ())
    ]
    ablations = [
        [each.path, each.replacement, shown(each.accuracy_drop, 100)] for each in (score.ablations if score else ())
    ]
    images = score.images if score else 0
    return Learned(row.name, pictures, reason, found.failed, found.audit, located, ablations, images)


def pictures_of(plan: Plan, row: ContenderResult) -> tuple[list[Picture], str]:
    """Draw and save the attention of the first seed that did not fail; else return the reason for a missing picture."""
    if row.first is None:
        return [], "All its seeds failed."
    folder = plan.runs(row.name)[row.first]
    try:
        data, functions = plan.config.data, plan.functions
        looked = look(str(folder), [functions.get(data, data)], IMAGES, functions.get(plan.config.backbone))
        pictures = looked.pictures()
    except Exception as error:  # any exception: the report of long runs is written without the picture
        return [], f"{type(error).__name__}: {one_line(error)}"
    save_pages(pictures, plan.folder / f"{folder.name}.png", overwrite=True)
    return pictures, ""


def shown(interval: Interval, times: float = 1.0) -> str:
    """Format a mean with its interval."""
    digits = 1 if times > 1 else 3
    mean, low, high = (f"{times * each:.{digits}f}" for each in (interval.mean, interval.low, interval.high))
    return f"{mean} ({low} to {high})".replace("-", "\u2212")


def pairs_table(comparison: ComparisonResult) -> list[list[str]]:
    """Build the table of McNemar's tests by seed, with its head."""
    head = ["contender", "seed", "only contender correct", f"only {comparison.plan.baseline} correct", "p"]
    rows = [
        [name, str(seed), str(pair.gained), str(pair.lost), f"{pair.p:.2g}"]
        for name, by_seed in comparison.pairs.items()
        for seed, pair in by_seed.items()
    ]
    return [head, *rows] if rows else []


def command(plan: Plan) -> str:
    """Return the command that repeats the comparison: contenders, and flags that differ from the defaults."""
    words = ["foveal", "compare", *(plan.given or plan.models)]
    for name, value in asdict(plan.config).items():
        if value != getattr(CompareConfig(), name):
            flag = name.replace("_", "-")
            words += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return shlex.join([*words, "--output", str(plan.folder)])


def provenance(comparison: ComparisonResult) -> Iterator[tuple[str, str]]:
    """Yield the facts on how the comparison was produced, as names and texts."""
    plan = comparison.plan
    for name, model in plan.models.items():
        yield f"Network of {name}", model
    yield "Split", split(plan)
    remarks = remark_lines(plan.skipped, plan.notes)
    if remarks:
        yield "Notes on the data", "; ".join(remarks)
    yield "Recipe", ", ".join(f"{name} {value}" for name, value in asdict(plan.config).items())
    if plan.config.tune:
        rates = ", ".join(f"{row.name} {row.lr:.3g}" for row in comparison.rows)
        yield f"Learning rates, selected in {counted(plan.config.tune, 'trial')} each", rates
    yield "Seeds", ", ".join(map(str, plan.seeds))
    yield "Processor", f"{processor()}, {cores()} available cores"
    yield "GPU", gpus()
    yield "Parallel runs", f"{plan.parallel}, with one thread each"
    yield "System", f"{platform.system()} {platform.release()}"
    yield "Versions", versions()
    runs = [sum(read_times(folder)) for name in plan.models for folder in plan.runs(name).values() if finished(folder)]
    yield (
        "Time",
        f"{comparison.seconds:.0f} s in the last call; training took {sum(runs):.0f} s in {counted(len(runs), 'run')}",
    )


def split(plan: Plan) -> str:
    """Describe the number of images in each part, read from the first run."""
    files = [folder / "split.json" for name in plan.models for folder in plan.runs(name).values()]
    stored: dict[str, Any] = next((json.loads(file.read_text()) for file in files if file.is_file()), {})
    parts = [f"{len(stored[part]):,} {part}" for part in ("train", "validation", "test") if part in stored]
    skipped = f"; {counted(len(stored['skipped']), 'file')} skipped" if stored.get("skipped") else ""
    shared = "another split for each seed" if plan.config.resplit else "the same for all runs"
    return f"{', '.join(parts)} images, {shared}{skipped}" if parts else "no run has stored its split"
