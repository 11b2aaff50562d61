"""Search by name for the places of a model that compute attention weights, and for those that cannot be recorded.

A place is a Tap of this package, or a module of a class in `foveal.inspection.third_party` or of a class that the user
names; `foveal.inspection.finding.find` adds what a trial pass shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from foveal.core.names import class_names
from foveal.core.record import Facts, Tap
from foveal.core.validation import check_model
from foveal.inspection.functional_hooks import FUNCTIONALS
from foveal.inspection.module_paths import unwrapped_modules
from foveal.inspection.third_party import LOOKS_LIKE_ATTENTION, TABLE, UNRECORDABLE, TapSpec, custom_spec
from foveal.mechanisms.catalog import list_mechanisms

Extra = Mapping[str | type, tuple[str, str]]  # class to the child that outputs the weights, and their kind

BY_CLASS = "by its class"
FAST_PATH = (
    "nn.TransformerEncoderLayer leaves its fast path if a hook is attached, and its output changes; "
    "call torch.backends.mha.set_fastpath_enabled(False) to record it"
)


@dataclass(frozen=True, eq=False)
class TapPoint:
    """Place that computes attention weights; `spec` is None for a Tap, `calls` the largest number in a trial pass."""

    path: str
    module: nn.Module
    facts: Facts
    spec: TapSpec | None = None
    how: str = BY_CLASS
    calls: int = 0


def named_places(model: nn.Module, extra: Extra | None = None) -> tuple[dict[str, TapPoint], dict[str, str]]:
    """Return the places of known classes by path, and why others cannot be recorded, both in the model's order.

    Prefixes added by DistributedDataParallel (first) and `torch.compile` (anywhere) are removed from paths. Several
    Taps of one owner are distinguished by their own names.

    Raises:
        TypeError: `model` is not a module.
        ValueError: `extra` names a class that the model does not contain, or a child that the class does not have.
    """
    check_model(model)
    custom = dict(custom_spec(cls, *row) for cls, row in (extra or {}).items())
    modules = unwrapped_modules(model)
    owners = [path.rpartition(".")[0] for path, module in modules.items() if isinstance(module, Tap)]
    found, unseen = {}, {}
    for path, module in modules.items():
        if isinstance(module, Tap):
            owner = path.rpartition(".")[0]
            shown_at = path if owners.count(owner) > 1 else owner
            found[shown_at] = TapPoint(shown_at, module, module.facts)
            continue
        rows, reason = known(module, custom)
        if rows and in_encoder_fast_path(modules, path):
            unseen[path] = FAST_PATH
        elif reason:
            unseen[path] = reason
        for spec in rows if path not in unseen else ():
            shown_at = f"{path}.{spec.name}".strip(".")
            found[shown_at] = TapPoint(shown_at, module, spec.facts, spec)
    check_extra(custom, found, modules)
    return found, unseen


def path_by_mechanism(path: str, mechanisms: Mapping[str, str]) -> str | None:
    """Return the path meant by one that ends with the mechanism's name instead of its slot's, such as `layer4.1.cbam`.

    Args:
        path: as the user typed it.
        mechanisms: long name of the mechanism at each path with weights.

    Returns:
        The path, or None if no place matches.
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
    """Return the rows of a module's class, or of its nearest base class in a table, and why it cannot be recorded."""
    for name in class_names(module):
        if name in own or name in TABLE:
            rows = own.get(name) or TABLE[name]
            return tuple(row for row in rows if not row.requires or getattr(module, row.requires) is not None), ""
        if name in UNRECORDABLE:
            return (), UNRECORDABLE[name]
    return (), ""


def in_encoder_fast_path(modules: Mapping[str, nn.Module], path: str) -> bool:
    """Return True if the module belongs to an encoder layer with an enabled fast path."""
    parent = modules.get(path.rpartition(".")[0])
    return isinstance(parent, nn.TransformerEncoderLayer) and torch.backends.mha.get_fastpath_enabled()


def check_extra(
    own: Mapping[str, tuple[TapSpec, ...]], found: Mapping[str, TapPoint], modules: Mapping[str, nn.Module]
) -> None:
    """Raise ValueError if `extra` names a class or a child that does not exist."""
    for name, (spec,) in own.items():
        places = [place for place in found.values() if place.spec is spec]
        if not places:
            raise ValueError(f"extra: the model has no module of the class {name!r}")
        children = [path for path, _ in places[0].module.named_modules()]
        if spec.module_or_op not in (*children, *FUNCTIONALS):
            raise ValueError(
                f"extra: {name} has no child {spec.module_or_op!r}; it has {', '.join(children[1:])}, or use "
                f"{' or '.join(map(repr, FUNCTIONALS))} for a functional called in its forward"
            )


def looks_like_attention(modules: Mapping[str, nn.Module], listed: list[str]) -> dict[str, nn.Module]:
    """Return modules named like attention, neither within nor around a listed place, without others within them."""
    unknown: dict[str, nn.Module] = {}
    for path, module in reversed(list(modules.items())):  # children before their parents
        if not path or not LOOKS_LIKE_ATTENTION.search(type(module).__name__):
            continue
        around = any(other == path or other.startswith(f"{path}.") for other in (*listed, *unknown))
        inside = any(path.startswith(f"{other}.") for other in listed)
        if not around and not inside:
            unknown[path] = module
    return dict(reversed(list(unknown.items())))
