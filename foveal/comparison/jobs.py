"""Jobs side by side: plain calls, spread over processes; one that fails is told of, and the others go on.

A process a core with one thread each, or one a GPU. A process that is killed from outside takes the pool with it: the
jobs that were at work then are tried again one by one, so that the one that dies is known. Processes end with the one
that started them, however that ended.
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
TICK = 0.5  # seconds between two looks at the progress

_counts: Any = None  # steps of each process of the pool, where this is one of them
_number = 0  # of this process

Key = TypeVar("Key", bound=Hashable)
Job = tuple[Callable[..., Any], tuple[Any, ...]]  # of a module's function, and what it is called with


@dataclass(frozen=True)
class Failed:
    """What became of a job that did not end well."""

    reason: str


def run_jobs(jobs: Mapping[Key, Job], on_report: Callable[[int], None] = lambda count: None) -> dict[Key, Any]:
    """Each job's result, or `Failed`, in the order of the jobs; they begin in this order too.

    Args:
        jobs: calls by key.
        on_report: called with the number of reports (`report`) that the jobs have made since the last call.
    """
    results: dict[Key, Any] = {}
    while left := {key: job for key, job in jobs.items() if key not in results}:
        for key in attempt(left, workers(), results, on_report):
            if attempt({key: left[key]}, 1, results, on_report):
                results[key] = Failed("its process was killed, as a system short of memory does")
    return {key: results[key] for key in jobs}


def attempt(
    jobs: Mapping[Key, Job], count: int, results: dict[Key, Any], on_report: Callable[[int], None]
) -> list[Key]:
    """Run jobs until all are done or a process dies; the jobs that were at work then."""
    context = get_context("spawn")
    begun, counts = context.Value("i", 0), context.RawArray("l", count)  # each process writes a number of its own
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
    try:
        return call(*arguments)
    except Exception as error:  # whatever it is: the other jobs go on
        return Failed(f"{type(error).__name__}: {one_line(error)}")


def report() -> None:
    """Count a step of the job at work, for the process that runs the jobs; does nothing outside a job."""
    if _counts is not None:
        _counts[_number] += 1


def begin(begun: Any, counts: Any) -> None:
    """A process starts: one thread, one GPU where there are some, and an end when its parent ends."""
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
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def visible_gpus() -> list[str]:
    if not torch.cuda.device_count():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [each for each in named.split(",") if each]
    return [str(index) for index in range(torch.cuda.device_count())]


def workers() -> int:
    """How many jobs run at a time: the GPUs, else the cores, that this process may use."""
    return len(visible_gpus()) or cores()


@contextmanager
def keeping_memory() -> Iterator[None]:
    """For processes started meanwhile: glibc keeps what was freed, since pages for fresh large tensors cost time."""
    earlier = dict(os.environ)
    os.environ.update({name: value for name, value in MALLOC.items() if name not in earlier})
    try:
        yield
    finally:
        for name in MALLOC:
            if name not in earlier:
                os.environ.pop(name, None)
