"""Trial pass: run a copy of a model once, to see what flows through it; the model itself and the random state stay.

A pass over the model itself may change it for good: caches of positions, shifts of windows, anchors of a detector. The
copy is on the meta device, where no values are computed, or shares the model's parameters where it fails there.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from foveal.core.names import first_line
from foveal.core.safe_copy import as_meta, detached, forked_random_state, safe_copy
from foveal.core.validation import device_of

SIDES = (224, 299, 64, 32, 28, 1024)  # image sides, tried in this order if a model does not declare its image size
BATCH = 2
ROUNDING = 0.2  # relative difference of side ratios between an image that is not square and a map of it
DEPTH = 16  # frames of a video, slices of a volume

Inputs = Tensor | tuple[Any, ...] | list[Any] | dict[str, Any]


@dataclass(frozen=True)
class Call:
    """Arguments of a pass over a model; `meta` if they are empty tensors on the meta device."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    meta: bool = False

    @property
    def tensors(self) -> list[Tensor]:
        """Tensors among the arguments, also in nested lists, tuples and dicts."""
        return [each for each in tree_leaves((self.args, self.kwargs)) if isinstance(each, Tensor)]

    def has_image_sides(self, height: int, width: int) -> bool:
        """Return True if these sides have the ratio of the image's sides, up to rounding in a smaller map."""
        image = next((each.shape[-2:] for each in self.tensors if each.ndim > 2), (1, 1))
        if image[0] == image[1] or not height * width:
            return height == width
        return abs(math.log(height * image[1] / (width * image[0]))) < ROUNDING


Observe = Callable[[nn.Module], AbstractContextManager[Any]]


def trial_pass(model: nn.Module, call: Call, observe: Observe) -> str:
    """Run a pass over a copy of a model in evaluation mode; return why it stopped early, "" if it did not.

    Args:
        model: any model.
        call: arguments of the pass.
        observe: function of the copy that returns the context in which it runs.
    """
    device = torch.device("meta") if call.meta else device_of(model)
    try:
        with forked_random_state(), torch.no_grad():
            copied = safe_copy(model, call.meta)
            with device, observe(copied):
                copied(*call.args, **call.kwargs)
    except Exception as error:  # a model's code may raise anything; what was observed until then counts
        return first_line(error)
    return ""


def run_trials(
    model: nn.Module,
    inputs: Inputs | None,
    observe: Callable[[nn.Module, Call], AbstractContextManager[Any]],
    done: Callable[[], bool] = lambda: False,
) -> str:
    """Run passes until one ends or `done` returns True; return why the last pass stopped early, "" if it did not.

    Without `inputs`, images of the sizes that the model may take are tried. (A head made for another image size may
    stop a pass after everything has been observed.)
    """
    stopped = ""
    for call in calls_of(model, inputs):
        stopped = trial_pass(model, call, lambda copied, call=call: observe(copied, call))  # type: ignore[misc]
        if not stopped or done():
            break
    return stopped


def calls_of(model: nn.Module, inputs: Inputs | None = None) -> Iterator[Call]:
    """Yield the calls to try, each on the meta device first, then on the model's own device.

    Args:
        model: any model.
        inputs: a tensor or a list is the first argument, a tuple all arguments, a dict keyword arguments; None for
            images of the sizes that a model on images may take.

    Raises:
        TypeError: `inputs` is something else.
    """
    if inputs is not None:
        yield from both_devices(arguments_of(inputs))
        return
    dtype = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), torch.float32)
    for shape in image_shapes(model):
        for device in dict.fromkeys((torch.device("meta"), device_of(model))):
            yield Call((torch.zeros(BATCH, *shape, dtype=dtype, device=device),), meta=device.type == "meta")


def arguments_of(inputs: Inputs) -> Call:
    """Return the call that a user's inputs mean."""
    if isinstance(inputs, dict):
        call = Call((), inputs)
    elif isinstance(inputs, tuple):
        call = Call(inputs)
    else:
        call = Call((inputs,))
    if not call.tensors or not all(isinstance(name, str) for name in call.kwargs):
        given = " ".join(repr(inputs).split())
        raise TypeError(
            f"inputs={given:.100}: a tensor, a list of images, a tuple of arguments or a dict of keyword arguments "
            "is needed"
        )
    return call


def both_devices(call: Call) -> list[Call]:
    """Return a call on the meta device and the same one on copies of its tensors."""
    meta = Call(as_meta(call.args), as_meta(call.kwargs), meta=True)
    return [meta, Call(detached(call.args), detached(call.kwargs))]


def record_channels(
    model: nn.Module, places: Mapping[str, bool], inputs: Inputs | None = None
) -> tuple[dict[str, int], str]:
    """Return the channels of the map at each place that is reached, and why the pass stopped early, "" if it did not.

    Args:
        model: any model on images.
        places: module path to True for what flows into the module, False for what flows out. An empty slot is filled in
            the copy.
        inputs: what the model is called with, see `calls_of`.

    Raises:
        ValueError: what flows there is not one map (B, C, H, W), or maps of several widths.
    """
    passes = [Seen()]

    @contextmanager
    def recording(copied: nn.Module, call: Call) -> Iterator[None]:
        seen = Seen()
        passes.append(seen)

        def note(path: str, flows: Any) -> None:
            why = refusal(flows, call, before=places[path])
            if not why and seen.found.setdefault(path, flows.shape[1]) != flows.shape[1]:
                why = "it is called with several widths; attention is attached where one map flows"
            if why:
                seen.refused[path] = why

        for path, before in places.items():
            module = filled(copied, path)
            if before:
                module.register_forward_hook(lambda _, args, out, path=path: note(path, args[0] if args else None))
            else:
                module.register_forward_hook(lambda _, args, out, path=path: note(path, out))
        for module in copied.modules():
            if module._parameters:
                module.register_forward_hook(lambda *_: setattr(seen, "fits", True))
        yield

    stopped = run_trials(model, inputs, recording, lambda: passes[-1].reached == len(places))
    best = max(passes, key=lambda seen: seen.reached) if stopped else passes[-1]
    for path in places:
        if path in best.refused:
            raise ValueError(f"{path!r}: {best.refused[path]}")
    return best.found, stopped


@dataclass
class Seen:
    """What a pass saw at the places: channels, or the reason why no map flows there.

    An image of other channels than the model takes stops the pass in the first module with weights. What such a pass
    saw before does not count.
    """

    found: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    fits: bool = False  # a module with weights took what it was called with

    @property
    def reached(self) -> int:
        """The number of places at which something was seen, 0 if the image does not fit."""
        return len({*self.found, *self.refused}) if self.fits else 0


def refusal(flows: Any, call: Call, before: bool) -> str:
    """Return why what flows at a place is not one map (B, C, H, W), "" if it is."""
    if not isinstance(flows, Tensor):
        what = "takes no tensor first" if before else "gives no single tensor"
        return f"it {what}; attention is attached where one map flows"
    shape = tuple(flows.shape)
    if len(shape) == 4 and (call.has_image_sides(*shape[2:]) or not call.has_image_sides(*shape[1:3])):
        return ""
    tokens = "; a transformer's tokens have no default place" if len(shape) == 3 else ""
    return f"what flows there is {shape}, not a map (B, C, H, W){tokens}"


def filled(model: nn.Module, path: str) -> nn.Module:
    """Return the module at a path of a copy, of that path alone; put an identity into an empty slot.

    A module in several places gets a twin here, with the same weights: what is seen of it is seen in this place. (A
    Sequential does not: what is attached to it is a child of it in every place.)
    """
    parent, _, name = path.rpartition(".")
    owner = model.get_submodule(parent)
    if getattr(owner, name) is None:
        if name not in owner._modules:
            delattr(owner, name)
        setattr(owner, name, nn.Identity())
    module: nn.Module = getattr(owner, name)
    slots = [child for other in model.modules() for child in other._modules.values() if child is module]
    if len(slots) > 1 and type(module).forward is not nn.Sequential.forward:
        twin = module.__new__(type(module))
        twin.__dict__.update(vars(module), _forward_hooks=OrderedDict(module._forward_hooks))
        setattr(owner, name, twin)
        return twin
    return module


def find_input_module(model: nn.Module, inputs: Inputs | None = None) -> str:
    """Return the path of the one module that is called with the image itself.

    Raises:
        ValueError: there is none, or more than one.
    """
    paths: list[str] = []

    @contextmanager
    def listening(copied: nn.Module, call: Call) -> Iterator[None]:
        paths.clear()
        images = {id(each) for each in call.tensors}
        for path, module in copied.named_modules():
            if path:
                module.register_forward_pre_hook(
                    lambda _, args, path=path: paths.append(path) if args and id(args[0]) in images else None
                )
        yield

    stopped = run_trials(model, inputs, listening)
    outermost = sorted({path for path in paths if not any(path.startswith(f"{other}.") for other in paths)})
    if len(outermost) != 1:
        several = f"goes into {', '.join(outermost)}" if outermost else "goes into no module as it is"
        why = f" (the trial pass stopped: {stopped})" if stopped else ""
        raise ValueError(f"at='input': the image {several}; give the path of the module to attach before{why}")
    return outermost[0]


def image_shapes(model: nn.Module) -> Iterator[tuple[int, ...]]:
    """Yield the shapes of images to try: the size that a model's configuration declares first, then common sizes.

    The first registered convolution most often takes the image: it has the number of channels, and one, two or three
    dimensions for signals, images, and videos or volumes.
    """
    timm, hugging_face = getattr(model, "pretrained_cfg", None), getattr(model, "config", None)
    declared = timm.get("input_size") if isinstance(timm, Mapping) else None
    side, channels = (getattr(hugging_face, name, None) for name in ("image_size", "num_channels"))
    sides = (side, side) if isinstance(side, int) else side
    if isinstance(sides, list | tuple) and len(sides) == 2:
        yield (channels or 3, *sides)
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    first = next((module for module in model.modules() if isinstance(module, kinds)), None)
    candidates = dict.fromkeys([*([first.in_channels] if first else []), 3, 1])
    if declared:
        yield from ((channels, *declared[1:]) for channels in candidates)
    for side in SIDES:
        size = {nn.Conv1d: (side,), nn.Conv3d: (DEPTH, side, side)}
        for channels in candidates:
            yield (channels, *next((size[kind] for kind in size if isinstance(first, kind)), (side, side)))


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode within the context; afterwards restore the mode of each module.

    A module's own `train` may do more than set the flag: LoRA merges its weights in evaluation mode.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            if getattr(module.train, "__func__", None) is not nn.Module.train:
                module.train(mode)
        for module, mode in modes.items():
            module.training = mode
