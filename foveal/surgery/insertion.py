"""Build mechanisms of the right width, insert them beside a module or instead of a convolution, remove them."""

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import nn

from foveal.core.trial_pass import Inputs, eval_mode, record_channels
from foveal.surgery.attachments import InsertedModule, plain_name
from foveal.surgery.blocks import KnownBlock, known_block, path_within
from foveal.surgery.insertion_points import (
    InsertionPoint,
    get_module,
    one_at_each_slot,
    ours,
    outermost,
    set_module,
    takes_child,
)
from foveal.surgery.wrapper import Attached, unwrapped

Build = Callable[..., nn.Module]


Step = Callable[[], InsertedModule]


@dataclass(frozen=True)
class Trial:
    """What a plan needs for its trial pass.

    Attributes:
        inputs: what the model is called with; None for images.
        by_default: True if the user named no place.
    """

    inputs: Inputs | None
    by_default: bool


def plan_insertions(
    model: nn.Module, places: list[InsertionPoint], name: str, attaches: str, build: Build, trial: Trial
) -> dict[str, Step]:
    """Return, by path, the steps that insert a mechanism after or before each module, built for the channels there.

    Raises:
        ValueError: a place is matched twice, or by a further path alone; no map (B, C, H, W) flows there; the mechanism
            refuses the channels.
    """
    twice = next((place for place in places if [other.host for other in places].count(place.host) > 1), None)
    if twice is not None:
        raise ValueError(f"at: {twice.host!r}, where {twice.path!r} ends, is matched twice")
    places, found, stopped = running_places(model, one_at_each_slot(model, places), trial)
    for place in places:
        channels = found.get(place.host) or declared_channels(get_module(model, place.host), place.before)
        if channels is None:
            raise ValueError(
                f"{place.host!r}: no forward pass reaches it (the trial pass stopped: {stopped}); give inputs="
            )
        found[place.host] = channels
    built = {place: build(place.path, found[place.host]) for place in places}
    deepest_first = sorted(built.items(), key=lambda item: -item[0].host.count("."))
    return {at.path: insertion_step(model, at, name, module, attaches) for at, module in deepest_first}


def running_places(
    model: nn.Module, places: list[InsertionPoint], trial: Trial
) -> tuple[list[InsertionPoint], dict[str, int], str]:
    """Return the places that the model runs, the channels at each, and why the trial pass stopped early, if it did.

    A network may hold blocks that it does not run, such as the last stages of an encoder under a shallow decoder. They
    are left out of the default places.

    Raises:
        ValueError: the model does not run a place that the user named, or any default place.
    """
    found, stopped = record_channels(model, {place.host: place.before for place in places}, trial.inputs)
    running = [place for place in places if stopped or place.host in found]
    dead = next((place for place in places if place not in running), None)
    if dead is not None and not (trial.by_default and running):
        raise ValueError(f"{dead.host!r}: no forward pass reaches it; attention there would be dead")
    return running, found, stopped


def declared_channels(module: nn.Module | None, before: bool) -> int | None:
    """Return the channels that a module for maps (B, C, H, W) declares for its input or output, None if it does not."""
    if isinstance(module, nn.Sequential) and len(module):
        return declared_channels(module[0 if before else -1], before)
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        return module.in_channels if before else module.out_channels
    return module.num_features if isinstance(module, nn.BatchNorm2d) else None


def insertion_step(model: nn.Module, place: InsertionPoint, name: str, module: nn.Module, attaches: str) -> Step:
    """Return the step that puts a mechanism into a slot or a Sequential, or wraps any other module."""
    end, before = place.host, place.before

    def step() -> InsertedModule:
        host = get_module(model, end)
        if host is None or is_idle(host):
            set_module(model, end, module)
            return inserted_module(model, end, end, "empty slot" if host is None else "idle slot", module)
        key = free_name(host, name)
        path = f"{end}.{key}"
        if takes_child(host):
            paths = [f"{end}.{child}" for child in host._modules]
            earlier = 0 if attaches == "before" else len([*takewhile(lambda path: path in ours(model), paths)])
            add_child(host, key, module, earlier if before else len(paths))
            return inserted_module(model, path, end, "child", module)
        pair: list[tuple[str, nn.Module]] = [("host", host), (key, module)]
        set_module(model, end, Attached(OrderedDict(pair[::-1] if before else pair)))
        return inserted_module(model, path, end, "wrap", module, moved=((f"{end}.", f"{end}.host."),))

    return step


def is_idle(module: nn.Module) -> bool:
    """Return True for an identity without hooks or attributes of its own, which a new one can replace later."""
    return type(module) is nn.Identity and {**vars(module), "training": True} == vars(nn.Identity())


def inserted_module(
    model: nn.Module, path: str, host: str, form: str, module: nn.Module, **more: Any
) -> InsertedModule:
    """Return the record of a mechanism that was inserted."""
    own = tuple(plain_name(model, f"{path}.{name}") for name in module.state_dict())
    return InsertedModule(path, host, form, own, **more)


def free_name(host: nn.Module, name: str) -> str:
    """Return a name for a child that is not yet an attribute of the host, nor of a wrapper of it."""
    short = name.rpartition(".")[2].lower()
    names = (short, *(f"{short}_{count}" for count in range(2, 100)))
    return next(key for key in names if key != "host" and not hasattr(host, key))


def add_child(host: nn.Module, key: str, module: nn.Module, index: int) -> None:
    """Insert a child of a Sequential at an index."""
    later = [*host._modules][index:]
    host._modules[key] = module  # add_module of a wrapper adds to its host
    for name in later:
        host._modules[name] = host._modules.pop(name)


def plan_replacements(model: nn.Module, paths: list[str], name: str, build: Build, trial: Trial) -> dict[str, Step]:
    """Return, by path, the steps that replace convolutions with their norm and activation."""
    for path in paths:
        within = next((other for other in paths if path.startswith(f"{other}.")), None)
        if within is not None:
            raise ValueError(f"at: {path!r} lies within {within!r}; {name} can replace only one of them")
    sites = {path: sequence_at(model, path) for path in paths}
    places = [InsertionPoint(path, sites[path][0], before=True) for path in paths]
    places = one_at_each_slot(model, places, instead=True)
    steps = {place.path: replacement_step(model, place.path, sites[place.path], name, build) for place in places}
    return {place.path: steps[place.path] for place in running_places(model, places, trial)[0]}


def sequence_at(model: nn.Module, path: str) -> list[str]:
    """Return the paths of the convolution, norm and activation of a block, or the path of another module."""
    host, path = unwrapped(model.get_submodule(path)), outermost(model, path)
    block = known_block(host) or KnownBlock("", ("",))
    if not block.convolution:
        raise ValueError(f"{path!r}: a {type(host).__name__} has no sequence of convolution, norm and activation")
    within = [path_within(host, attribute) for attribute in block.convolution]
    return [f"{path}.{attribute}" if attribute else path for attribute in within]


def replacement_step(model: nn.Module, path: str, sites: list[str], name: str, build: Build) -> Step:
    """Return the step that makes the convolution, norm and activation at `sites` the first branch of a mechanism."""
    block = known_block(unwrapped(model.get_submodule(path)))
    parts = [model.get_submodule(site) for site in sites]
    conv, act = convolution_and_activation(parts, path, name)
    keys = ("conv", "norm", "act")[: len(parts)]
    first = parts[0] if len(parts) == 1 else nn.Sequential(OrderedDict(zip(keys, parts, strict=True)))
    groups = {"groups": conv.groups} if conv.groups > 1 else {}
    module = build(
        path,
        conv.in_channels,
        out_channels=conv.out_channels,
        stride=conv.stride[0],
        first=first,
        act=lambda: copy.deepcopy(act),
        **groups,
    )
    check_sizes(module, conv, path, name)
    into = f"{sites[0]}.branches.0."
    moved = (
        [(f"{sites[0]}.", into)]
        if len(parts) == 1
        else [(f"{s}.", f"{into}{k}.") for s, k in zip(sites, keys, strict=True)]
    )
    left = tuple(sites[1:2] if block and block.shared else sites[1:])
    own = tuple(
        plain_name(model, f"{sites[0]}.{key}") for key in module.state_dict() if not key.startswith("branches.0.")
    )

    def step() -> InsertedModule:
        set_module(model, sites[0], module)
        for site in left:
            set_module(model, site, nn.Identity())
        return InsertedModule(sites[0], sites[0], "instead", own, tuple(moved), left)

    return step


MENTIONED = 5  # layers listed in an error message at most


def convolution_and_activation(parts: list[nn.Module], path: str, name: str) -> tuple[nn.Conv2d, nn.Module]:
    """Return the convolution and the activation of a sequence that must contain just these and a norm between them.

    Raises:
        ValueError: another sequence.
    """
    modules = [module for part in parts for module in part.modules() if not isinstance(module, nn.Identity)]
    steps = [module for module in modules if not [*module.children()] or [*module.parameters(recurse=False)]]
    conv = steps[0]
    if isinstance(conv, nn.Conv2d) and max(conv.kernel_size) > 1 and len(steps) in (2, 3):
        last = steps[2] if len(steps) == 3 else nn.Identity()
        if hasattr(steps[1], "num_features") and not isinstance(last, nn.Conv2d):
            return conv, last
    raise ValueError(
        f"{path!r}: {name} replaces one convolution with its norm and activation, not a "
        f"{type(parts[0]).__name__} of {', '.join(type(step).__name__ for step in steps[:MENTIONED])}"
        f"{' and more' if len(steps) > MENTIONED else ''}"
    )


@torch.no_grad()
def check_sizes(module: nn.Module, conv: nn.Conv2d, path: str, name: str) -> None:
    """Raise ValueError if the branches' maps differ in size, as after an unpadded convolution."""
    image = torch.zeros(1, conv.in_channels, 9, 9, device=conv.weight.device, dtype=conv.weight.dtype)
    with eval_mode(module):
        sizes = [tuple(branch(image).shape[2:]) for branch in module.get_submodule("branches").children()]
    if len(set(sizes)) > 1:
        raise ValueError(f"{name} at {path!r}: its branches would give maps of {sizes[0]} and {sizes[1]} for 9x9")


def remove(model: nn.Module, module: InsertedModule) -> None:
    """Remove an inserted mechanism and restore what was there."""
    if module.form == "empty slot":
        set_module(model, module.host, None)
    elif module.form == "idle slot":
        set_module(model, module.host, nn.Identity().train(model.get_submodule(module.host).training))
    elif module.form == "child":
        del model.get_submodule(module.host)._modules[module.path.rpartition(".")[2]]
    elif module.form == "wrap":
        set_module(model, module.host, model.get_submodule(f"{module.host}.host"))
    else:
        first = model.get_submodule(f"{module.path}.branches.0")
        parts = [first] if len(module.moved) == 1 else [*first.children()]
        for site, part in zip((module.path, *module.left), parts, strict=False):
            set_module(model, site, part)
