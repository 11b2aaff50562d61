"""Finding the places of a model where attention weights pass by, and naming those that cannot be seen.

A place is a Tap of ours, or a module of a class in `foveal.foreign` or of a class that the user names.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from foveal.foreign import LOOKS_LIKE_ATTENTION, TABLE, UNSEEN, Shown, class_names, of_ones_own
from foveal.functionals import FUNCTIONALS
from foveal.inputs import check_model
from foveal.record import Facts, Tap

Extra = Mapping[str | type, tuple[str, str]]  # a class, the child whose output its weights are, their kind

FAST_PATH = (
    "nn.TransformerEncoderLayer leaves its fast path where a hook stands, and its answer changes; "
    "torch.backends.mha.set_fastpath_enabled(False) shows it"
)


@dataclass(frozen=True, eq=False)
class Place:
    """Where attention weights pass by."""

    where: str
    module: nn.Module
    facts: Facts
    shown: Shown | None = None  # None for a Tap


def find_places(model: nn.Module, extra: Extra | None = None) -> tuple[dict[str, Place], dict[str, str]]:
    """The places of a model by path, and those that cannot be seen with the reason, both in the model's order.

    What DistributedDataParallel (first) and `torch.compile` (anywhere) put into paths is left out. An owner of several
    Taps is told apart by their own names.

    Raises:
        TypeError: `model` is no module.
        ValueError: `extra` names a class that the model has not, or a child that the class has not.
    """
    check_model(model)
    own = dict(of_ones_own(cls, *row) for cls, row in (extra or {}).items())
    modules = plain_paths(model)
    owners = [path.rpartition(".")[0] for path, module in modules.items() if isinstance(module, Tap)]
    found, unseen = {}, {}
    for path, module in modules.items():
        if isinstance(module, Tap):
            owner = path.rpartition(".")[0]
            where = path if owners.count(owner) > 1 else owner
            found[where] = Place(where, module, module.facts)
            continue
        rows, reason = known(module, own)
        if rows and within_fast_path(modules, path):
            unseen[path] = FAST_PATH
        elif reason:
            unseen[path] = reason
        for shown in rows if path not in unseen else ():
            where = f"{path}.{shown.name}".strip(".")
            found[where] = Place(where, module, shown.facts, shown)
    check_extra(own, found, modules)
    return found, unseen | unknown_classes(modules, [*found, *unseen])


def plain_paths(model: nn.Module) -> dict[str, nn.Module]:
    """Modules by their paths without what wrappers put into them."""
    wrapped = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
    split = [(path.split(".")[wrapped:], module) for path, module in model.named_modules()]
    return {".".join(name for name in names if name != "_orig_mod"): module for names, module in split}


def known(module: nn.Module, own: Mapping[str, tuple[Shown, ...]]) -> tuple[tuple[Shown, ...], str]:
    """The rows of a module's class, or of the nearest class above it that has some; or why it cannot be seen."""
    for name in class_names(module):
        if name in own or name in TABLE:
            rows = own.get(name) or TABLE[name]
            return tuple(row for row in rows if not row.needs or getattr(module, row.needs) is not None), ""
        if name in UNSEEN:
            return (), UNSEEN[name]
    return (), ""


def within_fast_path(modules: Mapping[str, nn.Module], path: str) -> bool:
    parent = modules.get(path.rpartition(".")[0])
    return isinstance(parent, nn.TransformerEncoderLayer) and torch.backends.mha.get_fastpath_enabled()


def check_extra(
    own: Mapping[str, tuple[Shown, ...]], found: Mapping[str, Place], modules: Mapping[str, nn.Module]
) -> None:
    for name, (shown,) in own.items():
        places = [place for place in found.values() if place.shown is shown]
        if not places:
            raise ValueError(f"extra: the model has no module of the class {name!r}")
        children = [path for path, _ in places[0].module.named_modules()]
        if shown.at not in (*children, *FUNCTIONALS):
            raise ValueError(
                f"extra: {name} has no child {shown.at!r}; it has {', '.join(children[1:])}, or say "
                f"{' or '.join(map(repr, FUNCTIONALS))} for one called in its forward"
            )


def unknown_classes(modules: Mapping[str, nn.Module], told: list[str]) -> dict[str, str]:
    """Modules with a name as attention has, of a class that no table knows, neither in nor around a known place."""
    unknown: dict[str, str] = {}
    for path, module in reversed(list(modules.items())):  # children before their parents
        name = type(module).__name__
        if not path or not LOOKS_LIKE_ATTENTION.search(name):
            continue
        around = any(other == path or other.startswith(f"{path}.") for other in (*told, *unknown))
        inside = any(path.startswith(f"{other}.") for other in told)
        if not around and not inside:
            unknown[path] = f"foveal does not know the class {name}; watch(model, extra=...) takes it"
    return dict(reversed(list(unknown.items())))
