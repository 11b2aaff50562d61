"""Recording of every attention of a model while a context lasts, by hooks that are removed when it ends.

This file depends on no mechanism; it records all places alike.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from foveal.core.layout import Tokens
from foveal.core.record import Record
from foveal.inspection.adapters import axes_of
from foveal.inspection.finding.find import NONE_FOUND, Places, find_places, tokens_in_call
from foveal.inspection.finding.trial import form_of_call, trial_of
from foveal.inspection.hooks import Hooks, begin, recomputing
from foveal.inspection.module_paths import innermost
from foveal.inspection.record_statistics import summarize
from foveal.inspection.recording import Recording
from foveal.inspection.tap_points import Extra, TapPoint
from foveal.inspection.token_layout import check_grid, on_grid

Keep = Literal["values", "statistics"]
SEVERAL = "called several times in a pass, and only a part of the model was called; call the whole model"


def check_found(model: nn.Module, found: Places) -> None:
    """Raise ValueError for a model in which no attention was found."""
    if not found.places and not found.reasons:
        why = f" (the trial pass stopped: {found.stopped})" if found.stopped else ""
        raise ValueError(f"{type(model).__name__}: {NONE_FOUND}{why}; foveal.attach adds one")


class watch:  # noqa: N801 (used as a verb)
    """Record every attention of a model: `with foveal.watch(model) as seen: model(images)`.

    Values are the effective weights of the forward pass, detached; quantized ones are dequantized. Modules of timm and
    torchvision are known by their classes; attention of others is found in a trial pass over a copy of the model, on
    images of a guessed size and, where the first call has other arguments or is in training, on those of that call;
    `seen.unseen` lists each place that cannot be recorded, with the reason. The outputs of the model stay the same, bit
    for bit (to rounding for attention of foveal that is one fused operation while it is not watched). A compiled model
    runs eagerly inside the context, since hooks added to a compiled graph never fire. A pass that is recomputed in
    backward (activation checkpointing) is recorded once. The passes of the thread that entered the context are
    recorded, those of other threads are not; several threads may watch one model at the same time. All hooks are
    removed when the context ends, also by an exception; then `seen` holds the passes that were complete.

    Args:
        model: any module; also wrapped in DataParallel (over one device), DistributedDataParallel or `torch.compile`.
        keep: "values", (B, ...) for each image; "statistics", for a loader of any length, see
            `foveal.inspection.record_statistics`.
        device: device for the values, such as "cpu"; by default they stay on their own.
        dtype: type of the values, such as `torch.float16`; by default their own.
        extra: classes that foveal does not know, by class or by "module.Class". For each, the child whose output is the
            weights ("softmax()" or "sigmoid()" for a function that its forward calls) and the kind: "gate" (B, C),
            "mask" (B, 1, H, W), "selection" (B, K, C) or "affinity" (B, G, Q, K); trailing dimensions of 1 are allowed.
            Example: `{MyGate: ("sigmoid", "gate")}`.
        grid: rows and columns of the map of tokens, for those whose map the model does not show, such as patches that
            it is given; tokens in excess come before those of the map.

    Returns:
        A context manager; `with` gives the `Recording`: `seen[path]` and `seen[0]` are Records.

    Raises:
        TypeError: `model` is no module.
        ValueError: no attention was found, in the first call where images of a guessed size do not pass; `keep` is
            neither; `extra` names a class or child that is not there; a DataParallel over several devices.
        RuntimeError: the same object is entered while it is active.

    Example:
        >>> import foveal, torch
        >>> model = foveal.create_model("small_cnn+se", num_classes=2).eval()
        >>> with foveal.watch(model) as seen:
        ...     logits = model(torch.rand(4, 3, 28, 28))
        >>> seen.paths()
        ['features.0.attention', 'features.2.attention', 'features.3.attention']
        >>> seen["features.2.attention"].values.shape
        torch.Size([4, 64])
        >>> seen[0].kind, seen[0].mechanism
        ('gate', 'squeeze_excite')
    """

    def __init__(
        self,
        model: nn.Module,
        keep: Keep = "values",
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        extra: Extra | None = None,
        grid: tuple[int, int] | None = None,
    ):
        if keep not in ("values", "statistics"):
            raise ValueError(f"keep={keep!r}: 'values' or 'statistics' is needed")
        self.model, self.keep, self.device, self.dtype, self.grid = model, keep, device, dtype, check_grid(grid)
        self.hooks: Hooks | None = None
        self.extra, self.found = extra, find_places(model, extra)
        if not self.found.stopped:
            check_found(model, self.found)

    @property
    def places(self) -> dict[str, TapPoint]:
        """Places that are recorded, by path."""
        return self.found.places

    @property
    def reasons(self) -> dict[str, str]:
        """Why other places cannot be recorded, by path."""
        return self.found.reasons

    def __enter__(self) -> Recording:
        hooks = begin(self, self.model, lambda path, reason: self.seen._hide(path, reason))
        self.seen = Recording(self.found, lambda: hooks.called_elsewhere)
        self.passes, self.inside = -1, False
        self.calls: dict[str, int] = {}
        self.tokens: dict[str, list[Tokens]] = {}
        self.ending: RemovableHandle | None = None
        hooks.add(self.model, self._begin, pre=True, with_kwargs=True)
        self._attach(hooks, self.found.places)
        return self.seen

    def _attach(self, hooks: Hooks, places: Mapping[str, TapPoint]) -> None:
        for place in places.values():
            hooks.attach_to(place, partial(self._record, place))
        if self.ending is not None:
            self.ending.remove()
        self.ending = hooks.add(self.model, self._end, always_call=True)  # after those of places on the model itself

    def __exit__(self, *exception: Any) -> None:
        if self.hooks is not None:
            self.hooks.close()
        if self.inside:  # a KeyboardInterrupt stopped a pass, after which no hook ran
            self.seen._drop(self.passes)

    def _begin(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if recomputing():
            return
        if self.found.stopped or (self.passes < 0 and not self._tried(args, kwargs)):
            self._find_again(args, kwargs)
        self.tokens = tokens_in_call(self.model, self.found, args, kwargs)
        self.passes, self.inside, self.calls = self.passes + 1, True, {}

    def _tried(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Return True if a pass like this one was tried."""
        return form_of_call(innermost(self.model), args, kwargs) in self.found.forms

    def _find_again(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Search once more with the arguments of the first pass, where it is not like those that were tried."""
        trial = trial_of(innermost(self.model), args, kwargs)
        found = find_places(self.model, self.extra, trial)
        new = {path: place for path, place in found.places.items() if path not in self.found.places}
        self.found = replace(found, places=found.places | self.found.places, stopped="")
        self.seen._look_for(self.found)
        check_found(self.model, found)
        if self.hooks is not None:
            self._attach(self.hooks, new)

    def _end(self, _: nn.Module, __: Any, out: Any) -> None:
        if recomputing():
            return
        self.inside, self.tokens = False, {}
        if out is None:  # the pass raised
            self.seen._drop(self.passes)
        elif self.keep == "statistics":
            self.seen._settle()

    def _record(self, place: TapPoint, weights: Tensor) -> None:
        if recomputing():
            return
        call = self.calls.get(place.path, 0)
        if self.inside:
            self.calls[place.path] = call + 1
        elif max(call, place.calls) > 1:  # as often in the last whole pass
            self.seen._hide(place.path, SEVERAL)
            return
        else:
            call = 0  # a part called alone is a pass of its own
        values = weights.detach().to(self.device, self.dtype, copy=self.keep == "values")
        facts = {**vars(place.facts), "axes": axes_of(values, place.facts.axes)}
        laid = self.tokens.get(place.path, [])
        facts["tokens"] = laid[min(call, len(laid) - 1)] if laid else None
        if self.grid is not None and place.facts.kind == "affinity":
            facts["tokens"] = on_grid(facts["tokens"], (values.shape[-2], values.shape[-1]), self.grid)
        record = Record(**facts, path=place.path, values=values, forward=max(self.passes, 0), call=call)
        self.seen._add(record if self.keep == "values" else summarize(record))
        if self.keep == "statistics" and not self.inside:
            self.seen._settle()
