"""Compare: contenders, seeds, one recipe for all; figures, verdicts, and what each contender learned.

Everything but the mechanism is the same for all contenders of a seed: the split, the order of the images and how they
are augmented, the start of the backbone, the epochs, the learning rate. Where a rate is searched for, each contender
has the same number of trials. All choices are made on validation; each run reads the test part once, at its end.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from foveal.comparison.jobs import Failed, Job, report, run_jobs
from foveal.comparison.plan import CONTENDERS, Plan, epochs_done, make_plan
from foveal.comparison.tune import tuned_rate
from foveal.comparison.verdicts import McNemar, Verdict, compute_verdicts, mcnemar
from foveal.core.names import lookup
from foveal.evaluation.audit import AuditResult, audit
from foveal.evaluation.score import ScoreResult, score
from foveal.inspection.tap_points import find_tap_points
from foveal.profiling.costs import Cost
from foveal.training.config import CompareConfig, RunConfig
from foveal.training.load_model import load_model
from foveal.training.run_folder import Result, predicted_right
from foveal.training.train import train

EXAMINED = 500  # images of a part, drawn at random: an audit and a score of all would take as long as the training

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Examination:
    """Audit and score of a trained run; neither where it has no attention, or where they failed for a reason."""

    audit: AuditResult | None = None
    score: ScoreResult | None = None
    failed: str = ""


@dataclass(frozen=True)
class ContenderResult:
    """A contender's figures. Errors in per cent of the test part, by seed; one that failed has its reason instead."""

    name: str
    model: str
    lr: float
    errors: dict[int, float]
    balanced: dict[int, float]  # errors in per cent, the mean over classes
    recall: dict[str, float]  # by class, the mean over seeds
    cost: Cost
    failed: dict[int, str] = field(default_factory=dict)
    examination: Examination | None = None  # of the `first` seed

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
class ComparisonResult:
    """What was compared, and how it ended."""

    plan: Plan
    rows: tuple[ContenderResult, ...]
    verdicts: dict[str, Verdict]  # of each contender but the baseline
    pairs: dict[str, dict[int, McNemar]]  # by seed: of two trained networks, never the verdict
    seconds: float


def compare(
    contenders: Sequence[str] = CONTENDERS,
    config: CompareConfig | None = None,
    output: str | Path | None = None,
    *,
    on_progress: Progress = lambda done, of: None,
    **changes: Any,
) -> ComparisonResult:
    """Train contenders over several seeds with one recipe, judge them, and measure what each costs.

    In a script of your own, call it under `if __name__ == "__main__":`, since its jobs are processes.

    Args:
        contenders: "none" for the plain backbone; a mechanism with its options, "sk:groups=8"; the controls "wider" and
            "deeper", the plain backbone as large as the dearest contender; "twin=none" renames one. See
            `foveal.comparison.plan`.
        config: data, backbone, seeds, and all that the runs share; the main job's if left out.
        output: the folder; named after data and backbone if left out. The same comparison is continued there, job by
            job and epoch by epoch, also with more contenders or seeds.
        on_progress: called with the number of epochs done and of all.
        changes: fields of `foveal.CompareConfig` by name, instead of those of `config`: `data="digits/rts", seeds=5`.

    Raises:
        ValueError: no contender, or one twice; one that cannot stand in the backbone; an unknown field; a folder that
            holds another comparison.
    """
    base = config or CompareConfig()
    for name in changes:
        lookup("field of CompareConfig", name, asdict(base))
    return run_plan(make_plan(contenders, replace(base, **changes), output), on_progress)


def run_plan(plan: Plan, on_progress: Progress = lambda done, of: None) -> ComparisonResult:
    """Run what is planned and not done yet. A contender that fails is reported as failed, and the others go on."""
    begin = time.perf_counter()
    plan.write()
    of = plan.config.epochs * (plan.config.seeds + plan.config.tune) * len(plan.models)
    folders = [folder for name in plan.models for folder in (*plan.runs(name), *plan.trials(name))]

    done = sum(map(epochs_done, folders))

    def count(reports: int) -> None:
        nonlocal done
        done += reports
        on_progress(done, of)

    searches = {name: (tuned_rate, (plan.run_config(name, 0), plan.trials(name))) for name in longest_first(plan)}
    rates = run_jobs(searches, count) if plan.config.tune else dict.fromkeys(plan.models, plan.config.lr)
    jobs = trainings(plan, rates)
    results = run_jobs(jobs, count)
    rows = tuple(row_of(plan, name, rates[name], results) for name in plan.models)
    told = {row.name: plan.runs(row.name)[row.first] for row in rows if row.first is not None}
    examined = run_jobs({name: (examine, (folder, plan.config.data)) for name, folder in told.items()})
    rows = tuple(replace(row, examination=examination_of(examined.get(row.name))) for row in rows)
    return ComparisonResult(plan, rows, *compute_pairs_and_verdicts(plan, rows), time.perf_counter() - begin)


def trainings(plan: Plan, rates: Mapping[str, float | Failed]) -> dict[tuple[str, int], Job]:
    """The run of each contender that has a learning rate, and seed."""
    return {
        (name, seed): (run, (plan.run_config(name, seed, rate), folder))
        for name in longest_first(plan)
        if not isinstance(rate := rates[name], Failed)
        for seed, folder in enumerate(plan.runs(name))
    }


def longest_first(plan: Plan) -> list[str]:
    """The contenders in an order in which no core waits for a late one."""
    return sorted(plan.models, key=lambda name: -plan.seconds[name])


def run(config: RunConfig, folder: Path) -> Result:
    return train(config, folder, resume=True, on_epoch=lambda line: report())


def examine(folder: Path, data: str) -> Examination:
    """Audit and score a trained run on some images; both are also written into its folder."""
    opened = load_model(str(folder))
    if not any(find_tap_points(opened.network)):
        return Examination()
    parts = opened.load_data(data)
    validation, test = (opened.batches(part, most=EXAMINED) for part in (parts.validation, parts.test))
    found = Examination(audit(opened.network, validation), score(opened.network, test, validation))
    for name in ("audit", "score"):
        (folder / f"{name}.json").write_text(getattr(found, name).to_json() + "\n")
    return found


def examination_of(found: Examination | Failed | None) -> Examination | None:
    return Examination(failed=found.reason) if isinstance(found, Failed) else found


def row_of(plan: Plan, name: str, rate: float | Failed, results: dict[tuple[str, int], Any]) -> ContenderResult:
    by_seed = {seed: rate if isinstance(rate, Failed) else results[name, seed] for seed in range(plan.config.seeds)}
    done = {seed: result for seed, result in by_seed.items() if isinstance(result, Result)}
    failed = {seed: result.reason for seed, result in by_seed.items() if isinstance(result, Failed)}
    classes = sorted({label for result in done.values() for label in result.recall})
    return ContenderResult(
        name,
        plan.models[name],
        plan.config.lr if isinstance(rate, Failed) else rate,
        {seed: 100 * (1 - result.accuracy) for seed, result in done.items()},
        {seed: 100 * (1 - each) for seed, result in done.items() if (each := result.balanced_accuracy) is not None},
        {label: statistics.mean(result.recall[label] for result in done.values()) for label in classes},
        plan.costs[name],
        failed,
    )


def compute_pairs_and_verdicts(
    plan: Plan, rows: Sequence[ContenderResult]
) -> tuple[dict[str, Verdict], dict[str, dict[int, McNemar]]]:
    """The verdict over seeds and, seed by seed, McNemar's p, of each contender that has a seed with the baseline."""
    errors = {row.name: row.errors for row in rows}
    base = errors[plan.baseline]
    shared = {
        name: [seed for seed in own if seed in base]
        for name, own in errors.items()
        if name != plan.baseline and set(own) & set(base)
    }
    verdicts = compute_verdicts(
        {name: [base[seed] - errors[name][seed] for seed in seeds] for name, seeds in shared.items()}
    )
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
