"""The runs of the main job side by side, one thread each, against one after another with all threads.

    python -m benchmarks.jobs > benchmarks/jobs.md

The two ways take turns, in one run of this file; starting processes and importing counts for both. The memory allocator
is as `foveal compare` sets it, for both.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from foveal.comparison.compare import trainings
from foveal.comparison.jobs import Job, keeping_memory, run_jobs
from foveal.comparison.plan import CONTENDERS, make_plan
from foveal.profiling.environment import cores, processor
from foveal.training.config import CompareConfig
from foveal.training.run_folder import finished

ROUNDS = 2
IN_TURN = "--in-turn"


def main_job(folder: Path) -> dict[tuple[str, int], Job]:
    plan = make_plan(CONTENDERS, CompareConfig(), folder)
    return trainings(plan, dict.fromkeys(plan.models, plan.config.lr))


def in_turn(folder: Path) -> None:
    with keeping_memory():
        subprocess.run([sys.executable, "-m", "benchmarks.jobs", IN_TURN, str(folder)], check=True)  # noqa: S603


def one_after_another(folder: Path) -> None:
    torch.set_num_threads(cores())
    for call, arguments in main_job(folder).values():
        call(*arguments)


def seconds(way) -> tuple[float, float]:
    """Of the clock, and those that the runs say they trained, in sum."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        way(Path(folder))
        taken = time.perf_counter() - begin
        return taken, sum(finished(run).seconds for run in Path(folder).iterdir() if run.is_dir())


def main() -> None:
    ways = (lambda folder: run_jobs(main_job(folder)), in_turn)
    rounds = [[seconds(way) for way in ways] for _ in range(ROUNDS)]
    runs = len(CONTENDERS) * CompareConfig().seeds
    print(f"# The main job's runs side by side, on {cores()} cores\n\n{processor()}; {runs} runs.\n")
    print("| round | side by side, s | in turn, s | times as fast | at most, by the runs' own times |")
    print("| --- | --- | --- | --- | --- |")
    for number, ((fast, alone), (slow, threaded)) in enumerate(rounds, start=1):
        print(f"| {number} | {fast:.1f} | {slow:.1f} | {slow / fast:.2f} | {cores() * threaded / alone:.2f} |")
    print(f"\nMedian: {statistics.median(slow / fast for (fast, _), (slow, _) in rounds):.2f} times as fast.")
    print(
        "\nSide by side, each run has one core to itself. A run that gets all of them is sooner done; what it gains "
        "sets\nthe bound in the last column, which would be the number of cores if further threads brought nothing."
    )


if __name__ == "__main__":
    if sys.argv[1:2] == [IN_TURN]:
        one_after_another(Path(sys.argv[2]))
    else:
        main()
