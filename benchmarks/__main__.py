"""Measure how fast attention is, beside timm, torchvision and no attention: `python -m benchmarks [PART ...]`."""

import argparse
from pathlib import Path

from benchmarks.bench import PARTS, bench, circumstances
from benchmarks.results import line_of, write_results


def main(arguments: list[str] | None = None) -> list[Path]:
    """Measure, print each figure, and write them; the paths of the files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all if left out")
    parser.add_argument(
        "--threads", nargs="*", type=int, default=(), help="one number after the other; 1 2 if left out"
    )
    parser.add_argument("--rounds", type=int, default=15, help="in which the contenders take turns")
    parser.add_argument("--output", type=Path, default=Path("bench"), help="the endings md, json and png are added")
    options = parser.parse_args(arguments)
    paths: list[Path] = []
    try:
        for found in bench(options.parts, options.threads, options.rounds, lambda row: print(line_of(row), flush=True)):
            paths = write_results(found, circumstances(options.rounds), options.output)
    except ValueError as error:
        parser.error(str(error))
    for path in paths:
        print(path)
    return paths


if __name__ == "__main__":
    main()
