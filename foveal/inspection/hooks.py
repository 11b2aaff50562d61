"""Hooks on the places of a model that leave again with their context: what `watch` and `replace` share.

Weights are met as the output of a Tap or a child; as that of a functional (`foveal.inspection.functional_hooks`); or,
for `nn.MultiheadAttention`, computed once more by the module itself. The model's own computation stays the same, bit
for bit, unless what meets the weights gives others back.
"""

import inspect
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn

from foveal.inspection.adapters import Call, Form, NotRecordable, axes_of
from foveal.inspection.functional_hooks import FUNCTIONALS, IN_TRAINING, FunctionalHook
from foveal.inspection.tap_points import TapPoint
from foveal.inspection.third_party import RECOMPUTED, TapSpec

Callback = Callable[[Tensor], Tensor | None]  # on the values of a place; what it gives back, if anything, replaces them
OnValue = Callable[[Tensor, Call], Tensor | None]


class Hook:
    """A forward hook that leaves with its context, also from a copy of the module that was made meanwhile.

    A deepcopy of a hooked module (an EMA) copies its hooks; this one tells its context of the copy and does nothing
    there.
    """

    def __init__(
        self, module: nn.Module | None, action: Any, copies: list[tuple["ref[nn.Module]", int]], hook_id: int = -1
    ):
        self.module, self.action, self.copies, self.id = module, action, copies, hook_id

    def __call__(self, *args: Any) -> Any:
        return None if self.action is None else self.action(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Hook":
        copied = memo.get(id(self.module))
        if copied is not None:
            self.copies.append((ref(copied), self.id))
        return Hook(copied, None, self.copies, self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, (None, None, [])  # what is pickled meanwhile is watched by nobody


class Hooks:
    """The hooks of one context, from its start to `close`, on places and other modules of a model.

    Inside, a compiled model runs eagerly, since hooks added to a compiled graph never fire.

    Args:
        model: of which everything that is hooked is a part.
        changes: actions replace weights; then these hooks come before others.
        on_skipped: told of a place and why its weights cannot be shown.
    """

    def __init__(self, model: nn.Module, on_skipped: Callable[[str, str], None], changes: bool = False):
        self.on_skipped, self.changes = on_skipped, changes
        self.batch: int | None = None
        self.copies: list[tuple[ref[nn.Module], int]] = []
        self.stack = ExitStack()
        if "torch._dynamo" in sys.modules:
            self.stack.enter_context(torch.compiler.set_stance("force_eager"))
        self.add(model, self._begin, pre=True, with_kwargs=True)
        self.add(model, self._end, always_call=True)

    def close(self) -> None:
        self.stack.close()
        for copied, hook_id in self.copies:
            module = copied()
            for hooks in () if module is None else hook_tables(module):
                hooks.pop(hook_id, None)

    def add(self, module: nn.Module, action: Any, pre: bool = False, **options: Any) -> None:
        hook = Hook(module, action, self.copies)
        add = module.register_forward_pre_hook if pre else module.register_forward_hook
        handle = add(hook, prepend=self.changes, **options)
        hook.id = handle.id
        self.stack.callback(handle.remove)

    def _begin(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor) and each.ndim]
        self.batch = len(tensors[0]) if tensors else None

    def _end(self, *_: Any) -> None:
        self.batch = None

    def attach_to(self, place: TapPoint, callback: Callback) -> None:
        """Let `callback` meet the weights of a place in every pass."""
        if place.spec is None:
            self.add(place.module, lambda _, __, weights: callback(weights))
            return
        on_value = partial(self._show, place, place.spec.form, callback)
        if place.spec.module_or_op == RECOMPUTED:
            self.add(place.module, partial(self._recompute, place.path, on_value), with_kwargs=True)
        elif place.spec.module_or_op in FUNCTIONALS:
            self._attach_to_functional(place, on_value, FUNCTIONALS[place.spec.module_or_op])
        else:
            self._attach_to_child(place.module, on_value, place.spec)

    def _show(self, place: TapPoint, form: Form, callback: Callback, raw: Tensor, call: Call) -> Tensor | None:
        """Bring raw weights into the Record's form, and what `callback` gives back into the raw one."""
        try:
            values = form(raw, call)
        except NotRecordable as why:
            self.on_skipped(place.path, str(why))
            return None
        if axes_of(values, place.facts.axes) is None:
            self.on_skipped(place.path, f"its weights of shape {tuple(values.shape)} are not {place.facts.axes}")
            return None
        new = callback(values)
        return None if new is None else new.reshape(raw.shape)

    def _attach_to_child(self, owner: nn.Module, on_value: OnValue, spec: TapSpec) -> None:
        turn, turns = spec.nth_call
        calls = [0]

        def hook(child: nn.Module, args: tuple[Any, ...], raw: Tensor) -> Tensor | None:
            mine = calls[0] % turns == turn
            calls[0] += 1
            return on_value(raw, Call(child, args[0], self.batch)) if mine else None

        if turns > 1:  # counted anew in each forward pass of the owner
            self.add(owner, lambda *_: calls.__setitem__(0, 0), pre=True)
        self.add(owner.get_submodule(spec.module_or_op), hook)

    def _attach_to_functional(self, place: TapPoint, on_value: OnValue, functionals: tuple[Any, ...]) -> None:
        modes: list[FunctionalHook] = []
        on_skipped = partial(self.on_skipped, place.path)

        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            call = Call(module, next(iter((*args, *kwargs.values())), None), self.batch)
            modes.append(FunctionalHook(functionals, lambda raw: on_value(raw, call), on_skipped, self.changes))
            modes[-1].__enter__()

        def leave(_: nn.Module, __: Any, out: Any) -> None:
            if modes:
                modes.pop().leave(failed=out is None)

        def abandon() -> None:  # what a KeyboardInterrupt left, after which no hook runs
            while modes:
                modes.pop().leave(failed=True)

        self.add(place.module, enter, pre=True, with_kwargs=True)
        self.add(place.module, leave, always_call=True)
        self.stack.callback(abandon)

    def _recompute(
        self, path: str, on_value: OnValue, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _: Any
    ) -> None:
        if module.training and module.dropout:
            self.on_skipped(path, IN_TRAINING)
            return
        given = inspect.signature(module.forward).bind(*args, **kwargs).arguments
        with torch.no_grad():
            weights = module.forward(**{**given, "need_weights": True, "average_attn_weights": False})[1]
        on_value(weights, Call(module, args, self.batch))


def hook_tables(module: nn.Module) -> tuple[dict[int, Any], ...]:
    return (
        module._forward_hooks,
        module._forward_hooks_with_kwargs,
        module._forward_hooks_always_called,
        module._forward_pre_hooks,
        module._forward_pre_hooks_with_kwargs,
    )


def recomputing() -> bool:
    """Whether this runs within a backward pass: then it is activation checkpointing's second forward."""
    return torch._C._current_graph_task_id() != -1
