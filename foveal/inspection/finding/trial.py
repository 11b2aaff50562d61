"""A trial pass over a copy of a model: what happens in it shows where attention is.

The cost is some 100 microseconds for each function that the model calls, once for each model.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from foveal.core.trial_pass import Call, both_devices, calls_of, trial_pass
from foveal.inspection.finding.trace import Node, Trace
from foveal.inspection.module_paths import unwrapped_modules


@dataclass(eq=False)
class Trial:
    """What a trial pass saw; `stopped` says why it ended early, "" if it did not, `form` what call it was."""

    nodes: list[Node] = field(default_factory=list)
    called: Counter[str] = field(default_factory=Counter)
    outputs: list[tuple[str, Node]] = field(default_factory=list)
    stopped: str = "no pass was tried"
    form: Any = None


def guessed_trial(model: nn.Module) -> Trial:
    """Run passes on images of the sizes that a model may take until one ends; return it, or else the longest."""
    best = Trial()
    for call in calls_of(model):
        trial = try_call(model, call, training=False)
        if not trial.stopped:
            return trial
        if len(trial.nodes) >= len(best.nodes):
            best = trial
    return best


def trial_of(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trial:
    """Run a pass on the arguments of a call, in the modes of the model's modules; return it if it ends, or the last.

    The first is on the meta device.
    """
    for call in both_devices(Call(args, kwargs)):
        trial = try_call(model, call)
        if not trial.stopped:
            break
    return trial


def form_of_call(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], training: bool = True) -> Any:
    """Return what decides which parts of a model's code a call runs: its arguments without their sizes, and the modes.

    With `training=False` all modules count as in evaluation mode.
    """
    given = {name: form_of(each) for name, each in kwargs.items() if each is not None}
    modes = tuple(training and module.training for module in model.modules())
    return form_of(list(args)), tuple(sorted(given.items())), modes


def form_of(value: Any) -> Any:
    """Return the dimensions of tensors, also in lists and dicts, switches as they are, other values by their type."""
    if isinstance(value, Tensor):
        return value.ndim
    if isinstance(value, list | tuple):
        return tuple(map(form_of, value))
    if isinstance(value, dict):
        return tuple((repr(name), form_of(each)) for name, each in value.items())
    return value if isinstance(value, bool | str | None) else type(value).__name__


def try_call(model: nn.Module, call: Call, training: bool = True) -> Trial:
    """Run a pass over a copy of a model, in the modes of its modules or in evaluation mode."""
    trace = Trace()
    modes = {path: training and module.training for path, module in model.named_modules()}

    @contextmanager
    def tracing(copied: nn.Module) -> Iterator[None]:
        for path, module in copied.named_modules():
            module.training = modes.get(path, False)
        trace.mark_input((call.args, call.kwargs))
        with trace.following(unwrapped_modules(copied)), trace:
            yield

    stopped = trial_pass(model, call, tracing)
    form = form_of_call(model, call.args, call.kwargs, training)
    return Trial(trace.nodes, trace.called, trace.outputs, stopped, form)
