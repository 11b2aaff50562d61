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

import inspect
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foveal.mechanisms import MECHANISMS, short_name
from foveal.places import At, Block, default_paths, known_block, matching_paths
from foveal.shapes import first_convolution, observe


@dataclass(frozen=True)
class Standing:
    """One mechanism where it stands. Names of weights are plain ones: those of a model without wrappers."""

    path: str  # of the mechanism
    host: str  # of what it stands beside, or instead of
    form: str
    own: tuple[str, ...]  # names of its own weights
    moved: tuple[tuple[str, str], ...] = ()  # plain prefix of the host's weights to the present one
    left: tuple[str, ...] = ()  # paths where the host's norm and activation were


@dataclass(frozen=True)
class Attachment:
    """One call of `attach`: enough to make it again, and to undo it."""

    mechanism: str
    at: tuple[str, ...]  # paths in the plain model, or "input"
    identity: bool
    options: dict[str, Any]
    standing: tuple[Standing, ...]


class Attached(nn.Sequential):
    """A module of somebody's model and a mechanism, run in order; other attributes are the module's own."""

    def __init__(self, parts: OrderedDict[str, nn.Module]):
        super().__init__()
        self._modules.update(parts)  # add_module would refuse a name that the host has, too

    def __getattr__(self, name: str) -> Any:
        modules = self.__dict__.get("_modules", {})
        if name in modules:
            return modules[name]
        if "host" not in modules:
            raise AttributeError(name)
        return getattr(modules["host"], name)


def attach(
    model: nn.Module, mechanism: str | type[nn.Module], at: At | None = None, *, identity: bool = True, **options: Any
) -> nn.Module:
    """Put a mechanism into a model, in place.

    Args:
        model: any model on images; the blocks that are known are listed in `foveal.places`.
        mechanism: a name from `foveal.list_mechanisms()`, or a class of modules that takes the channel count first.
        at: where: a pattern over module paths (`*` stays within a dot, `**` does not), a list of them, or a predicate
            of path and module; "input" is the image itself, for a mechanism that stands before a module. A path that
            is a known block means the end of its branch. Left out: every known block.
        identity: the model's answer does not change until it is trained; False is the paper's own start.
        options: for the mechanism, as `reduction=8`.

    Returns:
        The same model; `foveal.attachments(model)` says what stands where.

    Raises:
        ValueError: nothing matches `at`, or something twice; a place that no forward pass reaches, or where no map
            (B, C, H, W) flows; the mechanism cannot stand there. The model is then as it was.
    """
    made, name = resolve(mechanism)
    attaches = getattr(made, "attaches", "after")
    paths = wanted_paths(model, name, attaches, at)
    given = dict(options)
    if "identity" in inspect.signature(made).parameters:
        given["identity"] = identity
    build = builder(model, made, name, given)
    if attaches == "instead":
        plan = [replacing(model, path, name, build) for path in paths]
    else:
        plan = beside(model, paths, name, attaches, build)
    standing = tuple(put() for put in plan)
    earlier = attachments(model)
    if not earlier:
        model.register_load_state_dict_pre_hook(accept_plain_names)
    where = ("input",) if at == "input" else tuple(paths)
    remember(model, [*earlier, Attachment(name, where, identity, options, standing)])
    return model


def attachments(model: nn.Module) -> list[Attachment]:
    """What `attach` did to a model, in order."""
    return getattr(model, "attachments", [])


def remember(model: nn.Module, made: list[Attachment]) -> None:
    """Kept on the model, as plain facts, so that copies and pickles have them."""
    model.__dict__["attachments"] = made


def resolve(mechanism: str | type[nn.Module]) -> tuple[type[nn.Module], str]:
    """A mechanism's class and short name."""
    if isinstance(mechanism, str):
        name = short_name(mechanism)
        return MECHANISMS[name], name
    if not (isinstance(mechanism, type) and issubclass(mechanism, nn.Module)):
        raise TypeError(f"mechanism={mechanism!r}: a name, or a class of modules, is needed")
    known = {made: name for name, made in MECHANISMS.items()}
    return mechanism, known.get(mechanism, mechanism.__name__.lower())


def wanted_paths(model: nn.Module, name: str, attaches: str, at: At | None) -> list[str]:
    if at == "input":
        first = first_convolution(model)
        if attaches != "before" or first is None:
            raise ValueError(f"at='input': {name} stands {attaches} a module of the network")
        return [first[0]]
    if at is not None:
        return matching_paths(model, at)
    if attaches == "before":
        raise ValueError(f"{name} has no default place: at='input', or the path of the module that it stands before")
    return default_paths(model)


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


def beside(model: nn.Module, paths: list[str], name: str, attaches: str, build: Build) -> list[Put]:
    """After or before a module: the steps to take, each mechanism built for the channels that flow there."""
    ends = {path: end_of(model, path) if attaches == "after" else path for path in paths}
    empty = [end for end in ends.values() if peek(model, end) is None]
    for slot in empty:
        plug(model, slot, nn.Identity())  # so that what flows there can be observed
    try:
        flows = observe(model, ends.values())
        channels = {path: channels_at(path, flows.get(end), attaches) for path, end in ends.items()}
        built = {path: build(path, count) for path, count in channels.items()}
    except Exception:
        for slot in empty:
            plug(model, slot, None)
        raise
    return [put_beside(model, end, name, built[path], attaches, end in empty) for path, end in ends.items()]


def end_of(model: nn.Module, path: str) -> str:
    """The path after which a mechanism stands: the end of a known block's branch, or the module itself."""
    block = known_block(model.get_submodule(path))
    return f"{path}.{block.end}" if block and block.end else path


def channels_at(path: str, flow: tuple[tuple[int, ...], tuple[int, ...]] | None, attaches: str) -> int:
    if flow is None:
        raise ValueError(f"{path!r}: no forward pass reaches it with a single tensor; attention there would be dead")
    shape = flow[0] if attaches == "before" else flow[1]
    channels_stand_last = len(shape) == 4 and shape[1] == shape[2] != shape[3]  # the images were square
    if len(shape) != 4 or channels_stand_last:
        raise ValueError(f"{path!r}: what flows there is {shape}, not a map (B, C, H, W)")
    return shape[1]


def put_beside(model: nn.Module, end: str, name: str, module: nn.Module, attaches: str, empty: bool) -> Put:
    """The step that puts a mechanism into a slot, a Sequential, or around any other module."""

    def put() -> Standing:
        host = model.get_submodule(end)
        if attaches == "after" and type(host) is nn.Identity:
            plug(model, end, module)
            return standing_at(end, end, "empty slot" if empty else "idle slot", module)
        key = free_name(host, name)
        path = f"{end}.{key}"
        if isinstance(host, nn.Sequential) and type(host) in (nn.Sequential, Attached):
            add_child(host, key, module, first=attaches == "before")
            return standing_at(path, end, "child", module)
        pair: list[tuple[str, nn.Module]] = [("host", host), (key, module)]
        plug(model, end, Attached(OrderedDict(pair[::-1] if attaches == "before" else pair)))
        return standing_at(path, end, "wrap", module, moved=((f"{end}.", f"{end}.host."),))

    return put


def standing_at(path: str, host: str, form: str, module: nn.Module, **more: Any) -> Standing:
    return Standing(path, host, form, tuple(f"{path}.{own}" for own in module.state_dict()), **more)


def free_name(host: nn.Module, name: str) -> str:
    """A name for a child of the host, or of a wrapper of it, that means nothing there yet."""
    names = (name, *(f"{name}_{count}" for count in range(2, 100)))
    return next(key for key in names if not hasattr(host, key))


def add_child(host: nn.Sequential, key: str, module: nn.Module, first: bool) -> None:
    host.add_module(key, module)
    if first:
        host._modules = OrderedDict([(key, module), *((k, m) for k, m in host._modules.items() if k != key)])


def replacing(model: nn.Module, path: str, name: str, build: Build) -> Put:
    """Instead of a convolution with norm and activation, which become the mechanism's first branch."""
    host = model.get_submodule(path)
    block = known_block(host) or Block("", ("",))
    if not block.convolution:
        raise ValueError(f"{path!r}: a {type(host).__name__} has no sequence of convolution, norm and activation")
    sites = [f"{path}.{attribute}" if attribute else path for attribute in block.convolution]
    parts = [model.get_submodule(site) for site in sites]
    convolutions = [m for m in parts[0].modules() if isinstance(m, nn.Conv2d) and max(m.kernel_size) > 1]
    if len(convolutions) != 1 or (len(parts) == 1 and isinstance(parts[0], nn.Conv2d)):
        raise ValueError(
            f"{path!r}: {name} stands instead of one convolution with its norm and activation, not a "
            f"{type(parts[0]).__name__}"
        )
    conv = convolutions[0]
    first = (
        parts[0] if len(parts) == 1 else nn.Sequential(OrderedDict(zip(("conv", "norm", "act"), parts, strict=False)))
    )
    groups = {"groups": conv.groups} if conv.groups > 1 else {}
    module = build(
        path,
        conv.in_channels,
        out_channels=conv.out_channels,
        stride=conv.stride[0],
        first=first,
        act=activation(parts),
        **groups,
    )
    keys = [""] if len(parts) == 1 else ["conv.", "norm."]
    moved = tuple((f"{site}.", f"{sites[0]}.branches.0.{key}") for site, key in zip(sites, keys, strict=False))
    left = tuple(sites[1:2] if block.shared else sites[1:])
    own = tuple(f"{sites[0]}.{key}" for key in module.state_dict() if not key.startswith("branches.0."))

    def put() -> Standing:
        plug(model, sites[0], module)
        for site in left:
            plug(model, site, nn.Identity())
        return Standing(sites[0], sites[0], "instead", own, moved, left)

    return put


def activation(parts: list[nn.Module]) -> type[nn.Module]:
    """The activation that ends a sequence of convolution, norm and activation; some norms hold it."""
    for module in reversed([module for part in parts for module in part.modules()]):
        if not isinstance(module, nn.Identity) and not [*module.children()] and not [*module.parameters()]:
            return type(module)
    return nn.Identity


def detach(model: nn.Module) -> nn.Module:
    """Take out again all that was attached, last first: the plain model, under its own names.

    Raises:
        ValueError: nothing is attached.
    """
    if not attachments(model):
        raise ValueError(f"nothing is attached to this {type(model).__name__}")
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


def plain_name(model: nn.Module, key: str) -> str:
    """The name that a weight of an attached model has in the plain model; that of an attention's weight stays."""
    for attachment in reversed(attachments(model)):
        for standing in reversed(attachment.standing):
            for plain, present in standing.moved:
                if key.startswith(present):
                    key = plain + key.removeprefix(present)
    return key


def plain_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The state dict under plain names; the attention's weights keep theirs."""
    return {plain_name(model, key): value for key, value in model.state_dict().items()}


def accept_plain_names(model: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Load hook: plain names serve as well; a checkpoint without an attention that started as the identity leaves it.

    A checkpoint that holds some of an attention's weights must hold them all, as ever.
    """
    present = model.state_dict()
    for key in present:
        plain = plain_name(model, key)
        if plain != key and prefix + key not in state_dict and prefix + plain in state_dict:
            state_dict[prefix + key] = state_dict.pop(prefix + plain)
    by_plain = {plain_name(model, key): key for key in present}
    for attachment in attachments(model):
        for standing in attachment.standing if attachment.identity else ():
            own = [by_plain[name] for name in standing.own]
            if not any(prefix + key in state_dict for key in own):
                state_dict.update({prefix + key: present[key] for key in own})


def peek(model: nn.Module, path: str) -> nn.Module | None:
    """The module at a path, or None in an empty slot."""
    parent, _, name = path.rpartition(".")
    return getattr(model.get_submodule(parent), name)


def plug(model: nn.Module, path: str, module: nn.Module | None) -> None:
    """Put a module into a path."""
    parent, _, name = path.rpartition(".")
    owner = model.get_submodule(parent)
    if module is None and name in owner._modules:
        delattr(owner, name)
    setattr(owner, name, module)
