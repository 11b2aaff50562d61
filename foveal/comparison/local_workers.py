"""Worker processes on this machine: one for each GPU, else one single-threaded process for each core.

Processes are kept between calls. They do not import the caller's script; functions that are defined there are sent by
value. If a process is killed from outside, all end. Processes end with their parent process, for whatever reason.
"""

import os
import shutil
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from filelock import FileLock, Timeout
from loky import ProcessPoolExecutor

from foveal.comparison.jobs import DiedError, begin_reports, failed, guarded
from foveal.core.processes import end_with_parent, forget_launch, signals_blocked
from foveal.profiling.environment import cores

MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}  # keep freed memory

_gpu: FileLock | None = None  # in a worker process, its claim to a GPU, which ends with the process


class LocalWorkers:
    """Worker processes on this machine; they are started with the first job."""

    def __init__(self) -> None:
        self.size = count_local()
        self._folder = Path(mkdtemp(prefix="foveal-"))
        self._file = self._folder / "reports"
        self._file.touch()
        self._executor: ProcessPoolExecutor | None = None

    def submit(self, call: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        try:
            with signals_blocked():
                return self._started().submit(guarded, call, *arguments)
        except BrokenProcessPool as error:  # a process died since
            broken: Future[Any] = Future()
            broken.set_exception(error)
            return broken

    def wait(self, handles: Iterable[Any], seconds: float) -> tuple[Iterable[Any], Iterable[Any]]:
        return wait(handles, timeout=seconds, return_when=FIRST_COMPLETED)

    def result(self, handle: "Future[Any]") -> Any:
        """Return the result of a job, or `Failed` if it could not be sent to a process or back."""
        error = handle.exception()
        if isinstance(error, BrokenProcessPool):
            raise DiedError from error
        return handle.result() if error is None else failed(error)

    def reported(self) -> int:
        return self._file.stat().st_size

    def renew(self) -> None:
        """End all processes and their children at once; the next job starts others."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
            self._executor = None

    def close(self) -> None:
        self.renew()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _started(self) -> ProcessPoolExecutor:
        """Return the executor; processes are started when jobs are submitted."""
        if self._executor is None:
            environment = {name: value for name, value in MALLOC.items() if name not in os.environ}
            facts = (os.getpid(), self._folder, visible_gpus())
            # loky replaces a process between two jobs when its memory has grown by 300 MB, as it does here: see MALLOC
            warnings.filterwarnings("ignore", "A worker (was restarted|stopped)", UserWarning, "loky")
            self._executor = ProcessPoolExecutor(self.size, env=environment, initializer=begin, initargs=facts)
        return self._executor


def begin(parent: int, folder: Path, gpus: list[str]) -> None:
    """Initialize a worker process: one thread, a GPU of its own if there are any, and the end with the parent."""
    forget_launch()
    torch.set_num_threads(1)
    end_with_parent(parent, before=partial(shutil.rmtree, folder, ignore_errors=True))
    reports = os.open(folder / "reports", os.O_WRONLY | os.O_APPEND)
    begin_reports(lambda: os.write(reports, b"."))
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


def count_local() -> int:
    """Return the number of parallel jobs: the number of GPUs, else of cores, that this process may use."""
    return len(visible_gpus()) or cores()
