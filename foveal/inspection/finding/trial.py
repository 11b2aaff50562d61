"""A trial pass over a copy of a model: what happens in it shows where attention is.

The copy is on the meta device, where no values are computed; where a model fails there, it shares the model's
parameters. The model, its hooks and buffers, and the random state stay as they are. The cost is some 100 microseconds
for each function that the model calls, once for each model.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from foveal.core.names import first_line
from foveal.core.safe_copy import as_meta, forked_random_state, safe_copy
from foveal.core.trial_pass import image_shapes
from foveal.core.validation import device_of
from foveal.inspection.finding.trace import Node, Trace
from foveal.inspection.module_paths import unwrapped_modules

BATCH = 2


@dataclass(eq=False)
class Trial:
    """What a trial pass saw; `stopped` says why it ended early, "" if it did not."""

    nodes: list[Node] = field(default_factory=list)
    called: set[str] = field(default_factory=set)
    outputs: list[tuple[str, Node]] = field(default_factory=list)
    stopped: str = "no pass was tried"


def guessed_trial(model: nn.Module) -> Trial:
    """Run passes on images of the sizes that a model may take until one ends; return it, or else the longest.

    Real passes, which take as long as the model itself, are tried at the first size only.
    """
    dtype = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), torch.float32)
    shapes = list(declared_shapes(model))
    best = Trial()
    for meta in (True, False):
        for shape in shapes if meta else shapes[:1]:
            images = torch.zeros(BATCH, *shape, dtype=dtype, device="meta" if meta else device_of(model))
            trial = try_pass(model, (images,), {}, meta)
            if not trial.stopped:
                return trial
            if len(trial.nodes) >= len(best.nodes):
                best = trial
    return best


def trial_of(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trial:
    """Run a pass on the arguments of a call, first on the meta device; return the first that ends, or the last."""
    trial = try_pass(model, as_meta(args), as_meta(kwargs), meta=True)
    return try_pass(model, detached(args), detached(kwargs), meta=False) if trial.stopped else trial


def try_pass(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], meta: bool) -> Trial:
    """Run a pass over a copy of a model."""
    trace, trial = Trace(), Trial()
    device = torch.device("meta") if meta else device_of(model)
    try:
        with forked_random_state(), torch.no_grad():
            copied = safe_copy(model, meta)
            trace.mark_input((args, kwargs))
            with trace.following(unwrapped_modules(copied)), device, trace:
                copied(*args, **kwargs)
        trial.stopped = ""
    except Exception as error:  # a model's code may raise anything; what was seen until then counts
        trial.stopped = first_line(error)
    trial.nodes, trial.called, trial.outputs = trace.nodes, trace.called, trace.outputs
    return trial


def detached(value: Any) -> Any:
    """Return arguments of a pass with copies of their tensors."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: detached(each) for key, each in value.items()}
    return type(value)(map(detached, value)) if type(value) in (list, tuple) else value


def declared_shapes(model: nn.Module) -> Iterator[tuple[int, ...]]:
    """Yield the image shapes to try: that of a Hugging Face configuration first, then those of any model."""
    config = getattr(model, "config", None)
    side, channels = (getattr(config, name, None) for name in ("image_size", "num_channels"))
    sides = (side, side) if isinstance(side, int) else side
    if isinstance(sides, list | tuple) and len(sides) == 2:
        yield (channels or 3, *sides)
    yield from image_shapes(model)
