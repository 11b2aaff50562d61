"""Parallel jobs: function calls in several processes; a failure is returned as a result, and the others continue.

There is one process for each GPU, else one single-threaded process for each core. Processes are kept between calls of
`JobPool.run`. They do not import the caller's script; functions that are defined there are sent by value. If a process
is killed from outside, all end; the jobs that were running are then repeated one by one to find the one that dies.
Processes end with the pool, and when their parent process ends, for whatever reason.
"""

import os
import shutil
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypeVar

import torch
from filelock import FileLock, Timeout
from loky import ProcessPoolExecutor

from foveal.core.names import one_line
from foveal.core.processes import end_with_parent, signals_blocked
from foveal.profiling.environment import cores

MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}  # keep freed memory
TICK = 0.5  # seconds between two updates of the progress

Key = TypeVar("Key", bound=Hashable)
Job = tuple[Callable[..., Any], tuple[Any, ...]]  # a function and its arguments

_reports: int | None = None  # in a worker process, the file to which `report` appends a byte for each step
_gpu: FileLock | None = None  # in a worker process, its claim to a GPU, which ends with the process


@dataclass(frozen=True)
class Failed:
    """Result of a job that raised an exception or was killed with its process."""

    reason: str


class JobPool:
    """Worker processes that run jobs; a context manager, at whose end the processes are ended.

    Example:
        >>> with JobPool() as pool:
        ...     pool.run({"a": (abs, (-1,)), "b": (int, ("one",))})
        {'a': 1, 'b': Failed(reason="ValueError: invalid literal for int() with base 10: 'one'")}
    """

    def __init__(self) -> None:
        self._folder = Path(mkdtemp(prefix="foveal-"))
        self._file = self._folder / "reports"
        self._file.touch()
        self._reported = 0
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> "JobPool":
        return self

    def __exit__(self, *raised: Any) -> None:
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, jobs: Mapping[Key, Job], on_report: Callable[[int], None] = lambda count: None) -> dict[Key, Any]:
        """Run jobs in parallel, and return each job's result or `Failed`. Jobs start in their order.

        Args:
            jobs: Key to function and arguments.
            on_report: Called with the number of calls of `report` in all jobs since the last call.
        """
        results: dict[Key, Any] = {}
        while left := {key: job for key, job in jobs.items() if key not in results}:
            for key in self._attempt(left, results, on_report):
                if self._attempt({key: left[key]}, results, on_report):
                    results[key] = Failed("its process was killed, possibly for lack of memory")
        return {key: results[key] for key in jobs}

    def _attempt(self, jobs: Mapping[Key, Job], results: dict[Key, Any], on_report: Callable[[int], None]) -> list[Key]:
        """Run jobs until all are done or a process dies; in that case, return the jobs that were running."""
        with signals_blocked():
            executor = self._started()
            futures = {executor.submit(guarded, call, *arguments): key for key, (call, arguments) in jobs.items()}
        waiting, broken = set(futures), False
        while waiting and not broken:
            done, waiting = wait(waiting, timeout=TICK, return_when=FIRST_COMPLETED)
            for future in done:
                if isinstance(future.exception(), BrokenProcessPool):
                    broken = True
                else:
                    results[futures[future]] = outcome(future)
            size = self._file.stat().st_size
            on_report(size - self._reported)
            self._reported = size
        if broken:
            self._end()
        return [key for key in jobs if key not in results][: workers()]

    def _started(self) -> ProcessPoolExecutor:
        """Return the executor; processes are started when jobs are submitted."""
        if self._executor is None:
            environment = {name: value for name, value in MALLOC.items() if name not in os.environ}
            facts = (os.getpid(), self._folder, visible_gpus())
            self._executor = ProcessPoolExecutor(workers(), env=environment, initializer=begin, initargs=facts)
        return self._executor

    def _end(self) -> None:
        """End all processes and their children at once."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
            self._executor = None


def outcome(future: Future[Any]) -> Any:
    """Return the result of a job, or `Failed` if it could not be sent to a process or back."""
    error = future.exception()
    return future.result() if error is None else Failed(f"{type(error).__name__}: {one_line(error)}")


def guarded(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function, and return `Failed` if it raises an exception."""
    try:
        return call(*arguments)
    except Exception as error:  # any exception: the other jobs continue
        return Failed(f"{type(error).__name__}: {one_line(error)}")


def report() -> None:
    """Count a step of the running job for `on_report`; outside a job, do nothing."""
    if _reports is not None:
        os.write(_reports, b".")


def begin(parent: int, folder: Path, gpus: list[str]) -> None:
    """Initialize a worker process: one thread, a GPU of its own if there are any, and the end with the parent."""
    global _reports
    torch.set_num_threads(1)
    end_with_parent(parent, before=partial(shutil.rmtree, folder, ignore_errors=True))
    _reports = os.open(folder / "reports", os.O_WRONLY | os.O_APPEND)
    claim_gpu(folder, gpus)


def claim_gpu(folder: Path, gpus: list[str]) -> None:
    """Use the first GPU that no other worker process has claimed."""
    global _gpu
    for gpu in gpus:
        lock = FileLock(folder / f"gpu-{gpu}")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        _gpu = lock
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        return


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
