"""Finding the places of a model where attention weights pass by, and naming those that cannot be seen.

A place is a Tap of ours, or a module of a class in `foveal.inspection.third_party` or of a class that the user names.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from foveal.core.names import class_names
from foveal.core.record import Facts, Tap
from foveal.core.validation import check_model
from foveal.inspection.functional_hooks import FUNCTIONALS
from foveal.inspection.third_party import LOOKS_LIKE_ATTENTION, TABLE, UNRECORDABLE, TapSpec, custom_spec
from foveal.mechanisms.catalog import list_mechanisms

Extra = Mapping[str | type, tuple[str, str]]  # a class, the child whose output its weights are, their kind

FAST_PATH = (
    "nn.TransformerEncoderLayer leaves its fast path where a hook stands, and its answer changes; "
    "torch.backends.mha.set_fastpath_enabled(False) shows it"
)


@dataclass(frozen=True, eq=False)
class TapPoint:
    """Where attention weights pass by."""

    path: str
    module: nn.Module
    facts: Facts
    spec: TapSpec | None = None  # None for a Tap


def find_tap_points(model: nn.Module, extra: Extra | None = None) -> tuple[dict[str, TapPoint], dict[str, str]]:
    """The places of a model by path, and those that cannot be seen with the reason, both in the model's order.

    What DistributedDataParallel (first) and `torch.compile` (anywhere) put into paths is left out. An owner of several
    Taps is told apart by their own names.

    Raises:
        TypeError: `model` is no module.
        ValueError: `extra` names a class that the model has not, or a child that the class has not.
    """
    check_model(model)
    own = dict(custom_spec(cls, *row) for cls, row in (extra or {}).items())
    modules = unwrapped_modules(model)
    owners = [path.rpartition(".")[0] for path, module in modules.items() if isinstance(module, Tap)]
    found, unseen = {}, {}
    for path, module in modules.items():
        if isinstance(module, Tap):
            owner = path.rpartition(".")[0]
            shown_at = path if owners.count(owner) > 1 else owner
            found[shown_at] = TapPoint(shown_at, module, module.facts)
            continue
        rows, reason = known(module, own)
        if rows and in_encoder_fast_path(modules, path):
            unseen[path] = FAST_PATH
        elif reason:
            unseen[path] = reason
        for spec in rows if path not in unseen else ():
            shown_at = f"{path}.{spec.name}".strip(".")
            found[shown_at] = TapPoint(shown_at, module, spec.facts, spec)
    check_extra(own, found, modules)
    return found, unseen | unrecognized_attention(modules, [*found, *unseen])


def unwrapped_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Modules by their paths without what wrappers put into them."""
    wrapped = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
    split = [(path.split(".")[wrapped:], module) for path, module in model.named_modules()]
    return {".".join(name for name in names if name != "_orig_mod"): module for names, module in split}


def path_by_mechanism(path: str, mechanisms: Mapping[str, str]) -> str | None:
    """Find the path that is meant where the mechanism's name is given instead of its slot's: `layer4.1.cbam`.

    Args:
        path: as somebody typed it.
        mechanisms: long name of the mechanism of each path that shows weights.
    """
    short = {each.long_name: each.name for each in list_mechanisms()}
    for known_path, mechanism in mechanisms.items():
        owner, _, part = known_path.rpartition(".")
        for slot, rest in ((known_path, ""), (owner, f".{part}")):
            for name in {mechanism, short.get(mechanism, mechanism)} if slot else ():
                named = f"{slot.rpartition('.')[0]}.{name}".strip(".")
                if path in (named, named + rest):
                    return slot if path == named else known_path
    return None


def known(module: nn.Module, own: Mapping[str, tuple[TapSpec, ...]]) -> tuple[tuple[TapSpec, ...], str]:
    """The rows of a module's class, or of the nearest class above it that has some; or why it cannot be seen."""
    for name in class_names(module):
        if name in own or name in TABLE:
            rows = own.get(name) or TABLE[name]
            return tuple(row for row in rows if not row.requires or getattr(module, row.requires) is not None), ""
        if name in UNRECORDABLE:
            return (), UNRECORDABLE[name]
    return (), ""


def in_encoder_fast_path(modules: Mapping[str, nn.Module], path: str) -> bool:
    parent = modules.get(path.rpartition(".")[0])
    return isinstance(parent, nn.TransformerEncoderLayer) and torch.backends.mha.get_fastpath_enabled()


def check_extra(
    own: Mapping[str, tuple[TapSpec, ...]], found: Mapping[str, TapPoint], modules: Mapping[str, nn.Module]
) -> None:
    for name, (spec,) in own.items():
        places = [place for place in found.values() if place.spec is spec]
        if not places:
            raise ValueError(f"extra: the model has no module of the class {name!r}")
        children = [path for path, _ in places[0].module.named_modules()]
        if spec.module_or_op not in (*children, *FUNCTIONALS):
            raise ValueError(
                f"extra: {name} has no child {spec.module_or_op!r}; it has {', '.join(children[1:])}, or say "
                f"{' or '.join(map(repr, FUNCTIONALS))} for one called in its forward"
            )


def unrecognized_attention(modules: Mapping[str, nn.Module], told: list[str]) -> dict[str, str]:
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
