"""Replacing: attention weights of a model put in the place of its own while a context lasts.

What is asked so: does the network answer the same with the mean weights of a data set, with another image's, with none?
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from foveal.core.names import lookup
from foveal.inspection.hooks import Hooks, begin
from foveal.inspection.tap_points import Extra, TapPoint, find_tap_points, path_by_mechanism
from foveal.inspection.third_party import RECOMPUTED

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
        check_new(new)
        places, reasons = find_tap_points(model, extra)
        mechanisms = {path: place.facts.mechanism for path, place in places.items()}
        self.model, self.new = model, {}
        self.hooks: Hooks | None = None
        for path, value in new.items():
            if path in reasons:
                raise ValueError(f"{path!r} cannot be replaced: {reasons[path]}")
            found = path if path in places else path_by_mechanism(path, mechanisms)
            self.new[lookup("place", found or path, places).path] = value
        self.places = [places[path] for path in self.new]
        for place in self.places:
            if place.spec and place.spec.module_or_op == RECOMPUTED:
                raise ValueError(f"{place.path!r}: the weights of a {type(place.module).__name__} can only be seen")

    def __enter__(self) -> None:
        hooks = begin(self, self.model, refuse, changes=True)
        for place in self.places:
            hooks.attach_to(place, partial(changed, place, self.new[place.path]))

    def __exit__(self, *exception: Any) -> None:
        if self.hooks is not None:
            self.hooks.close()


def check_new(new: object) -> None:
    """TypeError for new weights that are no mapping from paths, with the right call."""
    if not isinstance(new, Mapping):
        paths = [new] if isinstance(new, str) else new if isinstance(new, list | tuple) else []
        path = next((each for each in paths if isinstance(each, str)), "layer1.0.se")
        raise TypeError(
            f"new={new!r:.80}: a dict from paths to new weights is needed, as foveal.replace(model, {{{path!r}: 1.0}})"
        )


def changed(place: TapPoint, new: New, values: Tensor) -> Tensor:
    """The new weights in the shape of a place's own."""
    given = new(values) if callable(new) else new
    if not isinstance(given, Tensor | int | float):
        raise TypeError(f"{place.path!r}: new weights are a {type(given).__name__}; a tensor or a number is needed")
    made = torch.as_tensor(given, dtype=values.dtype, device=values.device)
    try:
        return made.expand_as(values)
    except RuntimeError as error:
        shapes = f"{tuple(made.shape)} where {place.facts.axes} is {tuple(values.shape)}"
        raise ValueError(f"{place.path!r}: new weights of shape {shapes}") from error


def refuse(path: str, reason: str) -> None:
    raise ValueError(f"{path!r} cannot be replaced: {reason}")
