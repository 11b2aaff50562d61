"""Modules of a network at which a mechanism is attached, and access to modules by path."""

from dataclasses import dataclass

from torch import nn

from foveal.surgery.attachments import attachments
from foveal.surgery.blocks import known_block, path_within
from foveal.surgery.wrapper import Attached, unwrapped


@dataclass(frozen=True)
class InsertionPoint:
    """Module at which a mechanism is attached.

    Attributes:
        path: path given by the user.
        host: path of the module there.
        before: True to attach before the module.
    """

    path: str
    host: str
    before: bool = False


NO_INSERTION_POINT = {"pre": "no single first layer of its branch", "identity": "no module on its shortcut alone"}


def insertion_point(model: nn.Module, path: str, attaches: str, position: str) -> InsertionPoint:
    """Return the place that a path means: in a known block its end or another position, else after the module itself.

    Raises:
        ValueError: the block has no such position, or the module is not a known block.
    """
    outer = outermost(model, path)
    if attaches == "before":
        return InsertionPoint(path, outer, before=True)
    module = unwrapped(model.get_submodule(outer))
    block = known_block(module)
    if block is None and position != "standard":
        raise ValueError(f"position={position!r}: {path!r}, a {type(module).__name__}, is not a known block")
    if block is None:
        return InsertionPoint(path, outer)
    found = block.insertion(position)
    if found is None:
        raise ValueError(
            f"position={position!r}: {path!r}, a {type(module).__name__}, has {NO_INSERTION_POINT[position]}"
        )
    within, before = path_within(module, found[0]), found[1]
    host = f"{outer}.{within}" if within else outer
    return InsertionPoint(path, host, before and host not in ours(model))  # a mechanism already in a slot comes first


def ours(model: nn.Module) -> set[str]:
    """Return the paths of the mechanisms attached to a network."""
    return {module.path for attachment in attachments(model) for module in attachment.modules}


def outermost(model: nn.Module, path: str) -> str:
    """Return the path of the wrapper of a module, or of the module itself."""
    wrapper = path.removesuffix(".host")
    return wrapper if isinstance(model.get_submodule(wrapper), Attached) else path


def get_module(model: nn.Module, path: str) -> nn.Module | None:
    """Return the module at a path, or None in an empty slot."""
    parent, _, name = path.rpartition(".")
    return getattr(model.get_submodule(parent), name)


def set_module(model: nn.Module, path: str, module: nn.Module | None) -> None:
    """Set the module at a path."""
    parent, _, name = path.rpartition(".")
    owner = model.get_submodule(parent)
    if module is None and isinstance(getattr(owner, name), nn.Module):
        delattr(owner, name)  # an empty slot is no child
    setattr(owner, name, module)
