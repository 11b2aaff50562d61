"""What shapes flow through a model, found without computing anything: a forward pass on the meta device."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

SIDES = (224, 299, 64, 32, 28)  # tried in this order where a model does not say its image size

Shape = tuple[int, ...]


def observe(model: nn.Module, paths: Iterable[str]) -> dict[str, tuple[Shape, Shape]]:
    """The shapes that go into and come out of the modules at these paths, for a batch of one image.

    A path that no forward pass reached is missing from the answer. Modules that take or give anything but one tensor
    count as not reached.
    """
    modules = {model.get_submodule(path): path for path in paths}
    found: dict[str, tuple[Shape, Shape]] = {}

    def note(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        if args and isinstance(args[0], Tensor) and isinstance(out, Tensor):
            found.setdefault(modules[module], (tuple(args[0].shape), tuple(out.shape)))

    handles = [module.register_forward_hook(note) for module in modules]
    try:
        for shape in image_shapes(model):
            if len(found) < len(modules):
                pass_through(model, shape)
    finally:
        for handle in handles:
            handle.remove()
    return found


def pass_through(model: nn.Module, shape: Shape) -> None:
    """A forward pass of one image on the meta device. It may fail half-way (a head made for another image size)."""
    state = [*model.named_parameters(), *model.named_buffers()]
    on_meta = {name: torch.empty_like(tensor, device="meta") for name, tensor in state}
    dtype = next((tensor.dtype for tensor in on_meta.values() if tensor.is_floating_point()), torch.float32)
    with evaluating(model), torch.no_grad():
        try:
            functional_call(model, on_meta, (torch.empty(1, *shape, dtype=dtype, device="meta"),))
        except (RuntimeError, ValueError, TypeError, NotImplementedError, AttributeError):
            return


def image_shapes(model: nn.Module) -> Iterator[Shape]:
    """The image shapes worth trying: what a timm model says of itself, else common sizes."""
    says = getattr(model, "pretrained_cfg", None) or {}
    first = first_convolution(model)
    channels = 3 if first is None else first[1].in_channels
    if says.get("input_size"):
        yield channels, *says["input_size"][1:]
    for side in SIDES:
        yield channels, side, side


def first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d] | None:
    """The convolution that a model registers first, with its path."""
    return next(((path, module) for path, module in model.named_modules() if isinstance(module, nn.Conv2d)), None)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; afterwards each module has its own mode back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
