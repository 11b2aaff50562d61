"""Replacing: attention weights of a model put in the place of its own while a context lasts.

What is asked so: does the network answer the same with the mean weights of a data set, with another image's, with none?
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from foveal.foreign import RECOMPUTED
from foveal.hooks import Hooks
from foveal.naming import look_up
from foveal.showing import Extra, Place, find_places

New = Tensor | float | Callable[[Tensor], Tensor]


class replace:  # noqa: N801 (used as a verb)
    """Let a model run with other attention weights: `with foveal.replace(model, {"layer1.0.se": 1.0}): model(images)`.

    A place takes a tensor or a number, broadcast to the weights' shape (that of `foveal.watch`'s values, B first), or a
    function from its own weights to others of their shape, such as `lambda gate: gate.roll(1, 0)` for another image's.
    Gradients flow through what a function does. Where a place is called several times in a pass, each call is replaced,
    all under the path without `#`. A `watch` at the same time sees the new weights. Nothing stays behind, whatever
    happens inside.

    Args:
        model: as for `foveal.watch`.
        new: by the paths under which `foveal.watch` shows the weights.
        extra: as for `foveal.watch`.

    Raises:
        ValueError: a path that is not there or cannot be written; in the forward pass, weights of another shape.
    """

    def __init__(self, model: nn.Module, new: Mapping[str, New], extra: Extra | None = None):
        self.model, self.new = model, new
        places, reasons = find_places(model, extra)
        for path in new:
            if path in reasons:
                raise ValueError(f"{path!r} cannot be replaced: {reasons[path]}")
        self.places = [look_up("place", path, places) for path in new]
        for place in self.places:
            if place.shown and place.shown.at == RECOMPUTED:
                raise ValueError(f"{place.where!r}: the weights of a {type(place.module).__name__} can only be seen")

    def __enter__(self) -> None:
        self.hooks = Hooks(self.model, refuse, changes=True)
        for place in self.places:
            self.hooks.listen(place, partial(changed, place, self.new[place.where]))

    def __exit__(self, *exception: Any) -> None:
        self.hooks.close()


def changed(place: Place, new: New, values: Tensor) -> Tensor:
    """The new weights in the shape of a place's own."""
    given = new(values) if callable(new) else new
    if not isinstance(given, Tensor | int | float):
        raise TypeError(f"{place.where!r}: new weights are a {type(given).__name__}; a tensor or a number is needed")
    made = torch.as_tensor(given, dtype=values.dtype, device=values.device)
    try:
        return made.expand_as(values)
    except RuntimeError as error:
        shapes = f"{tuple(made.shape)} where {place.facts.axes} is {tuple(values.shape)}"
        raise ValueError(f"{place.where!r}: new weights of shape {shapes}") from error


def refuse(where: str, reason: str) -> None:
    raise ValueError(f"{where!r} cannot be replaced: {reason}")
