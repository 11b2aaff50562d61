"""Call sites: where in the code of a module's forward pass a function is called.

A call is told from others by the positions in the code that lead from the forward pass to it, not by how many calls
come before: those change with the arguments, in training, and with chance. Only calls of one and the same position, as
in a loop, are counted.
"""

import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import NamedTuple

from torch import nn

MODULE_CALL = nn.Module._call_impl.__code__
PASSED_OVER = ("torch.", "foveal.inspection.")  # modes and hooks, of which a trial pass has others

Steps = tuple[tuple[CodeType, int], ...]


class CallSite(NamedTuple):
    """One call of a function within the forward pass of a module."""

    steps: Steps  # code and position in it, from the forward pass to the call
    turn: int  # how many calls with these steps come before it
    turns: int  # how many there are in the trial pass; 0 if it stopped before the module returned


def running_modules() -> Iterator[tuple[nn.Module, Steps]]:
    """Yield each module whose forward pass is running, the innermost first, with the steps from there to the caller."""
    steps: list[tuple[CodeType, int]] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is MODULE_CALL:
            yield frame.f_locals["self"], tuple(reversed(steps))
        elif not f"{frame.f_globals.get('__name__')}.".startswith(PASSED_OVER):
            steps.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back


def steps_within(module: nn.Module) -> Steps:
    """Return the steps from the forward pass of a module, which is running, to the caller."""
    return next((steps for running, steps in running_modules() if running is module), ())
