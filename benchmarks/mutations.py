"""Mutations of every file that foveal reads: each must be read well, or be refused in one line that names it.

    python -m benchmarks.mutations [--count 10000] [--seed 0] [--kinds NAME ...] [--case NAME NUMBER]

Faults are other exceptions than ValueError, TypeError and OSError, messages of several lines or without the name of
the file, more than 10 seconds of processor time or 2 GB of memory for one mutation, and crashes. `--case` repeats one
mutation in this process and shows where its error arose. The table is stored as `benchmarks/mutations.md`.
"""

import argparse
import os
import platform
import re
import shutil
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import PIL
import safetensors
import torch

from benchmarks.kinds import KINDS, Kind, write_specimens
from benchmarks.specimens import StoppedError
from benchmarks.watchdog import FAULT, MEGABYTES, READ, REFUSED, SECONDS, Outcome, measured, run_cases
from foveal.core.names import one_line
from foveal.profiling.environment import cores
from foveal.training import train as training

ALLOWED = (ValueError, TypeError, OSError)
LONGEST = 1000  # characters of a message
STORED = Path(__file__).with_suffix(".md")
Case = tuple[str, int]  # kind and number


def prepare(folder: Path, seed: int) -> Callable[[Case], Outcome]:
    """Prepare this process, and return the function that runs one case.

    Raises:
        RuntimeError: a file that was not mutated is not read.
    """
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.environ["HF_HUB_OFFLINE"] = "1"
    training.Trainer.train_epoch = training.Trainer.predict = stop  # type: ignore[method-assign, assignment]
    work = Path(tempfile.mkdtemp(dir=folder))
    for kind in KINDS.values():
        for name in kind.files:
            if (folder / kind.source / name).is_file():
                place, file = copied(kind, name, folder, work)
                kind.read(place, file)
    return lambda case: outcome(*case, folder, work, seed)


def stop(*_: object) -> None:
    raise StoppedError


def copied(kind: Kind, name: str, folder: Path, work: Path) -> tuple[Path, Path]:
    """Copy the well-formed files that are read with one of them; return their folder and that file."""
    source = folder / kind.source
    inner = {"runs": Path(name).parts[0], "images": "plain"}.get(kind.source, "")
    place = work / kind.source / inner
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(source / inner, place)
    if kind.source == "images":
        return place, Path(shutil.copy(source / name, place / "cat"))
    return place, work / kind.source / name


def mutated(name: str, number: int, folder: Path, work: Path, seed: int) -> tuple[Kind, Path, Path, str]:
    """Write the mutation of a number; return its kind, the folder, the file, and what was done."""
    random, kind = Random(f"{seed} {name} {number}"), KINDS[name]  # noqa: S311 (no secret)
    chosen = random.choice([each for each in kind.files if (folder / kind.source / each).is_file()])
    place, file = copied(kind, chosen, folder, work)
    content, what = kind.mutate(random, file.read_bytes())
    file.write_bytes(content)
    return kind, place, file, f"{chosen}: {what}"


def outcome(name: str, number: int, folder: Path, work: Path, seed: int) -> Outcome:
    """Mutate a file, and read it within the limits."""
    kind, place, file, what = mutated(name, number, folder, work, seed)

    def read() -> Outcome:
        try:
            kind.read(place, file)
        except Exception as error:  # any: those that are not allowed are counted
            reason = fault_of(error, kind, place, file)
            line = f"{type(error).__name__}: {one_line(error):.300}"
            return Outcome(FAULT, f"{what}: {reason}: {line}") if reason else Outcome(REFUSED, f"{what}: {line}")
        return Outcome(READ, what)

    return measured(read)


def fault_of(error: Exception, kind: Kind, place: Path, file: Path) -> str:
    """Return what is wrong with an exception; an empty text if a user can act on it."""
    if not isinstance(error, ALLOWED):
        return "another exception"
    if isinstance(error, OSError):
        return "" if error.filename or file.name in str(error) else "no name of a file"
    if "\n" in str(error) or len(str(error)) > LONGEST:
        return "not one line"
    names = "|".join(map(re.escape, (file.name, str(place), *kind.words)))
    return "" if re.search(rf"(?<!\w)({names})(?!\w)", str(error)) else "neither file nor field"


@dataclass
class Tally:
    """Outcomes of the mutations of one kind."""

    title: str
    outcomes: list[Outcome] = field(default_factory=list)

    def row(self) -> str:
        """Format a row of the table."""
        counts = [sum(each.state == state for each in self.outcomes) for state in (READ, REFUSED, FAULT)]
        seconds = max((each.seconds for each in self.outcomes), default=0.0)
        megabytes = max((each.megabytes for each in self.outcomes), default=0.0)
        cells = self.title, len(self.outcomes), *counts, f"{seconds:.1f}", f"{megabytes:.0f}"
        return f"| {' | '.join(map(str, cells))} |"


def run_mutations(
    count: int, seed: int, names: Sequence[str], processes: int, show: Callable[[str], None] = print
) -> tuple[dict[str, Tally], list[str]]:
    """Run mutations of kinds in turn; return the outcomes of each kind, and a line for each fault."""
    tallies = {name: Tally(KINDS[name].title) for name in names}
    faults: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="mutations-"))
    try:
        write_specimens(folder)
        cases = [(names[index % len(names)], index // len(names)) for index in range(count)]
        for (name, number), found in run_cases(cases, processes, prepare, (folder, seed)):
            tallies[name].outcomes.append(found)
            if found.state == FAULT:
                numbers = f"{found.seconds:.1f} s, {found.megabytes:.0f} MB"
                faults.append(f"`--seed {seed} --case {name} {number}`: {found.message} ({numbers})")
                show(faults[-1])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return tallies, faults


def report(tallies: dict[str, Tally], faults: Sequence[str], arguments: str, seconds: float) -> str:
    """Format the outcomes as Markdown."""
    every = Tally("all", [each for tally in tallies.values() for each in tally.outcomes])
    versions = f"torch {torch.__version__}, Pillow {PIL.__version__}, safetensors {safetensors.__version__}"
    lines = [
        "# Mutations of the files that foveal reads",
        "",
        f"Python {platform.python_version()}, {versions}, by `python -m benchmarks.mutations {arguments}`, "
        f"in {seconds:.0f} s on {cores()} cores.",
        "",
        f"A mutation is read well, or refused in one line that names the file or the field; anything else, more than "
        f"{SECONDS:.0f} s of processor time or more than {MEGABYTES / 1024:.0f} GB above the start, is a fault.",
        "",
        "| file | tried | read well | refused | faults | longest, s | most memory, MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(tally.row() for tally in (*tallies.values(), every)),
        "",
        "Faults:" if faults else "No faults.",
        *(f"\n- {fault}" for fault in faults),
    ]
    return "\n".join(lines) + "\n"


def repeat(name: str, number: int, seed: int) -> None:
    """Run one case in this process, and print where its error arose."""
    folder = Path(tempfile.mkdtemp(prefix="mutations-"))
    try:
        write_specimens(folder)
        prepare(folder, seed)
        kind, place, file, what = mutated(name, number, folder, folder / "one", seed)
        print(what)
        kind.read(place, file)
        print("read well")
    except Exception:  # any: it is what was asked for
        traceback.print_exc()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutations, print the table and store it; return the number of faults."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutations", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000, help="number of mutations; default: 10000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=[*KINDS], metavar="NAME", help=", ".join(KINDS))
    parser.add_argument("--processes", type=int, default=cores(), help="default: the number of cores")
    parser.add_argument("--case", nargs=2, metavar=("NAME", "NUMBER"), help="repeat one mutation in this process")
    parser.add_argument("--output", type=Path, help=f"default: {STORED.name} beside this file, if all kinds are run")
    options = parser.parse_args(arguments)
    if options.case:
        repeat(options.case[0], int(options.case[1]), options.seed)
        return 0
    begin = time.perf_counter()
    tallies, faults = run_mutations(options.count, options.seed, options.kinds, options.processes)
    text = report(tallies, faults, f"--count {options.count} --seed {options.seed}", time.perf_counter() - begin)
    print(text, end="")
    output = options.output or (STORED if [*options.kinds] == [*KINDS] else None)
    if output:
        output.write_text(text)
    return len(faults)


if __name__ == "__main__":
    raise SystemExit(1 if main() else 0)
