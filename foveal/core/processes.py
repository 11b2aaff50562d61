"""End child processes with their parent."""

import os
import time
from collections.abc import Callable
from multiprocessing import active_children
from threading import Thread

POLL = 0.5  # seconds


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
