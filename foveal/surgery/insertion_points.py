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


def module_paths(model: nn.Module) -> list[str]:
    """Return the paths of all modules: the first of each in the model's order, then others of those with several."""
    found = (*model.named_modules(), *model.named_modules(remove_duplicate=False))
    return [*dict.fromkeys(path for path, _ in found if path)]


def one_at_each_slot(model: nn.Module, places: list[InsertionPoint], *, instead: bool = False) -> list[InsertionPoint]:
    """Return the places without those that are another one under a further path, as in a block that runs twice.

    Args:
        model: the network.
        places: with paths of one module in several slots, each of which takes a mechanism of its own, and several paths
            of one slot, which takes one mechanism for all.
        instead: True if the modules are replaced, False if a mechanism is attached beside them.

    Raises:
        ValueError: of a slot with several paths the first is missing.
    """
    names: dict[int, str] = {}
    for path, module in model.named_modules():
        names.setdefault(id(module), path)
        names.setdefault(id(unwrapped(module)), path)

    def first_path(host: str) -> str:
        module = get_module(model, host)
        if not instead and takes_child(module):
            return names.get(id(module), host)
        parent, _, name = host.rpartition(".")
        return f"{names.get(id(unwrapped(model.get_submodule(parent))), parent)}.{name}".lstrip(".")

    first = {place.host: first_path(place.host) for place in places}
    for host, path in first.items():
        if path not in first:
            raise ValueError(
                f"at: {host!r} is {path!r} under a further path, one place in a module that the model holds several "
                f"times; attention there acts at all of its calls; name {path!r}"
            )
    return [place for place in places if first[place.host] == place.host]


def takes_child(module: nn.Module | None) -> bool:
    """Return True for a Sequential or a wrapper, which takes a mechanism as one more child."""
    return module is not None and type(module).forward in (nn.Sequential.forward, Attached.forward)


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
