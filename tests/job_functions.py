"""Functions that tests run in other processes, which import them from here."""

import os
import signal
import time
from pathlib import Path

import torch

from foveal.comparison.jobs import report

HOARD: list[bytes] = []


def double(number: int) -> int:
    return 2 * number


def reports(times: int) -> None:
    for _ in range(times):
        report()


def process() -> int:
    time.sleep(0.05)
    return os.getpid()


def threads() -> int:
    return torch.get_num_threads()


def fall(number: int) -> int:
    raise MemoryError(f"no room for {number}\nmaps")


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_for_ever(path: Path) -> None:
    while True:
        path.write_text(str(os.getpid()))
        time.sleep(0.05)


def delayed_signals():
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))


def hoard(seconds: float) -> int:
    """Keep 400 MB for the life of the process."""
    HOARD.append(b"\1" * 400_000_000)
    time.sleep(seconds)
    return os.getpid()
