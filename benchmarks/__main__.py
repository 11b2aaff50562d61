"""Benchmark attention against timm, torchvision and no attention: `python -m benchmarks [PART ...]`."""

import argparse
from pathlib import Path

from benchmarks.bench import PARTS, bench, circumstances
from benchmarks.results import line_of, write_results


def main(arguments: list[str] | None = None) -> list[Path]:
    """Run the benchmark, print each result, write the files and return their paths."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--threads", nargs="*", type=int, default=(), help="numbers of threads; default: 1 2")
    parser.add_argument("--rounds", type=int, default=15, help="number of interleaved rounds; default: 15")
    parser.add_argument("--output", type=Path, default=Path("bench"), help="path without ending; default: bench")
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
