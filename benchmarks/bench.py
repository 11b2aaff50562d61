"""The benchmark's parts, and a run of some of them."""

import os
from collections.abc import Callable, Iterator, Sequence

import torch

from benchmarks.inference import deployed, watching
from benchmarks.measuring import Case, Count, Row, rows_of
from benchmarks.training import kernels, networks, tails
from benchmarks.units import units
from benchmarks.warping import warps
from foveal.core.names import lookup
from foveal.profiling.environment import cores, processor, versions

PARTS: dict[str, Callable[[], Iterator[Case | Count]]] = {
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
    on_row: Callable[[Row], None] = lambda row: None,
) -> Iterator[dict[str, list[Row]]]:
    """Measure parts of the benchmark, all of them if none is named; what was found, after each part.

    Args:
        parts: of `PARTS`.
        threads: how many, one number after the other; one and two, where there are as many cores, if none is given.
        rounds: in which the contenders take turns.
        on_row: told each figure.

    Raises:
        ValueError: an unknown part, fewer than two rounds, no thread or more than cores.
    """
    for part in parts:
        lookup("part", part, PARTS)
    if rounds < 2:
        raise ValueError(f"rounds={rounds}: two or more, for a spread")
    threads = threads or [count for count in (1, 2) if count <= cores()]
    for count in threads:
        if not 1 <= count <= cores():
            raise ValueError(f"threads={count}: from 1 to {cores()}, the cores here")
    found: dict[str, list[Row]] = {}
    for part in parts or PARTS:
        torch.manual_seed(0)
        rows = found.setdefault(part, [])
        for case in PARTS[part]():
            for row in rows_of(case, threads, rounds):
                rows.append(row)
                on_row(row)
        yield found


def circumstances(rounds: int) -> dict[str, str]:
    """Under which the figures were measured."""
    malloc = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("MALLOC_")]
    return {
        "Processor": f"{processor()}, {cores()} cores that a process may use",
        "Instructions": torch.backends.cpu.get_cpu_capability(),
        "Versions": versions(),
        "Memory": " ".join(malloc) or "malloc as it comes: pages for fresh large tensors cost time",
        "Rounds": str(rounds),
    }
