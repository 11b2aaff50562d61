"""Comparisons with made-up results, for tests of tables, sentences and pages."""

import json
from dataclasses import replace
from pathlib import Path

from foveal.comparison.compare import ComparisonResult, ContenderResult
from foveal.comparison.mcnemar import mcnemar
from foveal.comparison.plan import Plan
from foveal.comparison.verdicts import compute_verdicts
from foveal.profiling.costs import Cost
from foveal.training.config import CompareConfig

COST = Cost(1_000, 2_000_000, 0.5, 10.0, 20.0, 3_000_000, 4_000_000)
BASE = (11.0, 12.0, 10.0)  # errors of the baseline, in percent

TINY_EXPERIMENT = """
title: Two networks on digits
source: nobody, 2000
settings: {data: digits, epochs: 2, batch_size: 500, seeds: 2, baselines: 1, warmup_epochs: 0}
quick: {epochs: 1, seeds: 1}
changes: [The digits are few.]
entries:
  - {name: plain, contender: none, paper: 0.8}
  - {name: gated, contender: se}
"""


def make_comparison(
    folder: Path, errors: dict[str, tuple[float | str, ...]], classes: int = 10, **changes
) -> ComparisonResult:
    """Comparison from the errors of each contender's seeds, or the reason why a seed failed."""
    seeds = len(next(iter(errors.values())))
    models = {name: "small_cnn" if name == "none" else f"small_cnn+{name}" for name in errors}
    costs = {name: replace(COST, parameters=1_000 + 50 * at, batch=10.0 + at) for at, name in enumerate(errors)}
    plan = Plan(folder, CompareConfig(data="digits", epochs=4, seeds=seeds), models, costs, dict.fromkeys(errors, 1.0))
    rows = []
    for at, (name, values) in enumerate(errors.items()):
        done = {seed: value for seed, value in enumerate(values) if isinstance(value, float)}
        recall = {f"class {label}": 0.9 - 0.001 * at * label for label in range(classes)} if done else {}
        failed = {seed: value for seed, value in enumerate(values) if isinstance(value, str)}
        rows.append(ContenderResult(name, models[name], 0.01, done, done, recall, costs[name], failed))
        for seed, value in done.items():
            run = plan.runs(name)[seed]
            run.mkdir(parents=True)
            lines = [
                {"epoch": epoch, "train_loss": 2 / epoch, "validation_accuracy": 1 - value / 100 / epoch}
                for epoch in range(1, 5)
            ]
            (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            (run / "split.json").write_text(
                json.dumps({"train": ["a"] * 3000, "validation": ["b"], "test": ["c", "d"]})
            )
    base = next(row for row in rows if row.name == plan.baseline).errors
    shared = {row.name: sorted(set(row.errors) & set(base)) for row in rows if row.name != plan.baseline}
    verdicts = compute_verdicts({row.name: row.errors for row in rows}, plan.baseline, images=10_000)
    pairs = {name: {seed: mcnemar([True, False], [True, True]) for seed in shared[name]} for name in verdicts}
    folder.mkdir(exist_ok=True)
    return ComparisonResult(replace(plan, **changes), tuple(rows), verdicts, pairs, 12.0)
