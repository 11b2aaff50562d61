"""The benchmark's parts, and a run of some of them."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from foveal.benchmark.inference import deployed, watching
from foveal.benchmark.measuring import Case, Count, Row, rows_of
from foveal.benchmark.others import read_note
from foveal.benchmark.training import kernels, networks, tails
from foveal.benchmark.units import units
from foveal.benchmark.warping import warps
from foveal.machine import cores, processor, versions
from foveal.naming import look_up

PARTS: dict[str, Callable[[Any], Iterator[Case | Count]]] = {
    "units": units,
    "warps": warps,
    "watching": watching,
    "tails": tails,
    "kernels": kernels,
    "deployed": deployed,
    "training": networks,
}


def bench(
    parts: Sequence[str],
    threads: Sequence[int],
    rounds: int,
    note: Path | None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Iterator[dict[str, list[Row]]]:
    """Measure parts of the benchmark, all of them if none is named; what was found, after each part.

    Args:
        parts: of `PARTS`.
        threads: how many, one number after the other; one and two, where there are as many cores, if none is given.
        rounds: in which the contenders take turns.
        note: a file with the study note's code.
        on_row: told each figure.

    Raises:
        ValueError: an unknown part, fewer than two rounds, no thread or more than cores, a file that is no code.
    """
    for part in parts:
        look_up("part", part, PARTS)
    if rounds < 2:
        raise ValueError(f"rounds={rounds}: two or more, for a spread")
    threads = threads or [count for count in (1, 2) if count <= cores()]
    for count in threads:
        if not 1 <= count <= cores():
            raise ValueError(f"threads={count}: from 1 to {cores()}, the cores here")
    code = read_note(note)
    found: dict[str, list[Row]] = {}
    for part in parts or PARTS:
        torch.manual_seed(0)
        rows = found.setdefault(part, [])
        for case in PARTS[part](code):
            for row in rows_of(case, threads, rounds):
                rows.append(row)
                on_row(row)
        yield found


def circumstances(rounds: int, note: Path | None) -> dict[str, str]:
    """Under which the figures were measured."""
    malloc = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("MALLOC_")]
    return {
        "Processor": f"{processor()}, {cores()} cores that a process may use",
        "Instructions": torch.backends.cpu.get_cpu_capability(),
        "Versions": versions(),
        "Memory": " ".join(malloc) or "malloc as it comes: pages for fresh large tensors cost time",
        "Rounds": str(rounds),
        "The note's code": "not given" if note is None else "measured beside",
    }
