"""Compare: contenders, seeds, one recipe for all; figures, verdicts, and what each contender learned.

Everything but the mechanism is the same for all contenders of a seed: the split, the order of the images and how they
are augmented, the start of the backbone, the epochs, the learning rate. Where a rate is searched for, each contender
has the same number of trials. All choices are made on validation; each run reads the test part once, at its end.
"""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from foveal.auditing import audit
from foveal.comparison.jobs import Failed, Job, run_jobs
from foveal.comparison.plans import BACKBONE, CONTENDERS, SEEDS, Plan, epochs_done, make_plan, with_changes
from foveal.comparison.tuning import tuned_rate
from foveal.comparison.verdicts import McNemar, Verdict, judge, mcnemar
from foveal.costs import Cost
from foveal.opening import open_model
from foveal.scoring import score
from foveal.settings import Recipe, Settings
from foveal.showing import find_places
from foveal.training import Result, predicted_right, train

EXAMINED = 500  # images of a part, drawn at random: an audit and a score of all would take as long as the training

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Row:
    """A contender's figures. Errors in per cent of the test part, by seed; one that failed has its reason instead."""

    name: str
    model: str
    lr: float
    errors: dict[int, float]
    balanced: dict[int, float]  # errors in per cent, the mean over classes
    recall: dict[str, float]  # by class, the mean over seeds
    cost: Cost
    failed: dict[int, str] = field(default_factory=dict)
    learned: dict[str, Any] = field(default_factory=dict)  # by the `first` seed: its audit and score, as JSON has them

    @property
    def first(self) -> int | None:
        """The first seed that did not fail."""
        return min(self.errors, default=None)

    @property
    def mean(self) -> float:
        return statistics.mean(self.errors.values()) if self.errors else float("nan")

    @property
    def spread(self) -> float:
        """The standard deviation over seeds; 0 for one seed."""
        return statistics.stdev(self.errors.values()) if len(self.errors) > 1 else 0.0


@dataclass(frozen=True)
class Comparison:
    """What was compared, and how it ended."""

    plan: Plan
    rows: tuple[Row, ...]
    verdicts: dict[str, Verdict]  # of each contender but the baseline
    pairs: dict[str, dict[int, McNemar]]  # by seed: of two trained networks, never the verdict
    seconds: float


def compare(
    contenders: Sequence[str] = CONTENDERS,
    data: str | None = None,
    backbone: str | None = None,
    seeds: int = SEEDS,
    epochs: int | None = None,
    output: str | Path | None = None,
    *,
    tune: int = 0,
    recipe: Recipe | None = None,
    on_progress: Progress = lambda done, of: None,
) -> Comparison:
    """Train contenders over several seeds with one recipe, judge them, and measure what each costs.

    In a script of your own, call it under `if __name__ == "__main__":`, since its jobs are processes.

    Args:
        contenders: "none" for the plain backbone; a mechanism with its options, "sk:groups=8"; the controls "wider" and
            "deeper", the plain backbone as large as the dearest contender; "twin=none" renames one. See
            `foveal.comparison.plans`.
        data: as for `foveal.load_data`; the recipe's if left out, as `epochs`.
        backbone: as for `foveal.create_model`; `small_cnn` if left out.
        seeds: how many.
        epochs: of each run.
        output: the folder; named after data and backbone if left out. The same comparison is continued there, job by
            job and epoch by epoch, also with more contenders or seeds.
        tune: trials by which each contender's learning rate is searched for; none if left out.
        recipe: all that the runs share.
        on_progress: told the number of epochs done and of all.

    Raises:
        ValueError: no contender, or one twice; one that cannot stand in the backbone; no seeds; a folder that holds
            another comparison.
    """
    planned = with_changes(recipe, data, epochs)
    return run_plan(make_plan(contenders, backbone or BACKBONE, seeds, planned, output, tune), on_progress)


def run_plan(plan: Plan, on_progress: Progress = lambda done, of: None) -> Comparison:
    """Run what is planned and not done yet. A contender that fails is reported as failed, and the others go on."""
    begin = time.perf_counter()
    plan.write()
    of = plan.recipe.epochs * (plan.seeds + plan.tune) * len(plan.models)
    folders = [folder for name in plan.models for folder in (*plan.runs(name), *plan.trials(name))]

    def tick() -> None:
        on_progress(sum(map(epochs_done, folders)), of)

    searches = {name: (tuned_rate, (plan.settings(name, 0), plan.trials(name))) for name in longest_first(plan)}
    rates = run_jobs(searches, tick) if plan.tune else dict.fromkeys(plan.models, plan.recipe.lr)
    jobs = trainings(plan, rates)
    results = run_jobs(jobs, tick)
    rows = tuple(row_of(plan, name, rates[name], results) for name in plan.models)
    told = {row.name: plan.runs(row.name)[row.first] for row in rows if row.first is not None}
    learned = run_jobs({name: (examine, (folder, plan.recipe.data)) for name, folder in told.items()})
    rows = tuple(replace(row, learned=as_learned(learned.get(row.name))) for row in rows)
    return Comparison(plan, rows, *judged(plan, rows), time.perf_counter() - begin)


def trainings(plan: Plan, rates: Mapping[str, float | Failed]) -> dict[tuple[str, int], Job]:
    """The run of each contender that has a learning rate, and seed."""
    return {
        (name, seed): (run, (plan.settings(name, seed, rate), folder))
        for name in longest_first(plan)
        if not isinstance(rate := rates[name], Failed)
        for seed, folder in enumerate(plan.runs(name))
    }


def longest_first(plan: Plan) -> list[str]:
    """The contenders in an order in which no core waits for a late one."""
    return sorted(plan.models, key=lambda name: -plan.seconds[name])


def run(settings: Settings, folder: Path) -> Result:
    return train(settings, folder, resume=True)


def examine(folder: Path, data: str) -> dict[str, Any]:
    """The audit and the score of a trained run on some images, left in its folder; nothing to audit: {}."""
    opened = open_model(str(folder))
    if not any(find_places(opened.network)):
        return {}
    parts = opened.load(data)
    validation, test = (opened.batches(part, most=EXAMINED) for part in (parts.validation, parts.test))
    found = {
        "audit": audit(opened.network, validation).to_json(),
        "score": score(opened.network, test, validation).to_json(),
    }
    for name, text in found.items():
        (folder / f"{name}.json").write_text(text + "\n")
    return {name: json.loads(text) for name, text in found.items()}


def as_learned(found: Any) -> dict[str, Any]:
    return {"failed": found.reason} if isinstance(found, Failed) else found or {}


def row_of(plan: Plan, name: str, rate: float | Failed, results: dict[tuple[str, int], Any]) -> Row:
    by_seed = {seed: rate if isinstance(rate, Failed) else results[name, seed] for seed in range(plan.seeds)}
    done = {seed: result for seed, result in by_seed.items() if isinstance(result, Result)}
    failed = {seed: result.reason for seed, result in by_seed.items() if isinstance(result, Failed)}
    classes = sorted({label for result in done.values() for label in result.recall})
    return Row(
        name,
        plan.models[name],
        plan.recipe.lr if isinstance(rate, Failed) else rate,
        {seed: 100 * (1 - result.accuracy) for seed, result in done.items()},
        {seed: 100 * (1 - result.balanced_accuracy) for seed, result in done.items()},
        {label: statistics.mean(result.recall[label] for result in done.values()) for label in classes},
        plan.costs[name],
        failed,
    )


def judged(plan: Plan, rows: Sequence[Row]) -> tuple[dict[str, Verdict], dict[str, dict[int, McNemar]]]:
    """The verdict over seeds and, seed by seed, McNemar's p, of each contender that has a seed with the baseline."""
    errors = {row.name: row.errors for row in rows}
    base = errors[plan.baseline]
    shared = {
        name: [seed for seed in own if seed in base]
        for name, own in errors.items()
        if name != plan.baseline and set(own) & set(base)
    }
    verdicts = judge({name: [base[seed] - errors[name][seed] for seed in seeds] for name, seeds in shared.items()})
    right = {
        (name, seed): predicted_right(plan.runs(name)[seed])
        for name, seeds in {**shared, plan.baseline: list(base)}.items()
        for seed in seeds
    }
    pairs = {
        name: {seed: mcnemar(right[plan.baseline, seed], right[name, seed]) for seed in seeds}
        for name, seeds in shared.items()
    }
    return verdicts, pairs
