"""Watching: every Tap of a model, recorded while a context lasts, by hooks that the context takes away again.

This file knows no mechanism. What it does not know either: which place matters; it records them all.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn

from foveal.naming import unknown
from foveal.record import Record, Tap


def places(model: nn.Module) -> dict[str, Tap]:
    """The Taps of a model by the paths of their owners; an owner of several is told apart by their own names.

    What DistributedDataParallel (first) and `torch.compile` (anywhere) put into paths is left out.
    """
    wrapped = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
    named = [(path.split(".")[wrapped:], tap) for path, tap in model.named_modules() if isinstance(tap, Tap)]
    found = [([name for name in names if name != "_orig_mod"], tap) for names, tap in named]
    owners = [names[:-1] for names, _ in found]
    return {".".join(names if owners.count(names[:-1]) > 1 else names[:-1]): tap for names, tap in found}


class Seen:
    """What a watched model showed: Records by path.

    `seen[path]` is the one Record of a place; a place called several times in one pass has `path#1`, `path#2`; a
    module that states several Records is asked for by their own paths. The passes of one loop are joined on B.
    `unseen` says of each silent place why it is silent.
    """

    def __init__(self, places: list[str]):
        self._places = places
        self._records: dict[tuple[str, int], list[Record]] = {}

    def _drop(self, forward: int) -> None:
        """Forget a pass that did not end: places after the failure would tell of fewer images."""
        kept = {key: [each for each in records if each.forward != forward] for key, records in self._records.items()}
        self._records = {key: records for key, records in kept.items() if records}

    def _add(self, record: Record) -> None:
        self._records.setdefault((record.where, record.call), []).append(record)

    def _keys(self) -> dict[str, tuple[str, int]]:
        several = {where for where, call in self._records if call > 0}
        order = {where: index for index, where in enumerate(self._places)}
        keys = sorted(self._records, key=lambda key: (order[key[0]], key[1]))
        return {f"{where}#{call + 1}" if where in several else where: (where, call) for where, call in keys}

    @property
    def unseen(self) -> dict[str, str]:
        """Places that stayed silent, with the reason."""
        called = {where for where, _ in self._records}
        return {place: "never called" for place in self._places if place not in called}

    def paths(self) -> list[str]:
        """The paths that `seen[path]` takes, in the model's order."""
        return list(self._keys())

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return (join(self._records[key]) for key in self._keys().values())

    def __getitem__(self, path: str) -> Record:
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
        raise KeyError(str(unknown("place", path, keys)) if keys else f"{path!r}: nothing was seen")

    def __repr__(self) -> str:
        lines = [f"{path}: {self[path].kind} {tuple(self[path].values.shape)}" for path in self._keys()]
        lines += [f"{path}: {reason}" for path, reason in self.unseen.items()]
        return "\n".join(lines) or "nothing to see: the model has no attention"


def join(records: list[Record]) -> Record:
    """Records of one place over several passes, joined on B."""
    first = records[0]
    if len(records) == 1:
        return first
    shapes = {tuple(record.values.shape[1:]) for record in records}
    if len(shapes) > 1:
        raise ValueError(
            f"{first.where!r}: images of several sizes give {shapes}, which cannot be joined; watch each alone"
        )
    return Record(**{**vars(first), "values": torch.cat([record.values for record in records])})


class Hook:
    """A forward hook that leaves with its context, also from a copy of the module that was made meanwhile.

    A deepcopy of a hooked module (an EMA) copies its hooks; this one tells the watch of its copy and does nothing
    there.
    """

    def __init__(
        self, module: nn.Module | None, action: Any, copies: list[tuple["ref[nn.Module]", int]], hook_id: int = -1
    ):
        self.module, self.action, self.copies, self.id = module, action, copies, hook_id

    def __call__(self, *args: Any) -> None:
        if self.action is not None:
            self.action(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Hook":
        copied = memo.get(id(self.module))
        if copied is not None:
            self.copies.append((ref(copied), self.id))
        return Hook(copied, None, self.copies, self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, (None, None, [])  # what is pickled meanwhile is watched by nobody


class watch:  # noqa: N801 (used as a verb)
    """Record what every attention of a model shows: `with foveal.watch(model) as seen: model(images)`.

    Values are those of the forward pass, detached, on their own device. Inside the context a compiled model runs
    eagerly, since hooks added to a compiled graph never fire. A pass that is recomputed in backward (activation
    checkpointing) is recorded once. Nothing stays behind, whatever happens inside.

    Args:
        model: any module; also wrapped in DataParallel, DistributedDataParallel or `torch.compile`.

    Raises:
        ValueError: the model holds no attention that can be watched.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self.taps = places(model)
        if not self.taps:
            raise ValueError(f"{type(model).__name__} has no attention to watch; foveal.attach adds one")

    def __enter__(self) -> Seen:
        self.seen = Seen(list(self.taps))
        self.passes, self.inside = -1, False
        self.calls: dict[str, int] = {}
        self.copies: list[tuple[ref[nn.Module], int]] = []
        self.stack = ExitStack()
        if "torch._dynamo" in sys.modules:
            self.stack.enter_context(torch.compiler.set_stance("force_eager"))
        self._hook(self.model, self._begin, pre=True)
        self._hook(self.model, self._end, always_call=True)
        for where, tap in self.taps.items():
            self._hook(tap, lambda _, __, weights, where=where, tap=tap: self._record(where, tap, weights))
        return self.seen

    def __exit__(self, *exception: Any) -> None:
        self.stack.close()
        for copied, hook_id in self.copies:
            module = copied()
            for hooks in () if module is None else hook_tables(module):
                hooks.pop(hook_id, None)

    def _hook(self, module: nn.Module, action: Any, pre: bool = False, **options: Any) -> None:
        hook = Hook(module, action, self.copies)
        add = module.register_forward_pre_hook if pre else module.register_forward_hook
        handle = add(hook, **options)
        hook.id = handle.id
        self.stack.callback(handle.remove)

    def _begin(self, *_: Any) -> None:
        if not recomputing():
            self.passes, self.inside, self.calls = self.passes + 1, True, {}

    def _end(self, _: nn.Module, __: Any, out: Any) -> None:
        if not recomputing():
            self.inside = False
            if out is None:  # the pass raised
                self.seen._drop(self.passes)

    def _record(self, where: str, tap: Tap, weights: Tensor) -> None:
        if recomputing():
            return
        call = self.calls.get(where, 0) if self.inside else 0  # a part of the model called alone is a pass of its own
        self.calls[where] = call + 1
        values = weights.detach().clone()
        self.seen._add(Record(**vars(tap.facts), where=where, values=values, forward=max(self.passes, 0), call=call))


def hook_tables(module: nn.Module) -> tuple[dict[int, Any], ...]:
    return module._forward_hooks, module._forward_pre_hooks, module._forward_hooks_always_called


def recomputing() -> bool:
    """Whether this runs within a backward pass: then it is activation checkpointing's second forward."""
    return torch._C._current_graph_task_id() != -1
