"""Watching: every attention of a model, recorded while a context lasts, by hooks that the context takes away again.

This file knows no mechanism. What it does not know either: which place matters; it records them all.
"""

from collections.abc import Iterator
from functools import partial, reduce
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foveal.core.names import unknown_name_error
from foveal.core.record import Record
from foveal.inspection.adapters import axes_of
from foveal.inspection.hooks import Hooks, recomputing
from foveal.inspection.record_statistics import Statistics, merge, summarize
from foveal.inspection.tap_points import Extra, TapPoint, find_tap_points, path_by_mechanism

Keep = Literal["values", "statistics"]


class Recording:
    """What a watched model showed: Records by path, or Statistics where only these were kept.

    `seen[path]` is the one Record of a place; a place called several times in one pass has `path#1`, `path#2`; a
    module that states several Records is asked for by their own paths. The passes of one loop are joined on B.
    `unseen` says of each silent place why it is silent.
    """

    def __init__(self, places: list[str], reasons: dict[str, str]):
        self._places, self._reasons = places, reasons
        self._records: dict[tuple[str, int], list[Any]] = {}

    def _drop(self, forward: int) -> None:
        """Forget a pass that did not end: places after the failure would tell of fewer images."""
        kept = {key: [each for each in records if each.forward != forward] for key, records in self._records.items()}
        self._records = {key: records for key, records in kept.items() if records}

    def _add(self, record: Record | Statistics) -> None:
        self._records.setdefault((record.path, record.call), []).append(record)

    def _settle(self) -> None:
        """Join what there is of each place, so that it takes no more room than one pass."""
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
        """Places that stayed silent, with the reason."""
        called = {path for path, _ in self._records}
        silent = [place for place in (*self._places, *self._reasons) if place not in called]
        return {place: self._reasons.get(place, "never called") for place in silent}

    def paths(self) -> list[str]:
        """The paths that `seen[path]` takes, in the model's order."""
        return list(self._keys())

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Any]:
        return (join(self._records[key]) for key in self._keys().values())

    def __getitem__(self, path: str) -> Any:
        keys = self._keys()
        if path in keys:
            return join(self._records[keys[path]])
        if path in self.unseen:
            raise KeyError(f"{path!r} was not seen: {self.unseen[path]}")
        below = [key for key in keys if key.startswith((f"{path}.", f"{path}#"))]
        if len(below) == 1 and path:
            return self[below[0]]
        if below and path:
            raise KeyError(f"{path!r} states {len(below)} Records; ask for one: {', '.join(below)}")
        meant = path_by_mechanism(path, {key: self._records[held][0].mechanism for key, held in keys.items()})
        if meant is not None and meant != path:
            return self[meant]
        raise KeyError(str(unknown_name_error("place", path, keys)) if keys else f"{path!r}: nothing was seen")

    def __repr__(self) -> str:
        lines = [f"{path}: {line(self[path])}" for path in self._keys()]
        lines += [f"{path}: {reason}" for path, reason in self.unseen.items()]
        return "\n".join(lines) or "nothing to see: the model has no attention"


def line(seen: Record | Statistics) -> str:
    if isinstance(seen, Statistics):
        return f"{seen.kind} {tuple(seen.across_images.mean.shape)} of {seen.count} images"
    return f"{seen.kind} {tuple(seen.values.shape)}"


def join(records: list[Any]) -> Any:
    """Records of one place over several passes, joined on B; Statistics as of all the images."""
    first = records[0]
    if len(records) == 1:
        return first
    if isinstance(first, Statistics):
        return reduce(merge, records)
    shapes = {tuple(record.values.shape[1:]) for record in records}
    if len(shapes) > 1:
        raise ValueError(
            f"{first.path!r}: images of several sizes give {shapes}, which cannot be joined; watch each alone"
        )
    return Record(**{**vars(first), "values": torch.cat([record.values for record in records])})


class watch:  # noqa: N801 (used as a verb)
    """Record what every attention of a model shows: `with foveal.watch(model) as seen: model(images)`.

    Values are those of the forward pass, detached, on their own device unless told otherwise. Modules of timm and
    torchvision are known by their classes; `seen.unseen` names what cannot be seen, and why. The model's answers stay
    the same, bit for bit (to rounding for attention of ours that is one fused operation while nobody watches). Inside
    the context a compiled model runs eagerly, since hooks added to a compiled graph never fire. A pass that is
    recomputed in backward (activation checkpointing) is recorded once. Nothing stays behind, whatever happens inside;
    after an exception `seen` tells of the passes that came to their end, their values or their statistics.

    Args:
        model: any module; also wrapped in DataParallel, DistributedDataParallel or `torch.compile`.
        keep: "values", one for each image; "statistics" for a loader of any length, see
            `foveal.inspection.record_statistics`.
        device: where values go, as "cpu"; left out, they stay where they are.
        dtype: of the values that are kept, as `torch.float16`; left out, their own.
        extra: classes that foveal does not know, by class or by "module.Class", with the child whose output their
            weights are ("softmax()" or "sigmoid()" for one that their forward calls as a function) and the kind:
            "gate" (B, C), "mask" (B, 1, H, W), "selection" (B, K, C) or "affinity" (B, G, Q, K), where trailing ones
            do no harm. As `{MyGate: ("sigmoid", "gate")}`.

    Raises:
        TypeError: `model` is no module.
        ValueError: the model holds no attention; `keep` is neither; `extra` names what is not there.

    >>> network = timm.create_model("seresnet50")
    >>> with watch(network) as seen: network(torch.rand(2, 3, 64, 64))
    >>> seen["layer1.0.se"].values.shape
    torch.Size([2, 256])
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
            raise ValueError(f"keep={keep!r}: 'values' or 'statistics'")
        self.model, self.keep, self.device, self.dtype = model, keep, device, dtype
        self.places, self.reasons = find_tap_points(model, extra)
        if not self.places and not self.reasons:
            raise ValueError(f"{type(model).__name__} has no attention to watch; foveal.attach adds one")

    def __enter__(self) -> Recording:
        self.seen = Recording(list(self.places), dict(self.reasons))
        self.passes, self.inside = -1, False
        self.calls: dict[str, int] = {}
        self.hooks = Hooks(self.model, self.seen._hide)
        self.hooks.add(self.model, self._begin, pre=True)
        self.hooks.add(self.model, self._end, always_call=True)
        for place in self.places.values():
            self.hooks.attach_to(place, partial(self._record, place))
        return self.seen

    def __exit__(self, *exception: Any) -> None:
        self.hooks.close()
        if self.inside:  # a KeyboardInterrupt stopped a pass, after which no hook ran
            self.seen._drop(self.passes)

    def _begin(self, *_: Any) -> None:
        if not recomputing():
            self.passes, self.inside, self.calls = self.passes + 1, True, {}

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
