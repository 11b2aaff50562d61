"""Parallel jobs: function calls in several processes; a failure is returned as a result, and the others continue.

Where the processes are is the matter of `Workers`: on this machine (`foveal.comparison.local_workers`), or on the
machines of a cluster (`foveal.comparison.cluster`). Jobs whose process died are repeated one by one, to find the one
that dies.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from foveal.core.names import one_line

TICK = 0.5  # seconds between two updates of the progress

Key = TypeVar("Key", bound=Hashable)
Job = tuple[Callable[..., Any], tuple[Any, ...]]  # a function and its arguments

_on_report: Callable[[], Any] = lambda: None  # noqa: E731  (in a worker process, what `report` calls)


@dataclass(frozen=True)
class Failed:
    """Result of a job that raised an exception or was killed with its process."""

    reason: str


class DiedError(Exception):
    """The process of a job died before the job had a result."""


class Workers(Protocol):
    """Processes that run jobs.

    Attributes:
        size: number of jobs that run at the same time.
    """

    size: int

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Give a job to a process, in the order of the calls; return its handle."""

    def wait(self, handles: Iterable[Any], seconds: float) -> tuple[Iterable[Any], Iterable[Any]]:
        """Wait until a job is done, so long at most; return the handles of those that are done, and the others."""

    def result(self, handle: Any) -> Any:
        """Return the result of a job that is done.

        Raises:
            DiedError: its process died.
        """

    def reported(self) -> int:
        """Return the number of calls of `report` in all jobs so far."""

    def renew(self) -> None:
        """Replace processes, after one of them died."""

    def close(self) -> None:
        """End all processes at once."""


class JobPool:
    """Worker processes that run jobs; a context manager, at whose end the processes are ended.

    Args:
        workers: the processes, for example `foveal.comparison.local_workers.LocalWorkers()`.

    Example:
        >>> from foveal.comparison.local_workers import LocalWorkers
        >>> with JobPool(LocalWorkers()) as pool:
        ...     pool.run({"a": (abs, (-1,)), "b": (int, ("one",))})
        {'a': 1, 'b': Failed(reason="ValueError: invalid literal for int() with base 10: 'one'")}
    """

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self._reported = 0

    def __enter__(self) -> "JobPool":
        return self

    def __exit__(self, *raised: Any) -> None:
        self.workers.close()

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
        """Run jobs until each has a result or its process died; return the first of the latter, those that ran."""
        handles = {self.workers.submit(call, *arguments): key for key, (call, arguments) in jobs.items()}
        waiting: Iterable[Any] = list(handles)
        died = False
        while waiting:
            done, waiting = self.workers.wait(waiting, TICK)
            for handle in done:
                try:
                    results[handles[handle]] = self.workers.result(handle)
                except DiedError:
                    died = True
            reported = self.workers.reported()
            on_report(reported - self._reported)
            self._reported = reported
        if died:
            self.workers.renew()
        return [key for key in jobs if key not in results][: self.workers.size]


def guarded(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function, and return `Failed` if it raises an exception."""
    try:
        return call(*arguments)
    except Exception as error:  # any exception: the other jobs continue
        return failed(error)


def failed(error: BaseException) -> Failed:
    """Return `Failed` with an exception's type and message in one line."""
    return Failed(f"{type(error).__name__}: {one_line(error)}")


def report() -> None:
    """Count a step of the running job for `on_report`; outside a job, do nothing."""
    _on_report()


def begin_reports(on_report: Callable[[], Any]) -> None:
    """Let `report` call a function in this worker process."""
    global _on_report
    _on_report = on_report
