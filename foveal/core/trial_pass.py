"""What shapes flow through a model, found without computing anything: a forward pass on the meta device."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from foveal.core.names import first_line

SIDES = (224, 299, 64, 32, 28, 1024)  # tried in this order where a model does not say its image size

Shape = tuple[int, ...]


def record_shapes(model: nn.Module, places: Mapping[str, bool]) -> dict[str, Shape]:
    """The shapes that flow into the modules at these paths (true) or out of them, for one square image.

    Raises:
        ValueError: a module that no forward pass reaches, that does not take a tensor first or give just one, or that
            is called with several widths.
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
            raise ValueError(f"{path!r}: {refused[path]}; attention stands where one map flows")
        if path not in found:
            why = f" (the trial pass stopped: {stopped})" if stopped else "; attention there would be dead"
            raise ValueError(f"{path!r}: no forward pass reaches it{why}")
    return found


def find_input_module(model: nn.Module) -> str:
    """The path of the one module that takes the image itself.

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
        raise ValueError(f"at='input': the image {several}; give the path of the module to stand before")
    return outermost[0]


def try_passes(model: nn.Module, done: Callable[[str | None], bool]) -> str | None:
    """Forward passes of one image until it is done: on the meta device, then, where that fails, really.

    `done` is told why the last pass stopped half-way, "" for one that did not. (A head made for another image size may
    stop a pass when all has been seen.)
    """
    stopped: str | None = None
    real = next((weight.device for weight in model.parameters()), torch.device("cpu"))
    for shape in image_shapes(model):
        for device in dict.fromkeys([torch.device("meta"), real]):
            if not done(stopped):
                stopped = pass_through(model, shape, device)
    return stopped


def pass_through(model: nn.Module, shape: Shape, device: torch.device) -> str:
    """A forward pass of one image in evaluation mode; why it stopped half-way, or ""."""
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
        except Exception as error:  # whatever somebody's forward raises: what was seen until then counts
            return first_line(error)
    return ""


def image_shapes(model: nn.Module) -> Iterator[Shape]:
    """The image shapes worth trying: what a timm model says of itself, else common sizes."""
    says = getattr(model, "pretrained_cfg", None) or {}
    registered = [module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)]
    likely = dict.fromkeys([*registered[:1], 3, 1])  # the first that is registered takes the image most often
    if says.get("input_size"):
        yield from ((channels, *says["input_size"][1:]) for channels in likely)
    yield from ((channels, side, side) for side in SIDES for channels in likely)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; afterwards each module has its own mode back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
