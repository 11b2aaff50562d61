"""Where attention weights pass by in a model, and hooks there that leave again: what `watch` and `replace` share.

A place is a Tap of ours, or a module of a class in `foveal.foreign`. Its weights are met in one of four ways: as the
output of a Tap or a child; as that of a functional called in a forward pass, under a TorchFunctionMode that lasts as
long as this forward pass; where a fused kernel stands for the functional, computed once more beside it, from the same
queries and keys; for `nn.MultiheadAttention` computed once more by itself. The model's own computation stays the same,
bit for bit.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from foveal.foreign import (
    LOOKS_LIKE_ATTENTION,
    RECOMPUTED,
    TABLE,
    UNSEEN,
    Call,
    Form,
    Hidden,
    Shown,
    class_names,
    of_ones_own,
)
from foveal.record import Facts, Tap

Act = Callable[[Tensor], Tensor | None]  # on the values of a place; what it gives back, if anything, replaces them
Show = Callable[[Tensor, Call], Tensor | None]
Extra = Mapping[str | type, tuple[str, str]]

FUSED = F.scaled_dot_product_attention
FUNCTIONALS = {
    "softmax()": (torch.softmax, F.softmax, Tensor.softmax),
    "sigmoid()": (torch.sigmoid, F.sigmoid, Tensor.sigmoid),
}
GROUPED = "a fused kernel in which several queries share a key"
IN_TRAINING = "dropout hides its effective weights in training; model.eval() shows them"
FAST_PATH = (
    "nn.TransformerEncoderLayer leaves its fast path where a hook stands, and its answer changes; "
    "torch.backends.mha.set_fastpath_enabled(False) shows it"
)


@dataclass(frozen=True, eq=False)
class Place:
    """Where attention weights pass by."""

    where: str
    module: nn.Module
    facts: Facts
    shown: Shown | None = None  # None for a Tap


def find_places(model: nn.Module, extra: Extra | None = None) -> tuple[dict[str, Place], dict[str, str]]:
    """The places of a model by path, and those that cannot be seen with the reason, both in the model's order.

    What DistributedDataParallel (first) and `torch.compile` (anywhere) put into paths is left out. An owner of several
    Taps is told apart by their own names.

    Raises:
        ValueError: `extra` names a class that the model has not, or a child that the class has not.
    """
    own = dict(of_ones_own(cls, *row) for cls, row in (extra or {}).items())
    modules = plain_paths(model)
    owners = [path.rpartition(".")[0] for path, module in modules.items() if isinstance(module, Tap)]
    found, unseen = {}, {}
    for path, module in modules.items():
        if isinstance(module, Tap):
            owner = path.rpartition(".")[0]
            where = path if owners.count(owner) > 1 else owner
            found[where] = Place(where, module, module.facts)
            continue
        rows, reason = known(module, own)
        if rows and within_fast_path(modules, path):
            unseen[path] = FAST_PATH
        elif reason:
            unseen[path] = reason
        for shown in rows if path not in unseen else ():
            where = f"{path}.{shown.name}".strip(".")
            found[where] = Place(where, module, shown.facts, shown)
    check(own, found, modules)
    return found, unseen | unknown_classes(modules, [*found, *unseen])


def plain_paths(model: nn.Module) -> dict[str, nn.Module]:
    """Modules by their paths without what wrappers put into them."""
    wrapped = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
    split = [(path.split(".")[wrapped:], module) for path, module in model.named_modules()]
    return {".".join(name for name in names if name != "_orig_mod"): module for names, module in split}


def known(module: nn.Module, own: Mapping[str, tuple[Shown, ...]]) -> tuple[tuple[Shown, ...], str]:
    """The rows of a module's class, or of the nearest class above it that has some; or why it cannot be seen."""
    for name in class_names(module):
        if name in own or name in TABLE:
            rows = own.get(name) or TABLE[name]
            return tuple(row for row in rows if not row.needs or getattr(module, row.needs) is not None), ""
        if name in UNSEEN:
            return (), UNSEEN[name]
    return (), ""


def within_fast_path(modules: Mapping[str, nn.Module], path: str) -> bool:
    parent = modules.get(path.rpartition(".")[0])
    return isinstance(parent, nn.TransformerEncoderLayer) and torch.backends.mha.get_fastpath_enabled()


def check(own: Mapping[str, tuple[Shown, ...]], found: Mapping[str, Place], modules: Mapping[str, nn.Module]) -> None:
    for name, (shown,) in own.items():
        places = [place for place in found.values() if place.shown is shown]
        if not places:
            raise ValueError(f"extra: the model has no module of the class {name!r}")
        children = [path for path, _ in places[0].module.named_modules()]
        if shown.at not in (*children, *FUNCTIONALS):
            raise ValueError(
                f"extra: {name} has no child {shown.at!r}; it has {', '.join(children[1:])}, or say "
                f"{' or '.join(map(repr, FUNCTIONALS))} for one called in its forward"
            )


def unknown_classes(modules: Mapping[str, nn.Module], told: list[str]) -> dict[str, str]:
    """Modules with a name as attention has, of a class that no table knows, neither in nor around a known place."""
    unknown: dict[str, str] = {}
    for path, module in reversed(list(modules.items())):  # children before their parents
        name = type(module).__name__
        around = any(other == path or other.startswith(f"{path}.") for other in (*told, *unknown))
        inside = any(path.startswith(f"{other}.") for other in told)
        if path and LOOKS_LIKE_ATTENTION.search(name) and not around and not inside:
            unknown[path] = f"foveal does not know the class {name}; watch(model, extra=...) takes it"
    return dict(reversed(list(unknown.items())))


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
        hide: told of a place and why its weights cannot be shown.
    """

    def __init__(self, model: nn.Module, hide: Callable[[str, str], None], changes: bool = False):
        self.hide, self.changes = hide, changes
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

    def listen(self, place: Place, act: Act) -> None:
        """Let `act` meet the weights of a place in every pass."""
        if place.shown is None:
            self.add(place.module, lambda _, __, weights: act(weights))
            return
        show = partial(self._show, place, place.shown.form, act)
        if place.shown.at == RECOMPUTED:
            self.add(place.module, partial(self._recompute, place.where, show), with_kwargs=True)
        elif place.shown.at in FUNCTIONALS:
            self._listen_to_functional(place, show, FUNCTIONALS[place.shown.at])
        else:
            self._listen_to_child(place.module, show, place.shown)

    def _show(self, place: Place, form: Form, act: Act, raw: Tensor, call: Call) -> Tensor | None:
        """Bring raw weights into the Record's form, and what `act` gives back into the raw one."""
        try:
            values = form(raw, call)
        except Hidden as why:
            self.hide(place.where, str(why))
            return None
        if values.ndim != len(place.facts.axes.split()):
            self.hide(place.where, f"its weights of shape {tuple(values.shape)} are not {place.facts.axes}")
            return None
        new = act(values)
        return None if new is None else new.reshape(raw.shape)

    def _listen_to_child(self, owner: nn.Module, show: Show, shown: Shown) -> None:
        turn, turns = shown.turn
        calls = [0]

        def hook(child: nn.Module, args: tuple[Any, ...], raw: Tensor) -> Tensor | None:
            mine = calls[0] % turns == turn
            calls[0] += 1
            return show(raw, Call(child, args[0], self.batch)) if mine else None

        if turns > 1:  # counted anew in each forward pass of the owner
            self.add(owner, lambda *_: calls.__setitem__(0, 0), pre=True)
        self.add(owner.get_submodule(shown.at), hook)

    def _listen_to_functional(self, place: Place, show: Show, functionals: tuple[Any, ...]) -> None:
        modes: list[Listening] = []
        hide = partial(self.hide, place.where)

        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            call = Call(module, next(iter((*args, *kwargs.values())), None), self.batch)
            modes.append(Listening(functionals, lambda raw: show(raw, call), hide, self.changes))
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
        self, where: str, show: Show, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _: Any
    ) -> None:
        if module.training and module.dropout:
            self.hide(where, IN_TRAINING)
            return
        given = inspect.signature(module.forward).bind(*args, **kwargs).arguments
        with torch.no_grad():
            weights = module.forward(**{**given, "need_weights": True, "average_attn_weights": False})[1]
        show(weights, Call(module, args, self.batch))


class Listening(TorchFunctionMode):
    """Meets the results of some functionals while it lasts; a fused attention counts as a softmax.

    Who reads meets weights after the dropout that follows, who replaces before it.
    """

    def __init__(self, functionals: tuple[Any, ...], show: Act, hide: Callable[[str], None], changes: bool):
        super().__init__()
        self.functionals, self.show, self.hide, self.changes = functionals, show, hide, changes
        self.weights: Tensor | None = None  # met and not yet shown

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is FUSED and Tensor.softmax in self.functionals:
            return self._fused(*args, **kwargs)
        out = func(*args, **kwargs)
        if func is F.dropout and args[0] is self.weights:
            self.weights = out
        elif func in self.functionals:
            return self._meet(out)
        return out

    def _meet(self, weights: Tensor) -> Tensor:
        if self.changes:
            new = self.show(weights)
            return weights if new is None else new
        self._flush()
        self.weights = weights
        return weights

    def _fused(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        def fused() -> Tensor:
            return FUSED(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)

        if dropout_p or enable_gqa:
            self.hide(IN_TRAINING if dropout_p else GROUPED)
            return fused()
        if self.changes:
            new = self._meet(fused_weights(query, key, attn_mask, is_causal, scale))
            out: Any = new @ value
            out.foveal_replaced = new  # for a watch on the same place, which stands around this
            return out
        out = fused()
        with torch.no_grad():
            met = getattr(out, "foveal_replaced", None)
            self._meet(fused_weights(query, key, attn_mask, is_causal, scale) if met is None else met)
        return out

    def _flush(self) -> None:
        if self.weights is not None:
            self.show(self.weights)
            self.weights = None

    def leave(self, failed: bool) -> None:
        self.__exit__(None, None, None)
        if not failed:
            self._flush()


def fused_weights(query: Tensor, key: Tensor, attn_mask: Tensor | None, is_causal: bool, scale: float | None) -> Tensor:
    """The weights (..., Q, K) of `scaled_dot_product_attention`, which it does not give out."""
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(-1)


def hook_tables(module: nn.Module) -> tuple[dict[int, Any], ...]:
    return module._forward_hooks, module._forward_pre_hooks, module._forward_hooks_always_called


def recomputing() -> bool:
    """Whether this runs within a backward pass: then it is activation checkpointing's second forward."""
    return torch._C._current_graph_task_id() != -1
