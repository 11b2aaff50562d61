"""The command in several processes, which torchrun started: what each of them may do, and which of them speak.

The main process speaks. Another one speaks of an error of its own: after some seconds, within which torchrun has ended
it if the main process failed as well, mostly for the same reason.
"""

import signal
import sys
import time
from collections.abc import Sequence

from foveal.core.processes import launched

PATIENCE = 3.0  # seconds


def is_main_process() -> bool:
    return launched()[0] == 0


def process_name() -> str:
    """Return the beginning of a line on this process, empty for the main one."""
    return "" if is_main_process() else f"process {launched()[0]}: "


def check_launch(arguments: Sequence[str]) -> None:
    """Check that the subcommand trains one network, which several processes can.

    Raises:
        ValueError: another subcommand in several processes.
    """
    count, verb = launched()[1], next(iter(arguments), "")
    if count > 1 and verb != "train" and not verb.startswith("-"):
        why = "starts processes itself" if verb in ("compare", "reproduce") else "runs in one process"
        raise ValueError(f"{verb} {why}; torchrun started {count}, and only train takes several")


def wait_to_be_ended(error: Exception) -> None:
    """Wait for torchrun to end this process before it speaks.

    One that lost its connection does not wait if it may be alone: process 1, where the main process was killed.
    """
    if isinstance(error, ConnectionError) and launched()[0] == 1:
        return
    if hasattr(signal, "SIGTERM"):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(PATIENCE)


def may_speak(number: int) -> bool:
    """Return True if this process speaks of a signal: the main one, and process 1 if the main one may be dead."""
    torch = sys.modules.get("torch")
    joined = torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized()
    return is_main_process() or (launched()[0] == 1 and number == signal.SIGTERM and joined)
