"""A comparison's jobs side by side, one thread each, against one after another with all threads.

    python benchmarks/jobs.py > benchmarks/jobs.md

The contenders of the main job but its control, one seed. The two ways take turns, three times each; starting processes
and importing counts for both. The memory allocator is as `foveal compare` sets it, for both.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from foveal.comparison.jobs import cores, keeping_memory, run_jobs
from foveal.comparison.plans import CONTENDERS, CONTROLS, network_name
from foveal.naming import slug
from foveal.settings import Settings
from foveal.training import train

ROUNDS = 3
ALL = [Settings(model=network_name("small_cnn", name)) for name in CONTENDERS if name not in CONTROLS]


def side_by_side(folder: Path) -> None:
    run_jobs({each.model: (train, (each, folder / slug(each.model))) for each in ALL})


def in_turn(folder: Path) -> None:
    with keeping_memory():
        subprocess.run([sys.executable, __file__, str(folder)], check=True)  # noqa: S603


def seconds(way, folder: Path) -> float:
    begin = time.perf_counter()
    way(folder)
    taken = time.perf_counter() - begin
    shutil.rmtree(folder)
    return taken


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        pairs = [[seconds(way, Path(place) / "runs") for way in (side_by_side, in_turn)] for _ in range(ROUNDS)]
    print(f"# Jobs side by side, on {cores()} cores\n\n{len(ALL)} runs.\n")
    print("| round | side by side, s | in turn, s | times as fast |\n| --- | --- | --- | --- |")
    for number, (fast, slow) in enumerate(pairs, start=1):
        print(f"| {number} | {fast:.1f} | {slow:.1f} | {slow / fast:.2f} |")
    print(f"\nMedian: {statistics.median(slow / fast for fast, slow in pairs):.2f} times as fast.")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        import torch

        torch.set_num_threads(cores())
        for each in ALL:
            train(each, Path(sys.argv[1]) / slug(each.model))
    else:
        main()
