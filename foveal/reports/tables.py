"""Tables of a comparison, and its files: `results.json`, `results.csv` (one line for each run), `results.md`."""

import csv
import json
from dataclasses import asdict
from math import isfinite
from typing import Any

from foveal.comparison.compare import ComparisonResult, ContenderResult
from foveal.comparison.verdicts import Verdict
from foveal.profiling.costs import BATCH

RESULTS = ("contender", "error, %", "difference, points", "95 % interval", "adjusted p", "verdict")
COSTS = (
    "contender", "parameters", "MMACs", "ms, 1 image", f"ms, {BATCH} images", "ms, training step", "MB saved",
    "MB peak",
)  # fmt: skip
RUNS = ("contender", "model", "lr", "seed", "error_percent", "balanced_error_percent", "failed")


def results_table(compared: ComparisonResult) -> list[list[str]]:
    """Build the table of errors and verdicts, with its head."""
    verdicts = compared.verdicts
    return [list(RESULTS), *([row.name, error(row), *verdict_cells(verdicts.get(row.name))] for row in compared.rows)]


def error(row: ContenderResult) -> str:
    """Format the mean error and, for several seeds, its standard deviation."""
    spread = f" ± {row.spread:.2f}" if len(row.errors) > 1 else ""
    done = f"{row.mean:.2f}{spread}" if row.errors else ""
    return " ".join(part for part in (done, f"({len(row.failed)} failed)" if row.failed else "") if part)


def verdict_cells(verdict: Verdict | None) -> tuple[str, str, str, str]:
    """Format difference, interval, adjusted p and label of a verdict."""
    if verdict is None:
        return "", "", "", ""
    judged = isfinite(verdict.ci_low)
    interval, p = (f"{verdict.ci_low:+.2f} to {verdict.ci_high:+.2f}", f"{verdict.p:.3f}") if judged else ("", "")
    return f"{verdict.mean:+.2f}", interval, p, verdict.label


def costs_table(compared: ComparisonResult) -> list[list[str]]:
    """Build the table of costs, with its head."""
    rows = []
    for row in compared.rows:
        cost = row.cost
        memory = (f"{each / 1e6:.1f}" for each in (cost.saved, cost.peak))
        times = (f"{each:.1f}" for each in (cost.single, cost.batch, cost.step))
        rows.append([row.name, f"{cost.parameters:,}", f"{cost.macs / 1e6:.2f}", *times, *memory])
    return [list(COSTS), *rows]


def markdown(table: list[list[str]]) -> str:
    """Format a table as Markdown."""
    head, *rows = table
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))


def write_tables(compared: ComparisonResult) -> None:
    """Write `results.json`, `results.csv` and `results.md` to the comparison's folder."""
    folder = compared.plan.folder
    everything = {
        "plan": {**asdict(compared.plan), "folder": str(folder)},
        "baseline": compared.plan.baseline,
        "rows": [asdict(row) for row in compared.rows],
        "verdicts": {name: asdict(verdict) for name, verdict in compared.verdicts.items()},
        "mcnemar_by_seed": {
            name: {seed: asdict(pair) for seed, pair in by_seed.items()} for name, by_seed in compared.pairs.items()
        },
    }
    (folder / "results.json").write_text(json.dumps(plain(everything), indent=1) + "\n")
    with (folder / "results.csv").open("w", newline="") as file:
        csv.writer(file).writerows([RUNS, *runs(compared)])
    (folder / "results.md").write_text("\n".join(map(markdown, (results_table(compared), costs_table(compared)))))


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
        for seed in range(compared.plan.config.seeds):
            figures = (f"{errors[seed]:.4f}" if seed in errors else "" for errors in (row.errors, row.balanced))
            lines.append([row.name, row.model, f"{row.lr:g}", str(seed), *figures, row.failed.get(seed, "")])
    return lines
