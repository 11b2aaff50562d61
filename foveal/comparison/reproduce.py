"""Reproduction of a paper's experiment: a comparison by its description, and its figures beside the paper's.

The runs, their folders and the verdicts are those of `foveal.compare`. An entry of the paper's table is a figure of one
contender.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foveal.comparison.cluster import workers_of
from foveal.comparison.compare import ComparisonResult, Progress, run_plan
from foveal.comparison.experiments import ENCODER, Entry, Experiment, find_experiment
from foveal.comparison.figures import FIGURES, Measure
from foveal.comparison.jobs import Failed, Job, JobPool
from foveal.comparison.plan import Plan, make_plan
from foveal.core.files import WRITTEN_BY, output_path, write_file
from foveal.core.names import slug
from foveal.evaluation.trends import trend_of
from foveal.inspection.drawing.picture import save_pages
from foveal.profiling.environment import cores, gpus, processor, versions
from foveal.training.config import RunConfig
from foveal.training.run_folder import finished, read_processor_seconds, read_times
from foveal.training.train import train

FILE = "reproduction.json"
Key = tuple[str, int, Measure]  # contender, seed, measurement


@dataclass(frozen=True)
class ReproductionResult:
    """Result of `foveal.reproduce`.

    Attributes:
        experiment: Its description.
        quick: True if it was run with fewer epochs or seeds than described.
        comparison: Result of the comparison.
        values: The figure of each entry by seed, by the entry's name.
        failed: Why a figure of an entry could not be computed, by its name.
    """

    experiment: Experiment
    quick: bool
    comparison: ComparisonResult
    values: dict[str, dict[int, float]]
    failed: dict[str, str]

    @property
    def minutes(self) -> dict[str, float]:
        """Minutes of training of each contender, of all its seeds together."""
        plan = self.comparison.plan
        return {name: sum(sum(read_times(run)) for run in plan.runs(name).values()) / 60 for name in plan.models}

    @property
    def processor_minutes(self) -> dict[str, float]:
        """Minutes in which the processor worked on them, of the contenders whose runs all state them."""
        plan = self.comparison.plan
        stated = {name: [*map(read_processor_seconds, plan.runs(name).values())] for name in plan.models}
        known = {name: [each for each in own if each is not None] for name, own in stated.items()}
        return {name: sum(own) / 60 for name, own in known.items() if len(own) == len(stated[name])}

    @property
    def verdicts(self) -> dict[str, str]:
        """The verdict on each contender against the first one."""
        return {name: verdict.label for name, verdict in self.comparison.verdicts.items()}

    @property
    def scores(self) -> dict[str, list[str]]:
        """Lines of localization, deletion and insertion, and ablation of each contender with attention, first seed."""
        return {
            row.name: str(row.examination.score).splitlines()
            for row in self.comparison.rows
            if row.examination is not None and row.examination.score is not None
        }

    def to_json(self) -> str:
        """Return the facts that `foveal.comparison.experiments.read_kept` reads."""
        values = {name: {seed: round(value, 6) for seed, value in own.items()} for name, own in self.values.items()}
        facts = {
            "file": WRITTEN_BY,
            "experiment": self.experiment.name,
            "quick": self.quick,
            "values": values,
            "verdicts": self.verdicts,
            "minutes": {name: round(each, 2) for name, each in self.minutes.items()},
            "processor_minutes": {name: round(each, 2) for name, each in self.processor_minutes.items()},
            "scores": self.scores,
            "machine": f"{processor()}, {cores()} core{'s' * (cores() != 1)}; GPU: {gpus()}; {versions()}",
        }
        return json.dumps(facts, indent=1) + "\n"


def reproduce(
    name: str,
    *,
    quick: bool = False,
    data: str | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    cluster: str | None = None,
    on_progress: Progress = lambda done, of: None,
) -> ReproductionResult:
    """Run an experiment of a paper, and compute the figures of the paper's entries.

    Args:
        name (str): Of the experiment; `foveal reproduce` lists them.
        quick (bool): Fewer epochs and seeds, for a look within minutes. The figures are worse than the paper's.
        data (str | None): Where the data is on this machine, for an experiment on images that foveal cannot obtain.
        output (str | Path | None): The output folder, as of `foveal.compare`; None for runs/NAME.
        overwrite (bool): Replace another comparison in the folder, or files that foveal did not write.
        cluster (str | None): As for `foveal.compare`.
        on_progress (Callable[[int, int], None]): As for `foveal.compare`.

    Returns:
        A `ReproductionResult`: `values` by entry and seed, and `comparison`, the result of `foveal.compare`.

    Raises:
        ValueError: If there is no experiment of this name; as `foveal.compare`.
    """
    experiment = find_experiment(name)
    plan = plan_experiment(experiment, quick, data, output, overwrite)
    return run_experiment(experiment, plan, quick, on_progress, overwrite=overwrite, cluster=cluster)


def plan_experiment(
    experiment: Experiment,
    quick: bool,
    data: str | None,
    output: str | Path | None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Plan:
    """Plan the comparison of an experiment, after the run of its encoder; arguments and errors as of `reproduce`.

    Raises:
        ValueError: With `dry_run`, if the plan needs an encoder that is not trained yet.
    """
    config = experiment.config(quick)
    folder = output_path(output or Path("runs") / slug(experiment.name + ("-quick" if quick else "")))
    if experiment.encoder is not None:
        run = encoder_of(folder)
        if dry_run and not finished(run):
            raise ValueError(f"dry_run=True: the plan needs the encoder in {str(run)!r}, which is not trained yet")
        train(RunConfig(**experiment.encoder), run, resume=not overwrite, overwrite=overwrite)
        config = replace(config, backbone=config.backbone.replace(ENCODER, str(run)))
    return make_plan(experiment.contenders, replace(config, data=data) if data else config, folder, overwrite)


def encoder_of(folder: Path) -> Path:
    """Return the folder of the run that an experiment makes first, beside its own.

    Raises:
        ValueError: The path cannot be an option in the name of a network.
    """
    run = folder.with_name(f"{folder.name}-encoder")
    if {",", "+"} & set(str(run)):
        raise ValueError(f"output={str(folder)!r}: the path of an experiment with an encoder must not hold ',' or '+'")
    return run


def run_experiment(
    experiment: Experiment,
    plan: Plan,
    quick: bool,
    on_progress: Progress = lambda done, of: None,
    *,
    overwrite: bool = False,
    cluster: str | None = None,
) -> ReproductionResult:
    """Run the comparison of an experiment, compute the figures of its entries, and store them in its folder."""
    compared = run_plan(plan, on_progress, overwrite=overwrite, cluster=cluster)
    measured = measure(compared, experiment.entries, cluster)
    draw_measured(plan.folder, measured)
    values, failed = figures_of(experiment.entries, compared, measured)
    result = ReproductionResult(experiment, quick, compared, values, failed)
    write_file(plan.folder / FILE, result.to_json())
    return result


def measure(compared: ComparisonResult, entries: tuple[Entry, ...], cluster: str | None) -> dict[Key, Any]:
    """Measure what the entries need of each run: values by place, or `Failed`, by contender, seed and measurement."""
    rows = {row.name: row for row in compared.rows}
    jobs: dict[Key, Job] = {
        (entry.contender, seed, found): (found, (compared.plan.runs(entry.contender)[seed],))
        for entry in entries
        if (found := FIGURES[entry.figure].measure) is not None
        for seed in rows[entry.contender].errors
    }
    if not jobs:
        return {}
    with JobPool(workers_of(cluster, compared.plan.folder)) as pool:
        return pool.run(jobs)


def figures_of(
    entries: tuple[Entry, ...], compared: ComparisonResult, measured: Mapping[Key, Any]
) -> tuple[dict[str, dict[int, float]], dict[str, str]]:
    """Return the figure of each entry by seed, and why one could not be computed."""
    rows = {row.name: row for row in compared.rows}
    values, failed = dict[str, dict[int, float]](), dict[str, str]()
    for entry in entries:
        row, figure = rows[entry.contender], FIGURES[entry.figure]
        if figure.measure is None:
            own: dict[int, Any] = dict(row.errors)
        else:
            own = {seed: measured[entry.contender, seed, figure.measure] for seed in row.errors}
        reasons = [*row.failed.values(), *(each.reason for each in own.values() if isinstance(each, Failed))]
        failed |= {entry.name: reasons[0]} if reasons else {}
        values[entry.name] = {
            seed: each if isinstance(each, float) else figure.value([*each.values()])
            for seed, each in own.items()
            if not isinstance(each, Failed)
        }
    return values, failed


def draw_measured(folder: Path, measured: Mapping[Key, Any]) -> None:
    """Draw each measurement of several places by depth, with a point for each seed, to `CONTENDER-MEASUREMENT.png`."""
    groups: dict[tuple[str, Measure], list[dict[str, float]]] = {}
    for (contender, _, found), values in measured.items():
        if not isinstance(values, Failed) and len(values) > 1:
            groups.setdefault((contender, found), []).append(values)
    for (contender, found), runs in groups.items():
        name = found.__name__.replace("_", " ")
        picture = trend_of(name, runs).draw()
        save_pages([picture], folder / f"{slug(f'{contender} {name}')}.png", overwrite=True)
