"""Replacement of a model's attention weights within a context.

It answers questions such as: is the output the same with the mean weights of a data set, with the weights of another
image, or without attention?
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from foveal.core.names import lookup
from foveal.inspection.finding.find import find_places
from foveal.inspection.hooks import Hooks, begin
from foveal.inspection.tap_points import Extra, TapPoint, path_by_mechanism
from foveal.inspection.third_party import RECOMPUTED

New = Tensor | float | Callable[[Tensor], Tensor]


class replace:  # noqa: N801 (used as a verb)
    """Run a model with other attention weights within the context.

    A place takes a tensor or a number, broadcast to the shape of the weights (that of `foveal.watch`'s values, B
    first), or a function from its own weights to new ones of their shape, such as `lambda gate: gate.roll(1, 0)` for
    the weights of another image. Gradients flow through the function. If a place is called several times in a pass,
    each call is replaced, all under the path without `#`. A simultaneous `watch` records the new weights. On exit the
    model is as before, even after an error within the context.

    Args:
        model (nn.Module): as for `foveal.watch`.
        new (Mapping[str, Tensor or float or Callable]): new weights by the paths that `foveal.watch` reports.
        extra (Mapping, optional): as for `foveal.watch`.

    Raises:
        ValueError: a path is unknown or its weights cannot be replaced; in the forward pass, new weights of another
            shape.
        TypeError: in the forward pass, new weights that are neither a tensor nor a number.

    >>> import foveal, torch
    >>> model = foveal.create_model("small_cnn+se", num_classes=10, in_chans=1).eval()
    >>> images = torch.rand(4, 1, 28, 28)
    >>> with torch.no_grad(), foveal.watch(model) as seen, foveal.replace(model, {"features.0.attention": 1.0}):
    ...     logits = model(images)
    >>> seen["features.0.attention"].values.unique()
    tensor([1.])
    """

    def __init__(self, model: nn.Module, new: Mapping[str, New], extra: Extra | None = None):
        check_new(new)
        found_places = find_places(model, extra)
        places, reasons = found_places.places, found_places.reasons
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
            if only_seen(place):
                raise ValueError(f"{place.path!r}: {only_seen(place)}")

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


def only_seen(place: TapPoint) -> str:
    """Return why the weights of a place cannot be replaced, "" if nothing is known against it before a pass."""
    recomputed = place.spec is not None and place.spec.module_or_op == RECOMPUTED
    return f"the weights of a {type(place.module).__name__} can only be seen" if recomputed else ""


def not_replaceable(model: nn.Module, paths: Iterable[str], images: Tensor, extra: Extra | None) -> dict[str, str]:
    """Return why the weights of some of these places cannot be replaced, by path, as a pass over images shows."""
    places = find_places(model, extra).places
    reasons = {path: only_seen(places[path]) for path in paths}
    hooks = Hooks(model, lambda path, reason: reasons.update({path: reason}), changes=True)
    try:
        for path in (path for path, reason in reasons.items() if not reason):
            hooks.attach_to(places[path], lambda values: values)
        model(images)
    finally:
        hooks.close()
    return {path: reason for path, reason in reasons.items() if reason}


def changed(place: TapPoint, new: New, values: Tensor) -> Tensor:
    """Return the new weights in the shape of the place's own."""
    value = new(values) if callable(new) else new
    if not isinstance(value, Tensor | int | float):
        raise TypeError(f"{place.path!r}: new weights are a {type(value).__name__}; a tensor or a number is needed")
    weights = torch.as_tensor(value, dtype=values.dtype, device=values.device)
    try:
        return weights.expand_as(values)
    except RuntimeError as error:
        shapes = f"{tuple(weights.shape)} where {place.facts.axes} is {tuple(values.shape)}"
        raise ValueError(f"{place.path!r}: new weights of shape {shapes}") from error


def refuse(path: str, reason: str) -> None:
    """Raise ValueError for weights that cannot be replaced."""
    raise ValueError(f"{path!r} cannot be replaced: {reason}")
