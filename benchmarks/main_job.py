"""The main job, `foveal compare` without arguments, with ten first seeds: its verdicts and its times.

    python -m benchmarks.main_job [--times 10] [--output FOLDER] [CONTENDER...] > benchmarks/main_job.md

Each job is the command as a user gives it, from its start to its end. Other contenders, such as `none copy=none`, show
how often a copy of the baseline gets a verdict.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from foveal.profiling.environment import cores, processor

SEEDS = 3


def job(contenders: list[str], first: int, folder: Path) -> tuple[float, dict[str, dict[str, Any]]]:
    """Run a comparison; return its seconds, and verdict, difference, interval and p by contender."""
    command = [sys.executable, "-m", "foveal", "compare", *contenders, "--seed", str(first), "--output", str(folder)]
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    seconds = time.perf_counter() - begin
    return seconds, json.loads((folder / "results.json").read_text())["verdicts"]


def number(value: float | None, form: str) -> str:
    """Write a number, or that there is none."""
    return "-" if value is None else format(value, form)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.main_job", description=__doc__)
    parser.add_argument("contenders", nargs="*")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--output", type=Path, help="folder that keeps the reports")
    options = parser.parse_args()
    lines, longest = [], 0.0
    kinds: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as root:
        for index in range(options.times):
            first = SEEDS * index
            seconds, verdicts = job(options.contenders, first, (options.output or Path(root)) / str(first))
            longest = max(longest, seconds)
            for name, each in verdicts.items():
                figures = [number(each[key], "+.2f") for key in ("mean", "ci_low", "ci_high")]
                difference = f"{figures[0]} ({figures[1]} to {figures[2]})"
                p = number(each["p"], ".4f")
                lines.append(f"| {first} | {seconds:.0f} | {name} | {difference} | {p} | {each['label']} |")
                kinds.setdefault(name, []).append(str(each["kind"]))
                print(lines[-1], file=sys.stderr, flush=True)
    print(f"# `foveal compare {' '.join(options.contenders)}`, {options.times} times\n")
    print(f"{processor()}, {cores()} cores. The longest took {longest:.0f} s.\n")
    for name, found in kinds.items():
        counts = ", ".join(f"{kind} {found.count(kind)}" for kind in dict.fromkeys(found))
        print(f"- {name}: {counts}")
    print("\n| first seed | seconds | contender | difference, points (95 %) | p | verdict |")
    print("| ---: | ---: | --- | --- | ---: | --- |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
