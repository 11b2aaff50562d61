"""Tables of experiments: a paper's figures beside those obtained here, as cells of text."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING

from foveal.comparison.experiments import Entry, Experiment, Kept, list_experiments, read_kept
from foveal.comparison.figures import FIGURES
from foveal.core.intervals import student_interval

if TYPE_CHECKING:  # it imports torch, which the list does not need
    from foveal.comparison.reproduce import ReproductionResult
    from foveal.training.config import CompareConfig

HEAD = ("entry", "figure", "paper", "here", "95 % interval", "difference", "min (CPU)")
NOT_RUN = "not run"


def entry_lines(
    experiment: Experiment, values: Mapping[str, Mapping[int, float]], *minutes: Mapping[str, float]
) -> list[list[str]]:
    """Return a line for each entry of an experiment: the cells of `HEAD`.

    Args:
        experiment: Its description.
        values: Figures by entry and seed.
        minutes: Of training by contender, by the clock, then of the processor.
    """
    return [
        entry_line(each, values.get(each.name, {}), [own.get(each.contender) for own in minutes])
        for each in experiment.entries
    ]


def kept_lines(experiment: Experiment, kept: Kept | None) -> list[list[str]]:
    """Return the same lines of the figures that were kept, if any were."""
    if kept is None:
        return entry_lines(experiment, {}, {}, {})
    return entry_lines(experiment, kept.values, kept.minutes, kept.processor_minutes)


def entry_line(entry: Entry, values: Mapping[int, float], minutes: Sequence[float | None]) -> list[str]:
    """Return the cells of one entry."""
    figure = FIGURES[entry.figure]

    def number(value: float, sign: str = "") -> str:
        return f"{value:{sign}.{2 if figure.unit else 3}f}"  # per cent, or a share or a slope

    paper = "" if entry.paper is None else number(entry.paper)
    cells = [entry.name, f"{entry.figure}, {figure.unit}".strip(", "), paper]
    if not values:
        return [*cells, NOT_RUN, *[""] * (len(HEAD) - 1 - len(cells))]
    mean, low, high = student_interval([*values.values()])
    between = f"{number(low)} to {number(high)}" if isfinite(low) else "one seed" if len(values) == 1 else "none"
    apart = "" if entry.paper is None else number(mean - entry.paper, sign="+")
    clock, *worked = [f"{each:.1f}" for each in minutes if each is not None] or [""]
    return [*cells, number(mean), between, apart, " ".join([clock, *(f"({each})" for each in worked)])]


def reproduction_table(result: "ReproductionResult") -> list[list[str]]:
    """Build the table of an experiment that was run, with its head."""
    return [[*HEAD], *entry_lines(result.experiment, result.values, result.minutes, result.processor_minutes)]


def reproduction_lines(result: "ReproductionResult") -> list[str]:
    """Return sentences on an experiment that was run: what is less than described, verdicts, failures, changes."""
    described, done = result.experiment.config(), result.comparison.plan.config
    lines = []
    if result.quick:
        lines.append(
            f"quick: {extent(done)}, instead of {extent(described)}; "
            "the figures are worse or less certain than those of the whole experiment and say little about the paper's"
        )
    lines += [f"{name} against {result.comparison.plan.baseline}: {label}" for name, label in result.verdicts.items()]
    lines += [f"{name}: failed, {reason}" for name, reason in result.failed.items()]
    return [*lines, *(f"differs from the paper: {each}" for each in result.experiment.changes)]


def extent(config: "CompareConfig") -> str:
    """Describe what an experiment is made of: data, epochs and seeds."""
    return f"{config.data}, epochs: {config.epochs}, seeds: {config.seeds}"


def list_table() -> list[list[str]]:
    """Build the table of all experiments and the figures that were kept, with its head, without differences."""
    lines = []
    for experiment in list_experiments().values():
        kept = read_kept(experiment.name)
        rows = kept_lines(experiment, kept)
        lines += [["" if at else experiment.name, *row] for at, row in enumerate(rows)]
    return [[*line[:-2], line[-1]] for line in [["experiment", *HEAD], *lines]]
