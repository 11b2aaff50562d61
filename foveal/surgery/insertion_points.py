"""The modules of somebody's network beside which a mechanism stands, and the wrapper that holds both."""

from dataclasses import dataclass

from torch import nn

from foveal.surgery.attachments import attachments
from foveal.surgery.blocks import known_block, path_within
from foveal.surgery.wrapper import Attached


@dataclass(frozen=True)
class InsertionPoint:
    """Beside which module a mechanism stands."""

    path: str  # that was asked for
    host: str  # the module there
    before: bool = False


NO_INSERTION_POINT = {"pre": "no one layer that begins its branch alone", "identity": "no module on its shortcut alone"}


def insertion_point(model: nn.Module, path: str, attaches: str, position: str) -> InsertionPoint:
    """The place that a path means: in a known block its end or another position, else after the module itself."""
    if attaches == "before":
        return InsertionPoint(path, outermost(model, path), before=True)
    inner = path
    while isinstance(model.get_submodule(inner), Attached):
        inner += ".host"
    module = model.get_submodule(inner)
    block = known_block(module)
    if block is None and position != "standard":
        raise ValueError(f"position={position!r}: {path!r}, a {type(module).__name__}, is no known block")
    if block is None:
        return InsertionPoint(path, outermost(model, path))
    found = block.insertion(position)
    if found is None:
        raise ValueError(
            f"position={position!r}: {path!r}, a {type(module).__name__}, has {NO_INSERTION_POINT[position]}"
        )
    within, before = path_within(module, found[0]), found[1]
    host = outermost(model, f"{inner}.{within}" if within else inner)
    return InsertionPoint(path, host, before and host not in ours(model))  # what fills a slot already comes first


def ours(model: nn.Module) -> set[str]:
    """The paths of the mechanisms that stand in a network."""
    return {module.path for attachment in attachments(model) for module in attachment.modules}


def outermost(model: nn.Module, path: str) -> str:
    """The wrapper in which a module already stands, or the module itself."""
    while path.endswith(".host") and isinstance(model.get_submodule(path.removesuffix(".host")), Attached):
        path = path.removesuffix(".host")
    return path


def get_module(model: nn.Module, path: str) -> nn.Module | None:
    """The module at a path, or None in an empty slot."""
    parent, _, name = path.rpartition(".")
    return getattr(model.get_submodule(parent), name)


def set_module(model: nn.Module, path: str, module: nn.Module | None) -> None:
    """Put a module into a path."""
    parent, _, name = path.rpartition(".")
    owner = model.get_submodule(parent)
    if module is None and name in owner._modules:
        delattr(owner, name)
    setattr(owner, name, module)
