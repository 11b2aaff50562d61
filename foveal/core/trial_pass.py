"""Trial pass: find the shapes that flow through a model without computing values, on the meta device."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from foveal.core.names import first_line

SIDES = (224, 299, 64, 32, 28, 1024)  # image sides, tried in this order if a model does not declare its image size

Shape = tuple[int, ...]


def record_shapes(model: nn.Module, places: Mapping[str, bool]) -> dict[str, Shape]:
    """Return the shape that flows into (True) or out of (False) the module at each path, for one square image.

    Args:
        model: any model on images.
        places: module path to True for the shape of its first input, False for that of its output.

    Raises:
        ValueError: no forward pass reaches a module; its first argument is no tensor, or it does not return a single
            tensor; or it is called with different numbers of channels.
    """
    modules = {model.get_submodule(path): path for path in places}
    found: dict[str, Shape] = {}
    refused: dict[str, str] = {}

    def note(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        path = modules[module]
        flows = (args[0] if args else None) if places[path] else out
        if not isinstance(flows, Tensor):
            refused[path] = f"it {'takes no tensor first' if places[path] else 'gives no single tensor'}"
            return
        shape = tuple(flows.shape)
        if found.setdefault(path, shape)[1:2] != shape[1:2]:
            refused[path] = "it is called with several widths"

    handles = [module.register_forward_hook(note) for module in modules]
    try:
        stopped = try_passes(model, lambda _: len({*found, *refused}) == len(modules))
    finally:
        for handle in handles:
            handle.remove()
    for path in modules.values():
        if path in refused:
            raise ValueError(f"{path!r}: {refused[path]}; attention is attached where one map flows")
        if path not in found:
            why = f" (the trial pass stopped: {stopped})" if stopped else "; attention there would be dead"
            raise ValueError(f"{path!r}: no forward pass reaches it{why}")
    return found


def find_input_module(model: nn.Module) -> str:
    """Return the path of the one module that is called with the image itself.

    Raises:
        ValueError: there is none, or more than one.
    """
    paths: list[str] = []

    def note(path: str, args: tuple[Any, ...]) -> None:
        if args and isinstance(args[0], Tensor) and getattr(args[0], "is_the_image", False):
            paths.append(path)

    named = [(path, module) for path, module in model.named_modules() if path]
    handles = [module.register_forward_pre_hook(lambda _, args, path=path: note(path, args)) for path, module in named]
    try:
        try_passes(model, lambda stopped: stopped == "")
    finally:
        for handle in handles:
            handle.remove()
    outermost = sorted({path for path in paths if not any(path.startswith(f"{other}.") for other in paths)})
    if len(outermost) != 1:
        several = f"goes into {', '.join(outermost)}" if outermost else "goes into no module as it is"
        raise ValueError(f"at='input': the image {several}; give the path of the module to attach before")
    return outermost[0]


def try_passes(model: nn.Module, done: Callable[[str | None], bool]) -> str | None:
    """Run forward passes of one image until `done` returns True, and return why the last pass stopped.

    Each image shape is tried on the meta device first and, where that fails, on the model's own device. `done` is
    called with the reason why the last pass stopped early, "" if it did not, None before the first pass. (A head made
    for another image size may stop a pass after everything has been recorded.)
    """
    stopped: str | None = None
    real = next((weight.device for weight in model.parameters()), torch.device("cpu"))
    for shape in image_shapes(model):
        for device in dict.fromkeys([torch.device("meta"), real]):
            if not done(stopped):
                stopped = pass_through(model, shape, device)
    return stopped


def pass_through(model: nn.Module, shape: Shape, device: torch.device) -> str:
    """Run a forward pass of one image in evaluation mode; return why it stopped early, "" if it did not."""
    state: dict[str, Tensor] = {}
    if device.type == "meta":
        tensors = [*model.named_parameters(), *model.named_buffers()]
        state = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
    dtype = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), torch.float32)
    image = torch.zeros(1, *shape, dtype=dtype, device=device)
    image.is_the_image = True  # type: ignore[attr-defined]
    with eval_mode(model), torch.no_grad():
        try:
            functional_call(model, state, (image,))
        except Exception as error:  # a model's forward may raise anything; what was recorded until then counts
            return first_line(error)
    return ""


def image_shapes(model: nn.Module) -> Iterator[Shape]:
    """Yield the image shapes to try: the input size in a timm model's `pretrained_cfg` first, then common sizes."""
    config = getattr(model, "pretrained_cfg", None) or {}
    in_channels = [module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)]
    candidates = dict.fromkeys([*in_channels[:1], 3, 1])  # the first registered convolution most often takes the image
    if config.get("input_size"):
        yield from ((channels, *config["input_size"][1:]) for channels in candidates)
    yield from ((channels, side, side) for side in SIDES for channels in candidates)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode within the context; afterwards restore the mode of each module."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
