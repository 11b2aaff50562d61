"""The modules of somebody's network beside which a mechanism stands, and the wrapper that holds both."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from torch import nn

from foveal.mechanisms import CBAM, SpatialGate, SqueezeExcite
from foveal.places import known_block, path_within
from foveal.standing import attachments
from foveal.switching import may_overwrite

MAKERS = (nn.Conv2d, nn.BatchNorm2d)  # what they give out is a map of its own, that they keep no hold of
OVERWRITERS = (SqueezeExcite, CBAM, SpatialGate)  # just these: a class derived from one may do more in its forward


class Attached(nn.Sequential):
    """A module of somebody's model and a mechanism, run in order.

    The module gets whatever its caller gives, and its attributes are read and set through this one.
    """

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

    def __setattr__(self, name: str, value: Any) -> None:
        modules = self.__dict__.get("_modules", {})
        own = name in self.__dict__ or name in modules or hasattr(type(self), name)
        if own or not hasattr(modules.get("host"), name):
            super().__setattr__(name, value)
        else:
            setattr(modules["host"], name, value)

    def forward(self, input: Any, *args: Any, **kwargs: Any) -> Any:  # `input` as Sequential names it
        maker: nn.Module | None = None  # of the map at hand, where it is one of its own
        module: Any
        for name, module in self._modules.items():
            if maker is not None and type(module) in OVERWRITERS and may_overwrite(input, maker, module):
                input = module.overwrite(input)
            else:
                input = module(input, *args, **kwargs) if name == "host" else module(input)
                maker = module if type(module) in MAKERS else None
        return input


@dataclass(frozen=True)
class Site:
    """Beside which module a mechanism stands."""

    path: str  # that was asked for
    host: str  # the module there
    before: bool = False


NO_SITE = {"pre": "no one layer that begins its branch alone", "identity": "no module on its shortcut alone"}


def site_at(model: nn.Module, path: str, attaches: str, position: str) -> Site:
    """The place that a path means: in a known block its end or another position, else after the module itself."""
    if attaches == "before":
        return Site(path, outermost(model, path), before=True)
    inner = path
    while isinstance(model.get_submodule(inner), Attached):
        inner += ".host"
    module = model.get_submodule(inner)
    block = known_block(module)
    if block is None and position != "standard":
        raise ValueError(f"position={position!r}: {path!r}, a {type(module).__name__}, is no known block")
    if block is None:
        return Site(path, outermost(model, path))
    site = block.site(position)
    if site is None:
        raise ValueError(f"position={position!r}: {path!r}, a {type(module).__name__}, has {NO_SITE[position]}")
    within, before = path_within(module, site[0]), site[1]
    host = outermost(model, f"{inner}.{within}" if within else inner)
    return Site(path, host, before and host not in ours(model))  # what fills a slot already comes first


def ours(model: nn.Module) -> set[str]:
    """The paths of the mechanisms that stand in a network."""
    return {standing.path for attachment in attachments(model) for standing in attachment.standing}


def outermost(model: nn.Module, path: str) -> str:
    """The wrapper in which a module already stands, or the module itself."""
    while path.endswith(".host") and isinstance(model.get_submodule(path.removesuffix(".host")), Attached):
        path = path.removesuffix(".host")
    return path


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
