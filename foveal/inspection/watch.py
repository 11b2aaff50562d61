"""Recording of every attention of a model while a context lasts, by hooks that are removed when it ends.

This file depends on no mechanism; it records all places alike.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial, reduce
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foveal.core.names import unknown_name_error
from foveal.core.record import Record
from foveal.inspection.adapters import axes_of
from foveal.inspection.find import NONE_FOUND, Places, find_places
from foveal.inspection.hooks import Hooks, begin, recomputing
from foveal.inspection.module_paths import innermost
from foveal.inspection.record_statistics import Statistics, merge, summarize
from foveal.inspection.tap_points import BY_CLASS, Extra, TapPoint, path_by_mechanism
from foveal.inspection.trial import trial_of

Keep = Literal["values", "statistics"]
ELSEWHERE = "never called in the thread of this watch; another thread called the model, enter the watch there"


class Recording:
    """Recorded attention of a model: a Record for each path, or Statistics for `keep="statistics"`.

    `seen[path]` is the one Record of a place, `seen[0]` the first in the model's order; `seen.keys()`, `seen.values()`,
    `seen.items()` and `path in seen` work as those of a dict, while iteration yields the Records. A place that is
    called several times in one pass has `path#1`, `path#2`; a module with several Records is read by their own paths.
    The passes of one loop are joined on B. `unseen` gives the reason for each place without a Record; `found` says of
    each place whether it was found "by its class" or "in a trial pass".
    """

    def __init__(self, found: Places, called_elsewhere: Callable[[], bool] = bool):
        self._called_elsewhere = called_elsewhere
        self._records: dict[tuple[str, int], list[Any]] = {}
        self._look_for(found)

    def _look_for(self, found: Places) -> None:
        self._places, self._reasons = list(found.places), dict(found.reasons)
        self.found = {path: place.how for path, place in found.places.items()}

    def _drop(self, forward: int) -> None:
        """Forget a pass that did not end: places after the failure would have fewer images."""
        kept = {key: [each for each in records if each.forward != forward] for key, records in self._records.items()}
        self._records = {key: records for key, records in kept.items() if records}

    def _add(self, record: Record | Statistics) -> None:
        self._records.setdefault((record.path, record.call), []).append(record)

    def _settle(self) -> None:
        """Join the Records of each place, so that it takes no more room than one pass."""
        self._records = {key: [join(records)] for key, records in self._records.items()}

    def _hide(self, path: str, reason: str) -> None:
        self._reasons[path] = reason

    def _keys(self) -> dict[str, tuple[str, int]]:
        several = {path for path, call in self._records if call > 0}
        order = {path: index for index, path in enumerate(self._places)}
        keys = sorted(self._records, key=lambda key: (order[key[0]], key[1]))
        return {f"{path}#{call + 1}" if path in several else path: (path, call) for path, call in keys}

    @property
    def unseen(self) -> dict[str, str]:
        """Places without a Record, with the reason."""
        called = {path for path, _ in self._records}
        silent = [place for place in (*self._places, *self._reasons) if place not in called]
        never = ELSEWHERE if self._called_elsewhere() else "never called"
        return {place: self._reasons.get(place, never) for place in silent}

    def paths(self) -> list[str]:
        """The paths that `seen[path]` accepts, in the model's order."""
        return list(self._keys())

    def keys(self) -> list[str]:
        return self.paths()

    def values(self) -> list[Any]:
        return list(self)

    def items(self) -> list[tuple[str, Any]]:
        return list(zip(self.paths(), self, strict=True))

    def __contains__(self, path: object) -> bool:
        """Return True if `seen[path]` gives a Record."""
        return isinstance(path, str) and isinstance(self._find(path), str)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Any]:
        return (join(self._records[key]) for key in self._keys().values())

    def __getitem__(self, path: str | int) -> Any:
        keys = self._keys()
        if not isinstance(path, str):
            return join(self._records[keys[self._at(path)]])
        found = self._find(path)
        if isinstance(found, KeyError):
            raise found
        return join(self._records[keys[found]])

    def _at(self, index: int) -> str:
        """Return the path of the Record at an index in the model's order."""
        if isinstance(index, bool) or not hasattr(type(index), "__index__"):
            raise TypeError(f"seen[{index!r}]: a path or an integer is needed; there are {', '.join(self.paths())}")
        if not -len(self) <= index < len(self):
            raise IndexError(
                f"seen[{index}]: there are {len(self)} Records, of {', '.join(self.paths()) or 'no place'}"
            )
        return self.paths()[index]

    def _find(self, path: str) -> str | KeyError:
        """Return the path of the one Record that `path` names, or the error where there is none."""
        keys = self._keys()
        if path in keys:
            return path
        if path in self.unseen:
            return KeyError(f"{path!r} was not recorded: {self.unseen[path]}")
        below = [key for key in keys if key.startswith((f"{path}.", f"{path}#"))]
        if len(below) == 1 and path:
            return below[0]
        if below and path:
            return KeyError(f"{path!r} states {len(below)} Records; ask for one: {', '.join(below)}")
        meant = path_by_mechanism(path, {key: self._records[stored][0].mechanism for key, stored in keys.items()})
        if meant is not None and meant != path:
            return self._find(meant)
        return KeyError(str(unknown_name_error("place", path, keys)) if keys else f"{path!r}: nothing was seen")

    def __repr__(self) -> str:
        lines = [f"{path}: {line(record)}{self._how(record.path)}" for path, record in self.items()]
        lines += [f"{path}: {reason}" for path, reason in self.unseen.items()]
        return "\n".join(lines) or f"nothing to see: {NONE_FOUND}"

    def _how(self, path: str) -> str:
        how = self.found[path]
        return "" if how == BY_CLASS else f", found {how}"


def check_found(model: nn.Module, found: Places) -> None:
    """Raise ValueError for a model in which no attention was found."""
    if not found.places and not found.reasons:
        why = f" (the trial pass stopped: {found.stopped})" if found.stopped else ""
        raise ValueError(f"{type(model).__name__}: {NONE_FOUND}{why}; foveal.attach adds one")


def line(seen: Record | Statistics) -> str:
    """Describe a Record or Statistics in one line."""
    if isinstance(seen, Statistics):
        return f"{seen.kind} {tuple(seen.across_images.mean.shape)} of {seen.count} images"
    return f"{seen.kind} {tuple(seen.values.shape)}"


def join(records: list[Any]) -> Any:
    """Join Records of one place over several passes on B, or Statistics into those of all their images."""
    first = records[0]
    if len(records) == 1:
        return first
    if isinstance(first, Statistics):
        return reduce(merge, records)
    shapes = {tuple(record.values.shape[1:]) for record in records}
    if len(shapes) > 1:
        raise ValueError(
            f"{first.path!r}: images of several sizes give {shapes}, which cannot be joined; watch each size alone"
        )
    return Record(**{**vars(first), "values": torch.cat([record.values for record in records])})


class watch:  # noqa: N801 (used as a verb)
    """Record every attention of a model: `with foveal.watch(model) as seen: model(images)`.

    Values are the effective weights of the forward pass, detached; quantized ones are dequantized. Modules of timm and
    torchvision are known by their classes; `seen.unseen` lists each place that cannot be recorded, with the reason. The
    outputs of the model stay the same, bit for bit (to rounding for attention of foveal that is one fused operation
    while it is not watched). A compiled model runs eagerly inside the context, since hooks added to a compiled graph
    never fire. A pass that is recomputed in backward (activation checkpointing) is recorded once.

    The passes of the thread that entered the context are recorded, those of other threads are not; several threads may
    watch one model at the same time. All hooks are removed when the context ends, also by an exception; then `seen`
    holds the passes that were complete.

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

    Returns:
        A context manager; `with` gives the `Recording`: `seen[path]` and `seen[0]` are Records.

    Raises:
        TypeError: `model` is no module.
        ValueError: the model has no attention; `keep` is neither; `extra` names a class or child that is not there; a
            DataParallel over several devices.
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
    ):
        if keep not in ("values", "statistics"):
            raise ValueError(f"keep={keep!r}: 'values' or 'statistics' is needed")
        self.model, self.keep, self.device, self.dtype = model, keep, device, dtype
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
        hooks.add(self.model, self._begin, pre=True, with_kwargs=True)
        hooks.add(self.model, self._end, always_call=True)
        self._attach(self.found.places)
        return self.seen

    def _attach(self, places: Mapping[str, TapPoint]) -> None:
        for place in places.values():
            self.hooks.attach_to(place, partial(self._record, place))

    def __exit__(self, *exception: Any) -> None:
        if self.hooks is not None:
            self.hooks.close()
        if self.inside:  # a KeyboardInterrupt stopped a pass, after which no hook ran
            self.seen._drop(self.passes)

    def _begin(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if recomputing():
            return
        if self.found.stopped:
            self._find_again(args, kwargs)
        self.passes, self.inside, self.calls = self.passes + 1, True, {}

    def _find_again(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Search once more with the arguments of the first pass, where images of a guessed size did not do."""
        trial = trial_of(innermost(self.model), args, kwargs)
        found = find_places(self.model, self.extra, trial)
        new = {path: place for path, place in found.places.items() if path not in self.found.places}
        self.found = replace(found, stopped="")
        self.seen._look_for(self.found)
        check_found(self.model, found)
        self._attach(new)

    def _end(self, _: nn.Module, __: Any, out: Any) -> None:
        if recomputing():
            return
        self.inside = False
        if out is None:  # the pass raised
            self.seen._drop(self.passes)
        elif self.keep == "statistics":
            self.seen._settle()

    def _record(self, place: TapPoint, weights: Tensor) -> None:
        if recomputing():
            return
        call = self.calls.get(place.path, 0) if self.inside else 0  # a part called alone is a pass of its own
        self.calls[place.path] = call + 1
        values = weights.detach().to(self.device, self.dtype, copy=self.keep == "values")
        facts = {**vars(place.facts), "axes": axes_of(values, place.facts.axes)}
        record = Record(**facts, path=place.path, values=values, forward=max(self.passes, 0), call=call)
        self.seen._add(record if self.keep == "values" else summarize(record))
        if self.keep == "statistics" and not self.inside:
            self.seen._settle()
