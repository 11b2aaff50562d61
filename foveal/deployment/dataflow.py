"""Data flow between modules in one forward pass: which module reads the output of which."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

NORMS: dict[str, Callable[[Any], nn.Module]] = {  # class of a norm to the module that remains after folding
    "torch.nn.modules.batchnorm.BatchNorm1d": lambda norm: nn.Identity(),
    "torch.nn.modules.batchnorm.BatchNorm2d": lambda norm: nn.Identity(),
    "timm.layers.norm_act.BatchNormAct2d": lambda norm: norm.act,
}


LOOKS = {"__get__", "dim", "size", "numel", "stride", "is_contiguous", "is_floating_point", "__len__"}  # read no values


def class_of(module: nn.Module) -> str:
    """Return the qualified name of a module's class."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def hooked(module: nn.Module) -> bool:
    """Return True if a module has forward or backward hooks."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


@dataclass(frozen=True)
class Follows:
    """A pair of modules, by path: the input of `then` is exactly the output of `first`."""

    first: str
    then: str


@torch.no_grad()
def followers(model: nn.Module, images: Tensor) -> list[Follows]:
    """Find pairs of leaf modules where the second is the only reader of the first one's output.

    Both modules are called exactly once and have no hooks.
    """
    watched = Uses()
    paths: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        paths.setdefault(module, []).append(path)
    hosts = ((path, module) for path, module in model.named_modules() if module not in paths)
    paths |= {module: [path] for path, module in hosts}  # of attached mechanisms, which have no other name
    steps = {module: names[0] for module, names in paths.items() if names != [""] and is_step(module, len(names))}
    with ExitStack() as stack:
        for module, path in steps.items():
            stack.callback(module.register_forward_pre_hook(watched.enters(path)).remove)
            stack.callback(module.register_forward_hook(watched.leaves(path)).remove)
        stack.enter_context(watched)
        outputs = model(images)
    for each in tensors([outputs]):
        watched.uses[getattr(each, "made_by", "")] += 1
    return [
        pair
        for pair in watched.pairs
        if watched.uses[pair.first] == watched.calls[pair.first] == watched.calls[pair.then] == 1
    ]


def is_step(module: nn.Module, places: int) -> bool:
    """Return True if a module is a leaf or a norm, is registered at one path only, and has no hooks."""
    whole = not [*module.children()] or class_of(module) in NORMS
    return whole and places == 1 and not hooked(module)


class Uses(TorchFunctionMode):
    """Torch-function mode that counts the readers of each module's output; a reading module counts once."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[Follows] = []
        self.calls: Counter[str] = Counter()
        self.uses: Counter[str] = Counter()

    def enters(self, path: str) -> Any:
        """Return the forward pre-hook of the module at `path`."""

        def enter(_: nn.Module, args: tuple[Any, ...]) -> None:
            self.calls[path] += 1
            for each in tensors(args[:1]):
                first, version = getattr(each, "made_by", None), getattr(each, "made_at", None)
                if first is not None and version == each._version:
                    self.pairs.append(Follows(first, path))

        return enter

    def leaves(self, path: str) -> Any:
        """Return the forward hook of the module at `path`."""

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
    """Yield the tensors in a nested structure."""
    return (each for each in tree_leaves(tree) if isinstance(each, Tensor))
