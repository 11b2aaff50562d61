"""Cases in worker processes under limits of time and memory: a case that hangs, grows or crashes ends its worker alone.

Processor time and resident memory are read from /proc (Linux), so that other work on the machine does not count.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

SECONDS, MEGABYTES = 10.0, 2048.0  # of processor time, and above the memory at the start of the case
IDLE = 120.0  # seconds without an answer, whatever the processor time
TICK = 0.05  # seconds between two looks at a worker
READ, REFUSED, FAULT = "read", "refused", "fault"


@dataclass(frozen=True)
class Outcome:
    """End of a case: state, the message of the error if there is one, processor time, and memory above the start."""

    state: str
    message: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0


def resident(process: int | str = "self", field: str = "VmRSS") -> float:
    """Return the resident memory of a process in megabytes, or its peak, VmHWM."""
    status = Path(f"/proc/{process}/status").read_text()
    return next((float(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(field)), 0.0)


def processor_time(process: int) -> float:
    """Return the seconds of processor time that a process has used."""
    values = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def measured(case: Callable[[], Outcome]) -> Outcome:
    """Run a case in this process, with its processor time and peak memory; one beyond the limits is a fault."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, begin = resident(), time.process_time()
    found = case()
    seconds, megabytes = time.process_time() - begin, resident(field="VmHWM") - before
    if found.state != FAULT and (seconds > SECONDS or megabytes > MEGABYTES):
        return Outcome(FAULT, f"too much of time or memory; {found.state}: {found.message}", seconds, megabytes)
    return Outcome(found.state, found.message, seconds, megabytes)


def serve(connection: Connection, prepare: Callable[..., Callable[[Any], Outcome]], arguments: tuple[Any, ...]) -> None:
    """Prepare a worker, then run the cases that arrive; what native code prints is dropped."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    run = prepare(*arguments)
    connection.send(None)
    while True:
        try:
            case = connection.recv()
        except EOFError:
            return
        connection.send(run(case))


class Worker:
    """A process that runs one case at a time."""

    def __init__(self, prepare: Callable[..., Callable[[Any], Outcome]], arguments: tuple[Any, ...]):
        context = get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, prepare, arguments), daemon=True)
        self.process.start()
        other.close()
        self.case: Any = None
        self.begin(None)

    def begin(self, case: Any) -> None:
        """Note the start of a case; None is the preparation."""
        self.case, self.start = case, time.monotonic()
        self.memory, self.used = self.look()

    def look(self) -> tuple[float, float]:
        """Return memory and processor time; zeros if the process has ended."""
        try:
            return resident(self.process.pid or 0), processor_time(self.process.pid or 0)
        except OSError:
            return 0.0, 0.0

    def excess(self) -> Outcome | None:
        """Return a fault if the running case is beyond the limits, so far that it must be ended."""
        memory, used = self.look()
        megabytes, seconds = memory - self.memory, used - self.used
        if self.case is None or (megabytes < 1.5 * MEGABYTES and seconds < 1.5 * SECONDS and self.waited < IDLE):
            return None
        return Outcome(FAULT, "too much of time or memory, ended", max(seconds, 0.0), megabytes)

    @property
    def waited(self) -> float:
        return time.monotonic() - self.start

    def end(self) -> int | None:
        """End the process; return its exit code."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        return self.process.exitcode


def run_cases(
    cases: Sequence[Any],
    count: int,
    prepare: Callable[..., Callable[[Any], Outcome]],
    arguments: tuple[Any, ...],
) -> Iterator[tuple[Any, Outcome]]:
    """Run cases in `count` processes, and yield each with its outcome.

    Args:
        cases: picklable values.
        count: number of processes.
        prepare: a module-level function that returns the function of one case; called once in each process.
        arguments: of `prepare`.

    Raises:
        RuntimeError: a worker dies while it is prepared.
    """
    left = list(reversed(cases))
    workers = [Worker(prepare, arguments) for _ in range(count)]
    try:
        while workers:
            ready = wait([worker.connection for worker in workers], timeout=TICK)
            for worker in list(workers):
                found = answer(worker) if worker.connection in ready else worker.excess()
                if worker.connection not in ready and found is None:
                    continue
                if worker.case is not None and found is not None:
                    yield worker.case, found
                if worker.connection not in ready or not worker.process.is_alive():
                    worker.end()
                    workers.remove(worker)
                    if not left:
                        continue
                    workers.append(Worker(prepare, arguments))
                elif left:
                    worker.begin(left.pop())
                    worker.connection.send(worker.case)
                else:
                    worker.end()
                    workers.remove(worker)
    finally:
        for worker in workers:
            worker.end()


def answer(worker: Worker) -> Outcome | None:
    """Receive the outcome of a case, or a fault if the process has died."""
    try:
        return worker.connection.recv()
    except EOFError:
        worker.process.join()
        if worker.case is None:
            raise RuntimeError(
                f"a worker died while it was prepared, with exit code {worker.process.exitcode}"
            ) from None
        return Outcome(FAULT, f"the process died with exit code {worker.process.exitcode}")
