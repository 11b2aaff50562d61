"""Parallel jobs: function calls in several processes; a failure is returned as a result, and the others continue.

There is one process for each GPU, else one single-threaded process for each core. If a process is killed from outside,
the whole pool breaks; the jobs that were running are then repeated one by one to find the one that dies. Worker
processes exit when their parent process ends, for whatever reason.
"""

import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, TypeVar

import torch

from foveal.core.names import one_line
from foveal.profiling.environment import cores

MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
TICK = 0.5  # seconds between two updates of the progress

_counts: Any = None  # steps of each worker process; None outside a worker
_number = 0  # index of this worker process

Key = TypeVar("Key", bound=Hashable)
Job = tuple[Callable[..., Any], tuple[Any, ...]]  # a module-level function and its arguments


@dataclass(frozen=True)
class Failed:
    """Result of a job that raised an exception or was killed with its process."""

    reason: str


def run_jobs(jobs: Mapping[Key, Job], on_report: Callable[[int], None] = lambda count: None) -> dict[Key, Any]:
    """Run jobs in parallel, and return each job's result or `Failed`. Jobs start in their order.

    Args:
        jobs: Key to function and arguments.
        on_report: Called with the number of calls of `report` in all jobs since the last call.
    """
    results: dict[Key, Any] = {}
    while left := {key: job for key, job in jobs.items() if key not in results}:
        for key in attempt(left, workers(), results, on_report):
            if attempt({key: left[key]}, 1, results, on_report):
                results[key] = Failed("its process was killed, possibly for lack of memory")
    return {key: results[key] for key in jobs}


def attempt(
    jobs: Mapping[Key, Job], count: int, results: dict[Key, Any], on_report: Callable[[int], None]
) -> list[Key]:
    """Run jobs until all are done or a process dies; in that case, return the jobs that were running."""
    context = get_context("spawn")
    begun, counts = context.Value("i", 0), context.RawArray("l", count)  # each process writes its own entry
    reported = 0
    with keeping_memory():
        pool = ProcessPoolExecutor(min(count, len(jobs)), context, initializer=begin, initargs=(begun, counts))
        futures = {pool.submit(guarded, *job): key for key, job in jobs.items()}
        waiting = set(futures)
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=TICK, return_when=FIRST_COMPLETED)
                results.update({futures[future]: future.result() for future in done})
                total = sum(counts)
                on_report(total - reported)
                reported = total
        except BrokenProcessPool:
            return [key for key in jobs if key not in results][:count]
        finally:
            pool.shutdown(wait=not waiting, cancel_futures=True)
    return []


def guarded(call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call a function, and return `Failed` if it raises an exception."""
    try:
        return call(*arguments)
    except Exception as error:  # any exception: the other jobs continue
        return Failed(f"{type(error).__name__}: {one_line(error)}")


def report() -> None:
    """Count a step of the running job for `on_report`; outside a job, do nothing."""
    if _counts is not None:
        _counts[_number] += 1


def begin(begun: Any, counts: Any) -> None:
    """Initialize a worker process: one thread, one GPU if there are any, and exit when the parent ends."""
    global _counts, _number
    torch.set_num_threads(1)
    Thread(target=end_with_parent, daemon=True).start()
    with begun.get_lock():
        number, begun.value = begun.value, begun.value + 1
    _counts, _number = counts, number
    gpus = visible_gpus()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]


def end_with_parent() -> None:
    """Wait until the parent process ends, then exit."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def visible_gpus() -> list[str]:
    """List the GPUs that this process may use, as in CUDA_VISIBLE_DEVICES."""
    if not torch.cuda.device_count():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [each for each in named.split(",") if each]
    return [str(index) for index in range(torch.cuda.device_count())]


def workers() -> int:
    """Return the number of parallel jobs: the number of GPUs, else of cores, that this process may use."""
    return len(visible_gpus()) or cores()


@contextmanager
def keeping_memory() -> Iterator[None]:
    """Make glibc keep freed memory in processes that are started in this context.

    New pages for large tensors would otherwise cost time at each allocation.
    """
    earlier = dict(os.environ)
    os.environ.update({name: value for name, value in MALLOC.items() if name not in earlier})
    try:
        yield
    finally:
        for name in MALLOC:
            if name not in earlier:
                os.environ.pop(name, None)
