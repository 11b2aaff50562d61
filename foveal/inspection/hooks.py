"""Hooks on the places of a model, removed when their context ends; shared by `watch`, `replace` and Grad-CAM.

Weights are read as the output of a Tap or a child; as that of a functional (`foveal.inspection.functional_hooks`); or,
for `nn.MultiheadAttention`, computed once more by the module itself. The model's own computation stays the same, bit
for bit, unless the callback returns other weights. Quantized weights are dequantized for the callback.

A context acts in the thread that entered it alone: passes of other threads over the same model are neither recorded nor
changed. A backward pass on a GPU runs in a thread of autograd; there a context that changes weights acts as well, since
activation checkpointing repeats the forward pass in that thread.
"""

import inspect
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from threading import Lock, _DummyThread, current_thread, get_ident
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from foveal.inspection.adapters import Call, Form, NotRecordable, axes_of
from foveal.inspection.batch import batch_of
from foveal.inspection.call_hooks import CallHook
from foveal.inspection.functional_hooks import FUNCTIONALS, IN_TRAINING, FunctionalHook, WeightsMode
from foveal.inspection.quantized import meet_plain
from foveal.inspection.tap_points import TapPoint
from foveal.inspection.third_party import RECOMPUTED, TapSpec

Callback = Callable[[Tensor], Tensor | None]  # on the values of a place; values that it returns replace them
OnValue = Callable[[Tensor, Call], Tensor | None]


class Hook:
    """A forward hook that acts in one thread, and that is removed with its context, also from copies of the module.

    A deepcopy of a hooked module (an EMA) copies its hooks; the copied hook registers the copy with its context and
    does nothing.
    """

    def __init__(self, context: "Hooks | None", module: nn.Module | None, action: Any, hook_id: int = -1):
        self.context, self.module, self.action, self.id = context, module, action, hook_id

    def __call__(self, *args: Any) -> Any:
        return self.action(*args) if self.acts_here() else None

    def acts_here(self) -> bool:
        """Return True if a call in the current thread is one that this hook's context records or changes."""
        if self.context is None or self.action is None:
            return False
        return self.context.owns_thread(self.module)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Hook":
        copied = memo.get(id(self.module))
        if copied is not None and self.context is not None:
            self.context.copies.append((ref(copied), self.id))
        return Hook(self.context, copied, None, self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, (None, None, None)  # a pickled copy is not hooked


class ForceEager:
    """Eager execution of compiled models while at least one context is active in any thread.

    Hooks added to a compiled graph never fire. The stance of `torch.compiler` is one for all threads.
    """

    def __init__(self) -> None:
        self.lock, self.active = Lock(), 0
        self.stance: Any = None

    def __enter__(self) -> None:
        with self.lock:
            if not self.active:
                self.stance = torch.compiler.set_stance("force_eager")
            self.active += 1

    def __exit__(self, *_: Any) -> None:
        with self.lock:
            self.active -= 1
            if not self.active:
                self.stance.__exit__(None, None, None)


FORCE_EAGER = ForceEager()


class Hooks:
    """Hooks of one context on places and other modules of a model, from its construction to `close`.

    Args:
        model: the model of which each hooked module is a part.
        on_skipped: called with the path of a place and the reason why its weights cannot be recorded.
        changes: actions replace weights; these hooks run before others.

    Raises:
        ValueError: a DataParallel over several devices, which runs its parts in threads of its own.
    """

    def __init__(self, model: nn.Module, on_skipped: Callable[[str, str], None], changes: bool = False):
        if isinstance(model, nn.DataParallel) and len(model.device_ids) > 1:
            raise ValueError(
                f"model: a DataParallel over {len(model.device_ids)} devices runs its parts in threads, in no fixed "
                "order; pass model.module, and call that"
            )
        self.model, self.on_skipped, self.changes = model, on_skipped, changes
        self.thread, self.called_elsewhere, self.active = get_ident(), False, True
        self.batch: int | None = None
        self.arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None  # of a pass that begins
        self.copies: list[tuple[ref[nn.Module], int]] = []
        self.stack = ExitStack()
        if "torch._dynamo" in sys.modules:
            self.stack.enter_context(FORCE_EAGER)
        self.add(model, self._begin, pre=True, with_kwargs=True)
        self.add(model, self._end, always_call=True)

    def close(self) -> None:
        """Remove all hooks, also from copies of hooked modules."""
        self.active = False
        self.stack.close()
        for copied, hook_id in self.copies:
            module = copied()
            for hooks in () if module is None else hook_tables(module):
                hooks.pop(hook_id, None)

    def owns_thread(self, module: nn.Module | None) -> bool:
        """Return True in the thread of this context and, if it changes weights, in a thread of autograd.

        Raises:
            RuntimeError: in a thread of autograd, where several threads change the weights of the same module.
        """
        if get_ident() == self.thread:
            return True
        if not recomputing() or not isinstance(current_thread(), _DummyThread):
            self.called_elsewhere = True
            return False
        hooks = [] if module is None else [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        contexts = [hook.context for hook in hooks if isinstance(hook, Hook) and hook.context is not None]
        if len({context.thread for context in contexts if context.changes}) > 1:
            raise RuntimeError(
                f"{type(module).__name__}: several threads replace its weights while a backward pass recomputes it; "
                "which of them it belongs to is unknown; replace in one thread at a time"
            )
        return self.changes

    def add(self, module: nn.Module, action: Any, pre: bool = False, **options: Any) -> RemovableHandle:
        hook = Hook(self, module, action)
        add = module.register_forward_pre_hook if pre else module.register_forward_hook
        handle = add(hook, prepend=self.changes, **options)
        hook.id = handle.id
        self.stack.callback(handle.remove)
        if pre and module is self.model and self.arguments is not None:  # torch runs no pre-hook that is added by one
            hook(module, *self.arguments)
        return handle

    def _begin(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.batch = batch_of(each for each in (*args, *kwargs.values()) if isinstance(each, Tensor))
        self.arguments = args, kwargs

    def _end(self, *_: Any) -> None:
        self.batch = self.arguments = None

    def attach_to(self, place: TapPoint, callback: Callback) -> None:
        """Call `callback` with the weights of a place in every pass; after an error no hook of the context is left."""
        try:
            self._attach_to(place, callback)
        except BaseException:
            self.close()
            raise

    def _attach_to(self, place: TapPoint, callback: Callback) -> None:
        if place.spec is None:
            self.add(place.module, lambda _, __, weights: meet_plain(place.path, callback, weights))
            return
        on_value = partial(self._show, place, place.spec.form, callback)
        if place.spec.module_or_op == RECOMPUTED:
            self.add(place.module, partial(self._recompute, place.path, on_value), with_kwargs=True)
        elif place.spec.site is not None or place.spec.module_or_op in FUNCTIONALS:
            self._attach_to_functional(place, on_value, place.spec)
        else:
            self._attach_to_child(place.module, on_value, place.spec)

    def _show(self, place: TapPoint, form: Form, callback: Callback, raw: Tensor, call: Call) -> Tensor | None:
        """Call `callback` with raw weights in the form of a Record; return its values in the form of the raw ones."""

        def on_plain(plain: Tensor) -> Tensor | None:
            values = form(plain, call)
            if axes_of(values, place.facts.axes) is None:
                raise NotRecordable(f"its weights of shape {tuple(values.shape)} are not {place.facts.axes}")
            new = callback(values)
            return None if new is None else new.reshape(plain.shape)

        try:
            return meet_plain(place.path, on_plain, raw)
        except NotRecordable as why:
            self.on_skipped(place.path, str(why))
            return None

    def _attach_to_child(self, owner: nn.Module, on_value: OnValue, spec: TapSpec) -> None:
        turn, turns = spec.nth_call
        calls = [0]

        def hook(child: nn.Module, args: tuple[Any, ...], raw: Tensor) -> Tensor | None:
            recorded = calls[0] % turns == turn
            calls[0] += 1
            return on_value(raw, Call(child, args[0], self.batch)) if recorded else None

        if turns > 1:  # counted anew in each forward pass of the owner
            self.add(owner, lambda *_: calls.__setitem__(0, 0), pre=True)
        self.add(owner.get_submodule(spec.module_or_op), hook)

    def _attach_to_functional(self, place: TapPoint, on_value: OnValue, spec: TapSpec) -> None:
        modes: list[WeightsMode] = []
        on_skipped = partial(self.on_skipped, place.path)

        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            call = Call(module, next(iter((*args, *kwargs.values())), None), self.batch)
            modes.append(mode_of(module, spec, lambda raw: on_value(raw, call), on_skipped, self.changes))
            modes[-1].__enter__()

        def leave(_: nn.Module, __: Any, out: Any) -> None:
            if modes:
                modes.pop().leave(failed=out is None)

        def abandon() -> None:  # after a KeyboardInterrupt, for which no hook runs
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
        arguments = inspect.signature(module.forward).bind(*args, **kwargs).arguments
        with torch.no_grad():
            weights = module.forward(**{**arguments, "need_weights": True, "average_attn_weights": False})[1]
        on_value(weights, Call(module, args, self.batch))


def mode_of(module: nn.Module, spec: TapSpec, on_value: Any, on_skipped: Any, changes: bool) -> WeightsMode:
    """Return the function mode that reads the calls of a row: one call that was found, or each of a functional."""
    if spec.site is not None:
        return CallHook(module, spec.module_or_op.removesuffix("()"), spec.site, on_value, on_skipped, changes)
    return FunctionalHook(FUNCTIONALS[spec.module_or_op], on_value, on_skipped, changes)


ENTERING = Lock()


def begin(context: Any, model: nn.Module, on_skipped: Callable[[str, str], None], changes: bool = False) -> Hooks:
    """Start the hooks of a `watch` or `replace`, kept as `context.hooks`.

    Raises:
        RuntimeError: the same object was entered before and not left.
    """
    with ENTERING:
        hooks = getattr(context, "hooks", None)
        if hooks is not None and hooks.active:
            verb = type(context).__name__
            raise RuntimeError(f"this {verb} is active already; write foveal.{verb}(...) anew for each `with`")
        context.hooks = Hooks(model, on_skipped, changes)
    return context.hooks


def hook_tables(module: nn.Module) -> list[dict[int, Any]]:
    """Return the tables of a module's forward hooks; a copy that another thread still makes may lack some."""
    names = ("hooks", "hooks_with_kwargs", "hooks_always_called", "pre_hooks", "pre_hooks_with_kwargs")
    return [vars(module).get(f"_forward_{name}", {}) for name in names]


def recomputing() -> bool:
    """Return True within a backward pass, in which activation checkpointing repeats a forward pass."""
    return torch._C._current_graph_task_id() != -1
