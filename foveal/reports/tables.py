"""Tables of a comparison, and its files: `results.json`, `results.csv` (one line for each run), `results.md`."""

import csv
import io
import json
import re
from dataclasses import asdict, replace
from math import isfinite
from typing import Any

from foveal.comparison.compare import ComparisonResult, ContenderResult
from foveal.core.files import WRITTEN_BY, write_file
from foveal.core.names import as_cell
from foveal.profiling.costs import BATCH
from foveal.reports.ranking import baseline_row, kind_of, ranked, times

TIMES = "\u00d7"  # before a ratio to the baseline
LABELS = {  # of the kinds of rows that have no verdict
    "baseline": "the baseline", "twin": "the same network", "failed": "failed", "alone": "no verdict",
}  # fmt: skip
COSTS = (
    "contender", "parameters", "MMACs", "ms, 1 image", f"ms, {BATCH} images", "ms, training step", "MB saved",
    "MB peak",
)  # fmt: skip
TABLES = ("results.csv", "results.json", "results.md", "costs.json")
ERROR, MULTI_LABEL_ERROR = "error_percent", "100_minus_map_percent"  # columns of `results.csv`
BALANCED = "balanced_error_percent"


def results_table(compared: ComparisonResult) -> list[list[str]]:
    """Build the table of verdicts, errors and costs as ratios to the baseline, best verdict first, with its head."""
    head = [
        "contender", "verdict", f"{compared.plan.measure.error}, %", "difference", "95 % interval", "p",
        f"{TIMES} time", f"{TIMES} params",
    ]  # fmt: skip
    return [head, *(results_line(compared, row) for row in ranked(compared))]


def results_line(compared: ComparisonResult, row: ContenderResult) -> list[str]:
    """Build a contender's line of the table."""
    *figures, label = verdict_cells(compared, row)
    return [row.name, label, error(row), *figures, times(compared, row), parameter_ratio(compared, row)]


def parameter_ratio(compared: ComparisonResult, row: ContenderResult) -> str:
    """Format the parameters of a contender as a ratio to those of the baseline."""
    return f"{row.cost.parameters / baseline_row(compared).cost.parameters:.2f}"


def error(row: ContenderResult) -> str:
    """Format the mean error and, for several seeds, its standard deviation."""
    spread = f" ± {row.spread:.2f}" if len(row.errors) > 1 else ""
    done = f"{row.mean:.2f}{spread}" if row.errors else ""
    return " ".join(part for part in (done, f"({len(row.failed)} failed)" if row.failed else "") if part)


def verdict_cells(compared: ComparisonResult, row: ContenderResult) -> tuple[str, str, str, str]:
    """Format difference, interval, adjusted p and label of a verdict; of the baseline's twin the difference alone."""
    kind, verdict = kind_of(compared, row), compared.verdicts.get(row.name)
    if verdict is None:
        twin = kind == "twin" and row.errors and baseline_row(compared).errors
        return f"{twin_difference(compared, row):+.2f}" if twin else "", "", "", LABELS[kind]
    judged = isfinite(verdict.ci_low)
    interval, p = (f"{verdict.ci_low:+.2f} to {verdict.ci_high:+.2f}", p_text(verdict.p)) if judged else ("", "")
    return f"{verdict.mean:+.2f}", interval, p, verdict.label


def p_text(p: float) -> str:
    """Format a p value."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def twin_difference(compared: ComparisonResult, row: ContenderResult) -> float:
    """Return by how much the second training of the baseline is better than the first, in percentage points."""
    return baseline_row(compared).mean - row.mean


def costs_table(compared: ComparisonResult) -> list[list[str]]:
    """Build the table of costs, with its head."""
    rows = []
    for row in ranked(compared):
        cost = row.cost
        memory = (f"{each / 1e6:.1f}" for each in (cost.saved, cost.peak))
        times = (f"{each:.1f}" for each in (cost.single, cost.batch, cost.step))
        rows.append([row.name, f"{cost.parameters:,}", f"{cost.macs / 1e6:.2f}", *times, *memory])
    return [list(COSTS), *rows]


def markdown(table: list[list[str]]) -> str:
    """Format a table as Markdown."""
    head, *rows = table
    cells = ([*map(markdown_cell, row)] for row in (head, ["---"] * len(head), *rows))
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def markdown_cell(text: str) -> str:
    """Escape what would end a cell or start markup."""
    return re.sub(r"([\\|`*_<>\[\]$])", r"\\\1", " ".join(text.split()))


def write_tables(compared: ComparisonResult) -> None:
    """Write `results.json`, `results.csv`, `results.md` and `costs.json` to the comparison's folder.

    Measured times are in `costs.json` alone, so that the results of equal comparisons are equal files.
    """
    folder, plan = compared.plan.folder, compared.plan
    left_out = ("costs", "seconds", "folder", "functions")
    everything = {
        "file": WRITTEN_BY,
        "plan": {name: value for name, value in asdict(replace(plan, functions={})).items() if name not in left_out},
        "baseline": plan.baseline,
        "error": f"{plan.measure.error}, %",
        "rows": [figures_of(row) for row in compared.rows],
        "verdicts": {name: asdict(verdict) for name, verdict in compared.verdicts.items()},
        "mcnemar_by_seed": {
            name: {seed: asdict(pair) for seed, pair in by_seed.items()} for name, by_seed in compared.pairs.items()
        },
    }
    costs = {name: {**asdict(cost), "seconds_per_run": plan.seconds[name]} for name, cost in plan.costs.items()}
    write_file(folder / "results.json", as_json(everything))
    write_file(folder / "costs.json", as_json({"file": WRITTEN_BY, "contenders": costs}))
    lines = io.StringIO(newline="")
    head = ("contender", "model", "lr", "seed", MULTI_LABEL_ERROR if plan.multi_label else ERROR, BALANCED, "failed")
    csv.writer(lines).writerows([head, *([*map(as_cell, line)] for line in runs(compared))])
    write_file(folder / "results.csv", lines.getvalue())
    write_file(folder / "results.md", "\n".join(map(markdown, (results_table(compared), costs_table(compared)))))


def figures_of(row: ContenderResult) -> dict[str, Any]:
    """Return a contender's results without measured times."""
    facts = {name: value for name, value in asdict(row).items() if name != "cost"}
    if row.examination is not None and row.examination.audit is not None:
        facts["examination"]["audit"]["places"] = list(row.examination.audit.places)
    return facts


def as_json(facts: dict[str, Any]) -> str:
    return json.dumps(plain(facts), indent=1) + "\n"


def plain(value: Any) -> Any:
    """Convert a value to what JSON supports; numbers that are not finite become None (null)."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def runs(compared: ComparisonResult) -> list[list[str]]:
    """Build the lines of `results.csv`, one for each run."""
    lines = []
    for row in compared.rows:
        for seed in compared.plan.seeds:
            figures = (f"{errors[seed]:.4f}" if seed in errors else "" for errors in (row.errors, row.balanced))
            lines.append([row.name, row.model, f"{row.lr:g}", str(seed), *figures, row.failed.get(seed, "")])
    return lines
