"""Attach: put a mechanism into a model that exists, in place, and take it out again.

Four forms, each seen in `print(model)`:

- slot: a free slot of a block (timm's `se`) is filled;
- child: a Sequential gets one more child;
- wrap: any other module goes into an `Attached`, which runs it and the mechanism in order;
- instead: a convolution with its norm and activation becomes the first branch of the mechanism.

The last two move names of weights. A load hook on the model accepts the plain names all the same, `plain_state_dict`
gives them, and `detach` restores them.

(A hook on a BatchNorm, or a change of its class, would keep the names, and lose the attention in silence under
BatchNorm folding, freezing and SyncBatchNorm conversion.)
"""

import copy
import inspect
from collections import OrderedDict
from collections.abc import Callable
from itertools import takewhile
from typing import Any

import torch
from torch import nn

from foveal.fast import slow_down, speed_up
from foveal.hosts import Attached, Site, ours, outermost, peek, plug, site_at
from foveal.inputs import check_model
from foveal.mechanisms import MECHANISMS, short_name
from foveal.naming import unknown
from foveal.places import POSITIONS, At, Block, between_stages, default_paths, known_block, matching_paths, path_within
from foveal.shapes import entrance, evaluating, observe
from foveal.standing import Attachment, Standing, accept_plain_names, attachments, plain_name, remember
from foveal.tracing import residual_ends


def attach(
    model: nn.Module,
    mechanism: str | type[nn.Module],
    at: At | None = None,
    *,
    position: str = "standard",
    identity: bool = True,
    **options: Any,
) -> nn.Module:
    """Put a mechanism into a model, in place.

    Args:
        model: any model on images; the blocks that are known are listed in `foveal.places`.
        mechanism: a name from `foveal.list_mechanisms()`, or a class of modules that takes the channel count first.
        at: where: a pattern over module paths (`*` stays within a dot, `**` does not), a list of them, or a predicate
            of path and module; "input" is the image itself, for a mechanism that stands before a module; "residual"
            the end of every residual branch, found by `foveal.tracing`. A path that is a known block means the end of
            its branch. Left out: every known block; every stage but the last for a mechanism that stands between
            stages.
        position: where in a known block (Hu et al., 2020, fig. 5): "standard" is the end of its branch, "pre" before
            the branch, "post" after the whole block, "identity" on the shortcut.
        identity: the model's answer does not change until it is trained (in training mode but for rounding, where a
            block then runs its faster form, see `foveal.fast`); False is the paper's own start, which for gc, nl and
            stn is the identity, too. A class of your own keeps this promise if it takes `identity`. A hard crop cannot
            keep it: the network sees other pixels from the first, and the `Attachment` says so.
        options: for the mechanism, as `reduction=8`.

    Returns:
        The same model; `foveal.attachments(model)` says what stands where.

    Raises:
        TypeError: `model` is no module, `mechanism` neither a name nor a class of modules.
        ValueError: nothing matches `at`, or something twice; a place that no forward pass reaches, or where no map
            (B, C, H, W) flows; a block without such a position; the mechanism cannot stand there. The model is then as
            it was.
    """
    check_model(model)
    made, name = resolve(mechanism)
    attaches = getattr(made, "attaches", "after")
    check_position(position, name, attaches, at)
    paths = wanted_paths(model, name, attaches, at)
    takes_identity = "identity" in inspect.signature(made).parameters
    given = {**options, "identity": identity} if takes_identity else options
    build = builder(model, made, name, given)
    if attaches == "instead":
        plan = instead(model, paths, name, build)
    elif at == "residual":
        plan = beside(model, [Site(path, outermost(model, path)) for path in paths], name, attaches, build)
    else:
        plan = beside(model, [site_at(model, path, attaches, position) for path in paths], name, attaches, build)
    standing = tuple(put() for put in plan)
    if not hasattr(model, "attachments"):
        model.register_load_state_dict_pre_hook(accept_plain_names)
    where = (at,) if at in ("input", "residual") else tuple(paths)
    unchanged = getattr(made, "starts_as_identity", False) or (identity and takes_identity)
    remember(model, [*attachments(model), Attachment(name, where, position, unchanged, options, standing)])
    return speed_up(model)


def resolve(mechanism: str | type[nn.Module]) -> tuple[type[nn.Module], str]:
    """A mechanism's class and its name: the short one, or for a class of somebody's own its full one."""
    if isinstance(mechanism, str):
        name = short_name(mechanism)
        return MECHANISMS[name], name
    if not (isinstance(mechanism, type) and issubclass(mechanism, nn.Module)):
        raise TypeError(f"mechanism={mechanism!r}: a name, or a class of modules, is needed")
    known = {made: name for name, made in MECHANISMS.items()}
    return mechanism, known.get(mechanism, f"{mechanism.__module__}.{mechanism.__qualname__}")


STANDS = {
    "after": "after a module of the network",
    "before": "before a module of the network",
    "between": "between the stages of the network",
    "instead": "instead of a convolution of the network",
    "network": "only in a network of its own",
}


def check_position(position: str, name: str, attaches: str, at: At | None) -> None:
    if position not in POSITIONS:
        raise unknown("position", position, POSITIONS)
    if position != "standard" and attaches != "after":
        raise ValueError(f"position={position!r}: {name} stands {STANDS[attaches]}")
    if position != "standard" and at == "residual":
        raise ValueError(f"position={position!r}: at='residual' finds the ends of branches alone")


def wanted_paths(model: nn.Module, name: str, attaches: str, at: At | None) -> list[str]:
    if attaches == "network":
        raise ValueError(f"{name} stands only in a network of its own; foveal.list_models() names the networks")
    if at in ("input", "residual"):
        if attaches != ("before" if at == "input" else "after"):
            raise ValueError(f"at={at!r}: {name} stands {STANDS[attaches]}")
        return [entrance(model)] if at == "input" else residual_ends(model)
    if at is not None:
        return matching_paths(model, at)
    if attaches == "before":
        raise ValueError(f"{name} has no default place: at='input', or the path of the module that it stands before")
    return between_stages(model) if attaches == "between" else default_paths(model, stages=attaches == "after")


Build = Callable[..., nn.Module]
Put = Callable[[], Standing]


def builder(model: nn.Module, made: type[nn.Module], name: str, options: dict[str, Any]) -> Build:
    """Makes the mechanism for a place and its channels, on the model's device, in its precision and mode."""
    like = next((weight for weight in model.parameters() if weight.is_floating_point()), torch.empty(0))

    def build(path: str, channels: int, **host_options: Any) -> nn.Module:
        try:
            with torch.device(like.device):
                return made(channels, **{**host_options, **options}).to(like.dtype).train(model.training)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{name} at {path!r}: {error}") from error

    return build


def beside(model: nn.Module, places: list[Site], name: str, attaches: str, build: Build) -> list[Put]:
    """After or before a module: the steps to take, each mechanism built for the channels that flow there."""
    hosts = {place.host: place.before for place in places}
    twice = next((place for place in places if [other.host for other in places].count(place.host) > 1), None)
    if twice is not None:
        raise ValueError(f"at: {twice.host!r}, where {twice.path!r} ends, is meant twice")
    empty = [host for host in hosts if peek(model, host) is None]
    for slot in empty:
        plug(model, slot, nn.Identity())  # so that what flows there can be observed
    try:
        flows = observe(model, hosts)
        built = {place: build(place.path, channels_at(place.path, flows[place.host])) for place in places}
    except Exception:
        for slot in empty:
            plug(model, slot, None)
        raise
    deepest_first = sorted(built.items(), key=lambda item: -item[0].host.count("."))
    return [put_beside(model, place, name, made, attaches, place.host in empty) for place, made in deepest_first]


def channels_at(path: str, shape: tuple[int, ...]) -> int:
    channels_stand_last = len(shape) == 4 and shape[1] == shape[2] != shape[3]  # the image was square
    if len(shape) != 4 or channels_stand_last:
        tokens = "; a transformer's tokens have no default place" if len(shape) == 3 else ""
        raise ValueError(f"{path!r}: what flows there is {shape}, not a map (B, C, H, W){tokens}")
    return shape[1]


def put_beside(model: nn.Module, place: Site, name: str, module: nn.Module, attaches: str, empty: bool) -> Put:
    """The step that puts a mechanism into a slot, a Sequential, or around any other module."""
    end, before = place.host, place.before

    def put() -> Standing:
        host = model.get_submodule(end)
        if type(host) is nn.Identity:
            plug(model, end, module)
            return standing_at(model, end, end, "empty slot" if empty else "idle slot", module)
        key = free_name(host, name)
        path = f"{end}.{key}"
        if isinstance(host, nn.Sequential) and type(host).forward in (nn.Sequential.forward, Attached.forward):
            paths = [f"{end}.{child}" for child in host._modules]
            earlier = 0 if attaches == "before" else len([*takewhile(lambda path: path in ours(model), paths)])
            add_child(host, key, module, earlier if before else len(paths))
            return standing_at(model, path, end, "child", module)
        pair: list[tuple[str, nn.Module]] = [("host", host), (key, module)]
        plug(model, end, Attached(OrderedDict(pair[::-1] if before else pair)))
        return standing_at(model, path, end, "wrap", module, moved=((f"{end}.", f"{end}.host."),))

    return put


def standing_at(model: nn.Module, path: str, host: str, form: str, module: nn.Module, **more: Any) -> Standing:
    own = tuple(plain_name(model, f"{path}.{name}") for name in module.state_dict())
    return Standing(path, host, form, own, **more)


def free_name(host: nn.Module, name: str) -> str:
    """A name for a child of the host, or of a wrapper of it, that means nothing there yet."""
    short = name.rpartition(".")[2].lower()
    names = (short, *(f"{short}_{count}" for count in range(2, 100)))
    return next(key for key in names if key != "host" and not hasattr(host, key))


def add_child(host: nn.Sequential, key: str, module: nn.Module, index: int) -> None:
    children = [*host._modules.items()]
    host.add_module(key, module)
    host._modules = OrderedDict([*children[:index], (key, module), *children[index:]])


def instead(model: nn.Module, paths: list[str], name: str, build: Build) -> list[Put]:
    """Instead of convolutions with norm and activation: the steps to take."""
    for path in paths:
        within = next((other for other in paths if path.startswith(f"{other}.")), None)
        if within is not None:
            raise ValueError(f"at: {path!r} lies within {within!r}; {name} can stand instead of one of them")
    return [put_instead(model, path, name, build) for path in paths]


def put_instead(model: nn.Module, path: str, name: str, build: Build) -> Put:
    """The step that makes a convolution with norm and activation the first branch of a mechanism."""
    host = model.get_submodule(path)
    block = known_block(host) or Block("", ("",))
    if not block.convolution:
        raise ValueError(f"{path!r}: a {type(host).__name__} has no sequence of convolution, norm and activation")
    within = [path_within(host, attribute) for attribute in block.convolution]
    sites = [f"{path}.{attribute}" if attribute else path for attribute in within]
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
    left = tuple(sites[1:2] if block.shared else sites[1:])
    own = tuple(
        plain_name(model, f"{sites[0]}.{key}") for key in module.state_dict() if not key.startswith("branches.0.")
    )

    def put() -> Standing:
        plug(model, sites[0], module)
        for site in left:
            plug(model, site, nn.Identity())
        return Standing(sites[0], sites[0], "instead", own, tuple(moved), left)

    return put


MENTIONED = 5  # layers in an error's line


def convolution_and_activation(parts: list[nn.Module], path: str, name: str) -> tuple[nn.Conv2d, nn.Module]:
    """The convolution and the activation of a sequence that must hold just these and a norm between them."""
    modules = [module for part in parts for module in part.modules() if not isinstance(module, nn.Identity)]
    steps = [module for module in modules if not [*module.children()] or [*module.parameters(recurse=False)]]
    conv = steps[0]
    if isinstance(conv, nn.Conv2d) and max(conv.kernel_size) > 1 and len(steps) in (2, 3):
        last = steps[2] if len(steps) == 3 else nn.Identity()
        if hasattr(steps[1], "num_features") and not isinstance(last, nn.Conv2d):
            return conv, last
    raise ValueError(
        f"{path!r}: {name} stands instead of one convolution with its norm and activation, not a "
        f"{type(parts[0]).__name__} of {', '.join(type(step).__name__ for step in steps[:MENTIONED])}"
        f"{' and more' if len(steps) > MENTIONED else ''}"
    )


@torch.no_grad()
def check_sizes(module: nn.Module, conv: nn.Conv2d, path: str, name: str) -> None:
    """The branches' maps must be of one size; an unpadded convolution's are not."""
    image = torch.zeros(1, conv.in_channels, 9, 9, device=conv.weight.device, dtype=conv.weight.dtype)
    with evaluating(module):
        sizes = [tuple(branch(image).shape[2:]) for branch in module.get_submodule("branches").children()]
    if len(set(sizes)) > 1:
        raise ValueError(f"{name} at {path!r}: its branches would give maps of {sizes[0]} and {sizes[1]} for 9x9")


def detach(model: nn.Module) -> nn.Module:
    """Take out again all that was attached, last first: the plain model, under its own names.

    Raises:
        ValueError: nothing is attached.
    """
    if not attachments(model):
        raise ValueError(f"nothing is attached to this {type(model).__name__}")
    slow_down(model)
    for attachment in reversed(attachments(model)):
        for standing in reversed(attachment.standing):
            take_out(model, standing)
    remember(model, [])
    return model


def take_out(model: nn.Module, standing: Standing) -> None:
    if standing.form == "empty slot":
        plug(model, standing.host, None)
    elif standing.form == "idle slot":
        plug(model, standing.host, nn.Identity())
    elif standing.form == "child":
        del model.get_submodule(standing.host)._modules[standing.path.rpartition(".")[2]]
    elif standing.form == "wrap":
        plug(model, standing.host, model.get_submodule(f"{standing.host}.host"))
    else:
        first = model.get_submodule(f"{standing.path}.branches.0")
        parts = [first] if len(standing.moved) == 1 else [*first.children()]
        for site, part in zip((standing.path, *standing.left), parts, strict=False):
            plug(model, site, part)
