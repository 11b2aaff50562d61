"""Benchmark of the default comparison: parallel runs with one thread each, against sequential runs with all threads.

    python -m benchmarks.jobs > benchmarks/jobs.md

The two schedules are interleaved in one run of this file. The times include the start of processes and imports. Both
use the memory allocator's settings of `foveal compare`.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from foveal.comparison.compare import trainings
from foveal.comparison.contenders import CONTENDERS
from foveal.comparison.jobs import Job, JobPool
from foveal.comparison.local_workers import MALLOC, LocalWorkers
from foveal.comparison.plan import make_plan
from foveal.profiling.environment import cores, processor
from foveal.training.config import CompareConfig
from foveal.training.run_folder import finished

ROUNDS = 2
IN_TURN = "--in-turn"


def main_job(folder: Path) -> dict[tuple[str, int], Job]:
    """Return the training jobs of the default comparison."""
    plan = make_plan(CONTENDERS, CompareConfig(), folder)
    return trainings(plan, dict.fromkeys(plan.models, plan.config.lr))


def in_turn(folder: Path) -> None:
    """Run the jobs sequentially in a new process."""
    command = [sys.executable, "-m", "benchmarks.jobs", IN_TURN, str(folder)]
    subprocess.run(command, check=True, env={**MALLOC, **os.environ})  # noqa: S603


def side_by_side(folder: Path) -> None:
    """Run the jobs in parallel."""
    with JobPool(LocalWorkers()) as pool:
        pool.run(main_job(folder))


def one_after_another(folder: Path) -> None:
    """Run the jobs sequentially with all threads."""
    torch.set_num_threads(cores())
    for call, arguments in main_job(folder).values():
        call(*arguments)


def seconds(schedule) -> tuple[float, float]:
    """Measure the wall-clock seconds of a schedule, and the sum of the training times that the runs report."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        schedule(Path(folder))
        taken = time.perf_counter() - begin
        return taken, sum(finished(run).seconds for run in Path(folder).iterdir() if run.is_dir())


def main() -> None:
    schedules = (side_by_side, in_turn)
    rounds = [[seconds(schedule) for schedule in schedules] for _ in range(ROUNDS)]
    runs = len(CONTENDERS) * CompareConfig().seeds
    print(f"# Parallel runs of the default comparison, on {cores()} cores\n\n{processor()}; {runs} runs.\n")
    print("| round | parallel, s | sequential, s | speed-up | upper limit from the runs' own times |")
    print("| --- | --- | --- | --- | --- |")
    for number, ((fast, alone), (slow, threaded)) in enumerate(rounds, start=1):
        print(f"| {number} | {fast:.1f} | {slow:.1f} | {slow / fast:.2f} | {cores() * threaded / alone:.2f} |")
    print(f"\nMedian speed-up: {statistics.median(slow / fast for (fast, _), (slow, _) in rounds):.2f}.")
    print(
        "\nA parallel run has one core; a sequential run has all cores and is faster. This gain determines the upper\n"
        "limit of the speed-up in the last column, which would be the number of cores if further threads had no effect."
    )


if __name__ == "__main__":
    if sys.argv[1:2] == [IN_TURN]:
        one_after_another(Path(sys.argv[2]))
    else:
        main()
