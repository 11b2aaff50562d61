"""Contenders that do the same work, in turn, round after round, in one process.

Single milliseconds drift with what else a machine does; the ratio of two contenders in one round does so less. So a
ratio is the median over rounds of the rounds' own ratios, with the range of their middle half. Each round has an order
of its own, drawn at random, each contender warms up first, and short work is repeated within a round until it takes
some milliseconds. Times are those of the clock on the wall.
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

WARM_UP = 2  # rounds that do not count
LEAST = 0.004  # seconds that a contender works in a round

Run = Callable[[], Any]


@dataclass(frozen=True)
class Goal:
    """Which contender is held against which, and the largest ratio that is aimed at, if one is."""

    ours: str
    theirs: str
    ratio: float | None = None


@dataclass(frozen=True)
class Case:
    """Contenders, each a call that does the work once."""

    name: str
    runs: Mapping[str, Run]
    goals: Sequence[Goal]


@dataclass(frozen=True)
class Count:
    """Figures of contenders that are the same in every run, such as bytes."""

    name: str
    unit: str
    figures: Mapping[str, float]
    goals: Sequence[Goal]


@dataclass(frozen=True)
class Row:
    """One contender held against another. For times, `low` to `high` is the middle half of the rounds' ratios."""

    case: str
    threads: int | None  # None for what does not depend on them
    unit: str
    ours: str
    theirs: str
    figure: float  # ours
    beside: float  # theirs
    ratio: float
    low: float
    high: float
    goal: float | None

    @property
    def verdict(self) -> str:
        """Reached; "within noise", where the goal lies within the middle half of the ratios; missed; "" without one."""
        if self.goal is None:
            return ""
        return "reached" if self.high <= self.goal else "missed" if self.low > self.goal else "within noise"


def rows_of(case: Case | Count, threads: Sequence[int], rounds: int) -> Iterator[Row]:
    """Measure a case with each number of threads."""
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
    """Milliseconds of each run in every round."""
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
    begin = time.perf_counter()
    for _ in range(times):
        run()
    return time.perf_counter() - begin


@contextmanager
def without_collections() -> Iterator[None]:
    """Python collects no garbage meanwhile, which would count for whoever's turn it is."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def learning(forward: Callable[[], Tensor], leaves: Sequence[Tensor]) -> Run:
    """A forward pass and the gradients of its sum for some tensors."""
    ones = torch.ones_like(forward())

    def run() -> tuple[Tensor, ...]:
        with torch.enable_grad():
            return torch.autograd.grad(forward(), leaves, ones)

    return run
