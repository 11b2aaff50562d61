"""Comparison of contenders over several seeds with one training recipe: errors, costs, verdicts, audits and scores.

Everything except the mechanism is the same for all contenders of a seed: the split, the order of the images and their
augmentation, the initialization of the backbone, the number of epochs and the learning rate. If the learning rate is
tuned, each contender has the same number of trials. All choices are made on the validation part; each run evaluates the
test part once, at its end.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from foveal.comparison.cluster import workers_of
from foveal.comparison.constant_answer import constant_answer, constant_ranking
from foveal.comparison.contenders import CONTENDERS
from foveal.comparison.examine import Examination, examination_of, examine
from foveal.comparison.jobs import Failed, Job, JobPool, report
from foveal.comparison.mcnemar import McNemar, mcnemar
from foveal.comparison.plan import Plan, epochs_done, make_plan
from foveal.comparison.same_images import left_out_in_runs, paired, with_the_same_images
from foveal.comparison.tune import tuned_rate
from foveal.comparison.verdicts import Verdict, compute_verdicts
from foveal.core.folders import drafts_removed, locked_folder
from foveal.core.functions import Functions, name_of, named_functions
from foveal.core.names import lookup
from foveal.profiling.costs import Cost
from foveal.training.config import CompareConfig, RunConfig
from foveal.training.predictions import predicted_right
from foveal.training.run_figures import MultiLabelResult, Result
from foveal.training.run_folder import delete_run, read_split
from foveal.training.train import train

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ContenderResult:
    """Results of one contender: test errors by seed (see `foveal.comparison.measure`), costs, and why seeds failed."""

    name: str
    model: str
    lr: float
    errors: dict[int, float]  # in per cent
    balanced: dict[int, float]  # balanced errors in per cent: the mean over classes
    recall: dict[str, float]  # by class, mean over seeds that test it; none where images have any number of classes
    cost: Cost
    failed: dict[int, str] = field(default_factory=dict)
    examination: Examination | None = None  # of the `first` seed
    average_precision: dict[str, float] = field(default_factory=dict)  # by class, instead of the recall

    @property
    def first(self) -> int | None:
        """The first seed that did not fail; None if all failed."""
        return min(self.errors, default=None)

    @property
    def mean(self) -> float:
        """The mean error over seeds; NaN if all failed."""
        return statistics.mean(self.errors.values()) if self.errors else float("nan")

    @property
    def spread(self) -> float:
        """The standard deviation over seeds; 0 for one seed."""
        return statistics.stdev(self.errors.values()) if len(self.errors) > 1 else 0.0


@dataclass(frozen=True)
class ComparisonResult:
    """Results of a comparison: the plan, one row for each contender, and verdicts against the baseline."""

    plan: Plan
    rows: tuple[ContenderResult, ...]
    verdicts: dict[str, Verdict]  # of each contender except the baseline
    pairs: dict[str, dict[int, McNemar]]  # by contender and seed: test of two trained networks, not of the methods
    seconds: float


def compare(
    contenders: Sequence[str] = CONTENDERS,
    config: CompareConfig | None = None,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    cluster: str | None = None,
    on_progress: Progress = lambda done, of: None,
    **changes: Any,
) -> ComparisonResult:
    """Train contenders over several seeds with one recipe, test their differences, and measure their costs.

    Jobs run in other processes, which do not import the caller's script: no `if __name__ == "__main__":` is needed.

    Args:
        contenders (Sequence[str]): "none" for the plain backbone; a mechanism with its options, such as "sk:groups=8";
            the controls "wider" and "deeper", the plain backbone scaled to the parameter count of the most expensive
            contender; "twin=none" gives a contender another name. See `foveal.comparison.contenders`.
        config (CompareConfig | None): Data, backbone, seeds and the recipe of all runs; None for the defaults.
        output (str | Path | None): The output folder; None for a name made of data and backbone. If the folder holds
            the same comparison, it is continued at the last finished epoch of each job. Contenders and seeds can be
            added.
        overwrite (bool): Replace another comparison in the folder, or files that foveal did not write.
        cluster (str | None): Run the jobs on a Ray cluster: "auto" for the one that this machine belongs to, or
            "ray://HOST:PORT". `output` is then in a file system that all its machines share.
        on_progress (Callable[[int, int], None]): Called with the number of finished epochs and of all epochs.
        changes: Fields of `foveal.CompareConfig` that replace those of `config`: `data="digits/rts", seeds=5`.
            `backbone` and `data` may be functions, defined in a script, too: see `foveal.networks.own` for what a
            network's function takes and returns, and `foveal.data.own` for that of data.

    Returns:
        A `ComparisonResult`: `plan`, `rows` (one `ContenderResult` for each contender), `verdicts` against the
        baseline, `pairs` (McNemar's tests by seed) and `seconds`. `foveal.write_report` makes a page of it.

    Raises:
        ValueError: If there is no contender or one is named twice, a contender cannot be attached to the backbone, a
            field is unknown, or `output` holds another comparison, other files, or is written by another process; if a
            function fails, or its network or data are not understood; if a cluster does not answer, or one of its
            machines does not see `output` and its lock.
        TypeError: If a field is of another type, or a function has no name.
    """
    base = config or CompareConfig()
    for name in changes:
        lookup("field of CompareConfig", name, asdict(base))
    functions = named_functions(value for value in changes.values() if callable(value))
    named: dict[str, Any] = {name: name_of(value) if callable(value) else value for name, value in changes.items()}
    plan = make_plan(contenders, replace(base, **named), output, overwrite, functions)
    return run_plan(plan, on_progress, overwrite=overwrite, cluster=cluster)


def run_plan(
    plan: Plan,
    on_progress: Progress = lambda done, of: None,
    *,
    overwrite: bool = False,
    cluster: str | None = None,
) -> ComparisonResult:
    """Run the unfinished jobs of a plan, or with `overwrite` all jobs.

    A contender that fails is reported as failed, and the others continue.

    Raises:
        ValueError: If another process writes to the folder.
    """
    begin = time.perf_counter()
    folders = [folder for name in plan.models for folder in (*plan.runs(name).values(), *plan.trials(name))]
    epochs = plan.config.epochs * len(folders)
    done = 0

    def count(reports: int) -> None:
        nonlocal done
        done += reports
        on_progress(done, epochs)

    tuned = [name for name in longest_first(plan) if name != plan.twin]
    searches = {name: (tuned_rate, (plan.run_config(name, 0), plan.trials(name), plan.functions)) for name in tuned}
    with (
        locked_folder(plan.folder, overwrite),
        drafts_removed(folders),
        JobPool(workers_of(cluster, plan.folder)) as pool,
    ):
        plan = replace(plan, parallel=pool.workers.size)
        plan.write(overwrite)
        for folder in folders if overwrite else ():
            delete_run(folder)
        done = sum(map(epochs_done, folders))
        rates = pool.run(searches, count) if plan.config.tune else dict.fromkeys(plan.models, plan.config.lr)
        rates |= {plan.twin: rates[plan.baseline]} if plan.twin else {}
        results = with_the_same_images(plan, pool.run(trainings(plan, rates), count))
        rows = tuple(row_of(plan, name, rates[name], results) for name in plan.models)
        first_runs = {row.name: plan.runs(row.name)[row.first] for row in rows if row.first is not None}
        given = (plan.config, plan.functions)
        examined = pool.run({name: (examine, (folder, *given)) for name, folder in first_runs.items()})
    rows = tuple(replace(row, examination=examination_of(examined.get(row.name))) for row in rows)
    plan = replace(
        plan, skipped=plan.skipped | left_out_in_runs(plan, ((row.name, seed) for row in rows for seed in row.errors))
    )
    return ComparisonResult(plan, rows, *compute_pairs_and_verdicts(plan, rows), time.perf_counter() - begin)


def trainings(plan: Plan, rates: Mapping[str, float | Failed]) -> dict[tuple[str, int], Job]:
    """Return the training job of each seed and each contender with a learning rate."""
    return {
        (name, seed): (run, (plan.run_config(name, seed, rate), folder, plan.functions))
        for name in longest_first(plan)
        if not isinstance(rate := rates[name], Failed)
        for seed, folder in plan.runs(name).items()
    }


def longest_first(plan: Plan) -> list[str]:
    """Order the contenders by decreasing time of a run, so that no long job starts last."""
    return sorted(plan.models, key=lambda name: -plan.seconds[name])


def run(config: RunConfig, folder: Path, functions: Functions) -> Result | MultiLabelResult:
    """Train one run, resumed if its folder exists, and report each epoch."""
    return train(config, folder, resume=True, functions=functions, on_epoch=lambda line: report())


def row_of(plan: Plan, name: str, rate: float | Failed, results: dict[tuple[str, int], Any]) -> ContenderResult:
    """Collect the results of a contender over its seeds."""
    by_seed = {seed: rate if isinstance(rate, Failed) else results[name, seed] for seed in plan.seeds}
    done = {seed: result for seed, result in by_seed.items() if isinstance(result, Result | MultiLabelResult)}
    failed = {seed: result.reason for seed, result in by_seed.items() if isinstance(result, Failed)}
    return ContenderResult(
        name,
        plan.models[name],
        plan.config.lr if isinstance(rate, Failed) else rate,
        {seed: result.error for seed, result in done.items()},
        {seed: each for seed, result in done.items() if (each := result.balanced_error) is not None},
        means(each.recall for each in done.values() if isinstance(each, Result)),
        plan.costs[name],
        failed,
        average_precision=means(each.average_precision for each in done.values() if isinstance(each, MultiLabelResult)),
    )


def means(by_class: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Average figures by class over the seeds whose test part has the class."""
    found = list(by_class)
    return {
        label: statistics.mean(figures[label] for figures in found if label in figures)
        for label in sorted({*chain(*found)})
    }


def compute_pairs_and_verdicts(
    plan: Plan, rows: Sequence[ContenderResult]
) -> tuple[dict[str, Verdict], dict[str, dict[int, McNemar]]]:
    """Compute verdicts, and McNemar's tests by seed, for contenders that share a finished seed with the baseline.

    There are no McNemar's tests where an image has any number of classes: its answer is not right or wrong.
    """
    errors = {row.name: row.errors for row in rows}
    base = errors[plan.baseline]
    twin = plan.twin if plan.twin and errors[plan.twin] else None  # not if each of its runs failed
    shared = {
        name: [seed for seed in own if seed in base]
        for name, own in errors.items()
        if name not in (plan.baseline, plan.twin) and set(own) & set(base)
    }
    right = {
        (name, seed): predicted_right(plan.runs(name)[seed])
        for name, seeds in {**shared, plan.baseline: list(base)}.items()
        for seed in seeds
        if not plan.multi_label
    }
    pairs = {
        name: {seed: mcnemar(*paired(right[plan.baseline, seed], right[name, seed])) for seed in seeds}
        for name, seeds in shared.items()
        if not plan.multi_label
    }
    if not shared:
        return {}, pairs
    first_run = plan.runs(plan.baseline)[min(base)]
    images, chance = constant_ranking(first_run) if plan.multi_label else constant_answer(first_run)
    verdicts = compute_verdicts(
        {name: own for name, own in errors.items() if name == twin or name != plan.twin},
        plan.baseline,
        twin,
        images=images,
        chance=chance,
        train_images=len(read_split(first_run)["train"]) if plan.config.resplit else None,
        diverged=diverged(plan, rows),
    )
    return verdicts, pairs


def diverged(plan: Plan, rows: Sequence[ContenderResult]) -> dict[str, int]:
    """Return the contenders of which the loss of a run was not finite, with its seed; the twin is the baseline."""
    found = {
        row.name: seed
        for row in rows
        for seed, reason in row.failed.items()
        if reason.startswith(FloatingPointError.__name__)
    }
    return found | ({plan.baseline: found[plan.twin]} if plan.twin in found else {})
