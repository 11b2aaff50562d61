"""Processes: those that a launcher started side by side; children, their end with their parent, their signals."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import active_children, resource_tracker
from threading import Thread

POLL = 0.5  # seconds
LAUNCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")


def launched() -> tuple[int, int]:
    """Return this process's number and how many torchrun, or a launcher like it, started side by side; 0, 1 alone."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def forget_launch() -> None:
    """Make this process one of its own, which is none of those that torchrun started."""
    for name in LAUNCH:
        os.environ.pop(name, None)


def end_with_parent(parent: int, before: Callable[[], None] = lambda: None) -> None:
    """End this process and its children soon after the process `parent` has ended, for whatever reason.

    A thread compares the parent's number: a process without a parent is adopted by another one.

    Args:
        parent: Number of the parent process.
        before: Called before this process ends.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        for child in active_children():
            child.kill()
        before()
        os._exit(1)

    Thread(target=watch, daemon=True, name="end with parent").start()


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Delay SIGINT and SIGHUP. Processes that are started in this context never get them: their parent ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    delayed = {signal.SIGINT, signal.SIGHUP}
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, delayed)
    try:
        resource_tracker.ensure_running()  # Python starts it with the first process, and then unblocks SIGINT
        signal.pthread_sigmask(signal.SIG_BLOCK, delayed)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)
