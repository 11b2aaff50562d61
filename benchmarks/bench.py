"""Parts of the benchmark, and their execution."""

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
    """Run parts of the benchmark, and yield all results so far after each part.

    Args:
        parts: Names of `PARTS`; all of them if empty.
        threads: Numbers of threads; 1 and 2, up to the number of cores, if empty.
        rounds: Number of interleaved rounds.
        on_row: Called with each result.

    Raises:
        ValueError: If a part is unknown, `rounds` is below 2, or a number of threads is not from 1 to the cores.
    """
    for part in parts:
        lookup("part", part, PARTS)
    if rounds < 2:
        raise ValueError(f"rounds={rounds}: must be 2 or more, for an interquartile range")
    threads = threads or [count for count in (1, 2) if count <= cores()]
    for count in threads:
        if not 1 <= count <= cores():
            raise ValueError(f"threads={count}: must be from 1 to {cores()}, the number of available cores")
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
    """Describe the environment of the measurement."""
    malloc = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("MALLOC_")]
    return {
        "Processor": f"{processor()}, {cores()} available cores",
        "Instructions": torch.backends.cpu.get_cpu_capability(),
        "Versions": versions(),
        "Memory": " ".join(malloc) or "default malloc: new pages for large tensors cost time at each allocation",
        "Rounds": str(rounds),
    }
