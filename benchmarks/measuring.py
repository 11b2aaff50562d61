"""Interleaved timing of contenders that do the same work, round by round in one process.

Absolute times drift with the load of the machine; the ratio of two contenders in one round drifts less. The result is
therefore the median of the ratios over rounds, with their interquartile range. Each round has a random order, each
contender is warmed up first, and short work is repeated within a round until it takes some milliseconds. Times are
wall-clock times.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from random import Random
from typing import Any

import torch
from torch import Tensor

from foveal.profiling.timing import using_threads

WARM_UP = 2  # rounds that are not counted
LEAST = 0.004  # minimum seconds of a contender in a round

Run = Callable[[], Any]


@dataclass(frozen=True)
class Goal:
    """Two contenders to compare, and the largest acceptable ratio of their figures, if there is a goal."""

    ours: str
    theirs: str
    ratio: float | None = None


@dataclass(frozen=True)
class Case:
    """Contenders to time; each is a function that does the work once."""

    name: str
    runs: Mapping[str, Run]
    goals: Sequence[Goal]


@dataclass(frozen=True)
class Count:
    """Deterministic figures of contenders, such as bytes."""

    name: str
    unit: str
    figures: Mapping[str, float]
    goals: Sequence[Goal]


@dataclass(frozen=True)
class Row:
    """Comparison of two contenders. For times, `low` to `high` is the interquartile range of the ratios over rounds."""

    case: str
    threads: int | None  # None for figures that do not depend on it
    unit: str
    ours: str
    theirs: str
    figure: float  # figure of ours
    beside: float  # figure of theirs
    ratio: float
    low: float
    high: float
    goal: float | None

    @property
    def verdict(self) -> str:
        """One of "reached", "within noise" (goal in the interquartile range), "missed", and "" without a goal."""
        if self.goal is None:
            return ""
        return "reached" if self.high <= self.goal else "missed" if self.low > self.goal else "within noise"


def rows_of(case: Case | Count, threads: Sequence[int], rounds: int) -> Iterator[Row]:
    """Measure a case with each number of threads, and yield a row for each goal."""
    if isinstance(case, Count):
        for goal in case.goals:
            ours, theirs = case.figures[goal.ours], case.figures[goal.theirs]
            ratio = ours / theirs
            yield Row(case.name, None, case.unit, goal.ours, goal.theirs, ours, theirs, *3 * (ratio,), goal.ratio)
        return
    for count in threads:
        with using_threads(count):
            taken = in_turn(case.runs, rounds)
        medians = {name: statistics.median(each) for name, each in taken.items()}
        for goal in case.goals:
            ratios = [mine / other for mine, other in zip(taken[goal.ours], taken[goal.theirs], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
            ours, theirs = medians[goal.ours], medians[goal.theirs]
            yield Row(case.name, count, "ms", goal.ours, goal.theirs, ours, theirs, middle, low, high, goal.ratio)


def in_turn(runs: Mapping[str, Run], rounds: int) -> dict[str, list[float]]:
    """Measure the milliseconds of each run in every round."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    order, shuffle = [*runs], Random(0).shuffle  # noqa: S311
    with without_collections():
        warm = [seconds(runs[name], 1) for _ in range(WARM_UP) for name in order]
        times = max(1, ceil(LEAST / min(warm)))
        for _ in range(rounds):
            for name in order:
                taken[name].append(1e3 * seconds(runs[name], times) / times)
            shuffle(order)
    return taken


def seconds(run: Run, times: int) -> float:
    """Measure the seconds of several calls."""
    begin = time.perf_counter()
    for _ in range(times):
        run()
    return time.perf_counter() - begin


@contextmanager
def without_collections() -> Iterator[None]:
    """Disable Python's garbage collection inside the context, since it would distort single measurements."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def learning(forward: Callable[[], Tensor], leaves: Sequence[Tensor]) -> Run:
    """Return a function that runs a forward pass and computes the gradients of its sum for the leaves."""
    ones = torch.ones_like(forward())

    def run() -> tuple[Tensor, ...]:
        with torch.enable_grad():
            return torch.autograd.grad(forward(), leaves, ones)

    return run
