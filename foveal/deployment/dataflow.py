"""Data flow between modules: which module reads the output of which, in one forward pass."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

NORMS: dict[str, Callable[[Any], nn.Module]] = {  # class to what is left of it
    "torch.nn.modules.batchnorm.BatchNorm1d": lambda norm: nn.Identity(),
    "torch.nn.modules.batchnorm.BatchNorm2d": lambda norm: nn.Identity(),
    "timm.layers.norm_act.BatchNormAct2d": lambda norm: norm.act,
}


LOOKS = {"__get__", "dim", "size", "numel", "stride", "is_contiguous", "is_floating_point", "__len__"}  # at no number


def class_of(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


@dataclass(frozen=True)
class Follows:
    """A module that takes just what another one gave, both by path."""

    first: str
    then: str


@torch.no_grad()
def followers(model: nn.Module, images: Tensor) -> list[Follows]:
    """Leaf modules that take just what another one gave, which nobody else takes; each called once, without hooks."""
    watched = Uses()
    paths: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        paths.setdefault(module, []).append(path)
    steps = {module: names[0] for module, names in paths.items() if names != [""] and is_step(module, len(names))}
    with ExitStack() as stack:
        for module, path in steps.items():
            stack.callback(module.register_forward_pre_hook(watched.enters(path)).remove)
            stack.callback(module.register_forward_hook(watched.leaves(path)).remove)
        stack.enter_context(watched)
        given = model(images)
    for each in tensors([given]):
        watched.uses[getattr(each, "made_by", "")] += 1
    return [
        pair
        for pair in watched.pairs
        if watched.uses[pair.first] == watched.calls[pair.first] == watched.calls[pair.then] == 1
    ]


def is_step(module: nn.Module, places: int) -> bool:
    """Whether a module is one that makes a map by itself, at one place, and shows it to nobody."""
    whole = not [*module.children()] or class_of(module) in NORMS
    return whole and places == 1 and not hooked(module)


class Uses(TorchFunctionMode):
    """Counts who takes what each module gave; what a module does with it inside counts as one use."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[Follows] = []
        self.calls: Counter[str] = Counter()
        self.uses: Counter[str] = Counter()

    def enters(self, path: str) -> Any:
        def enter(_: nn.Module, args: tuple[Any, ...]) -> None:
            self.calls[path] += 1
            for each in tensors(args[:1]):
                first, version = getattr(each, "made_by", None), getattr(each, "made_at", None)
                if first is not None and version == each._version:
                    self.pairs.append(Follows(first, path))

        return enter

    def leaves(self, path: str) -> Any:
        def leave(_: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            if isinstance(out, Tensor) and not any(out is each for each in tensors(args)):
                out.made_by, out.made_at = path, out._version  # type: ignore[attr-defined]

        return leave

    def __torch_function__(
        self, func: Any, types: Sequence[Any], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") not in LOOKS:
            for maker in {each.made_by for each in tensors([args, kwargs]) if hasattr(each, "made_by")}:
                self.uses[maker] += 1
        return func(*args, **(kwargs or {}))


def tensors(tree: Any) -> Iterator[Tensor]:
    return (each for each in tree_leaves(tree) if isinstance(each, Tensor))
