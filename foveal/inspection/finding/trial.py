"""A trial pass over a copy of a model: what happens in it shows where attention is.

The cost is some 100 microseconds for each function that the model calls, once for each model.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from foveal.core.trial_pass import Call, both_devices, calls_of, trial_pass
from foveal.inspection.finding.trace import Node, Trace
from foveal.inspection.module_paths import unwrapped_modules


@dataclass(eq=False)
class Trial:
    """What a trial pass saw; `stopped` says why it ended early, "" if it did not."""

    nodes: list[Node] = field(default_factory=list)
    called: Counter[str] = field(default_factory=Counter)
    outputs: list[tuple[str, Node]] = field(default_factory=list)
    stopped: str = "no pass was tried"


def guessed_trial(model: nn.Module) -> Trial:
    """Run passes on images of the sizes that a model may take until one ends; return it, or else the longest."""
    best = Trial()
    for call in calls_of(model):
        trial = try_call(model, call)
        if not trial.stopped:
            return trial
        if len(trial.nodes) >= len(best.nodes):
            best = trial
    return best


def trial_of(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trial:
    """Run a pass on the arguments of a call, first on the meta device; return the first that ends, or the last."""
    for call in both_devices(Call(args, kwargs)):
        trial = try_call(model, call)
        if not trial.stopped:
            break
    return trial


def try_call(model: nn.Module, call: Call) -> Trial:
    """Run a pass over a copy of a model."""
    trace = Trace()

    @contextmanager
    def tracing(copied: nn.Module) -> Iterator[None]:
        trace.mark_input((call.args, call.kwargs))
        with trace.following(unwrapped_modules(copied)), trace:
            yield

    stopped = trial_pass(model, call, tracing)
    return Trial(trace.nodes, trace.called, trace.outputs, stopped)
