"""Attachments of a model: what is attached where, and the names of the weights in the plain model."""

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class InsertedModule:
    """One attached mechanism. Names of weights are plain ones: those of a model without wrappers.

    Attributes:
        path: path of the mechanism.
        host: path of the module beside which, or instead of which, it is attached.
        form: "empty slot", "idle slot", "child", "wrap" or "instead".
        own: names of its own weights.
        moved: pairs of a plain prefix of the host's weights and the present one.
        left: paths where the host's norm and activation were.
    """

    path: str
    host: str
    form: str
    own: tuple[str, ...]
    moved: tuple[tuple[str, str], ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attachment:
    """One call of `attach`, with all that is needed to repeat it and to undo it.

    Attributes:
        mechanism: name of the mechanism.
        at: paths in the model at the time of the call; ("input",) or ("residual",).
        position: position in known blocks.
        identity: True if it started as the identity, by the argument or by its paper's own initialization.
        options: options of the mechanism.
        modules: the attached mechanisms.
    """

    mechanism: str
    at: tuple[str, ...]
    position: str
    identity: bool
    options: dict[str, Any]
    modules: tuple[InsertedModule, ...]


def attachments(model: nn.Module) -> list[Attachment]:
    """List the attachments of a model, in order.

    Args:
        model (nn.Module): any model.

    Returns:
        list[Attachment]: one for each call of `attach`; empty for a plain model.

    >>> import foveal
    >>> model = foveal.attach(foveal.create_model("small_cnn", num_classes=10, in_chans=1), "se")
    >>> [attachment] = foveal.attachments(model)
    >>> attachment.mechanism, [module.path for module in attachment.modules]
    ('se', ['features.0.attention', 'features.2.attention', 'features.3.attention'])
    """
    return getattr(model, "attachments", [])


def set_attachments(model: nn.Module, records: list[Attachment]) -> None:
    """Store the attachments on the model, as plain data, so that copies and pickles keep them.

    While there are any, load hooks accept and report plain names, and timm's `group_matcher` groups by them. With an
    empty list nothing of all that stays.
    """
    before, after = model._load_state_dict_pre_hooks, model._load_state_dict_post_hooks
    if records and not attachments(model):
        model.register_load_state_dict_pre_hook(accept_plain_names)
        model.register_load_state_dict_post_hook(report_plain_names)
        if hasattr(type(model), "group_matcher"):
            model.__dict__["group_matcher"] = partial(group_matcher, model)
    model.__dict__["attachments"] = records
    if not records:
        del model.__dict__["attachments"]
        model.__dict__.pop("group_matcher", None)
        for hooks in (before, after):
            for key, hook in [*hooks.items()]:
                if getattr(hook, "hook", hook) in (accept_plain_names, report_plain_names):
                    del hooks[key]


def group_matcher(model: Any, coarse: bool = False) -> Callable[[str], float]:
    """Return timm's layer groups of the plain model, as a function from a name to a group.

    The weights of a mechanism are in the group of the module that it is attached to, or, if that has no weights, of the
    weight before it.
    """
    from timm.models._manipulate import group_with_matcher

    own = {name: module.host for each in attachments(model) for module in each.modules for name in module.own}
    names = [plain_name(model, name) for name, _ in model.named_parameters()]
    plain = [name for name in names if name not in own]
    groups: dict[str, float] = group_with_matcher(
        [(name, name) for name in plain], type(model).group_matcher(model, coarse), reverse=True
    )
    nearest = plain[0]
    for name in names:
        nearest = name if name in groups and name not in own else nearest
        if name in own:
            groups[name] = groups[first_within(plain, own[name]) or nearest]

    def group_of(name: str) -> float:
        path = plain_name(model, name)
        within = path if path in groups else first_within(groups, path)
        return groups[within] if within else float("inf")

    return group_of


def first_within(names: Iterable[str], path: str) -> str | None:
    """Return the first name of a weight within a module."""
    return next((name for name in names if name.startswith(f"{path}.")), None)


def plain_name(model: nn.Module, key: str) -> str:
    """Return the name that a weight has in the plain model; names of a mechanism's own weights stay."""
    for attachment in reversed(attachments(model)):
        for module in reversed(attachment.modules):
            for plain, present in module.moved:
                if key.startswith(present):
                    key = plain + key.removeprefix(present)
    return key


def plain_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict under plain names; names of a mechanism's own weights stay."""
    return {plain_name(model, key): value for key, value in model.state_dict().items()}


def accept_plain_names(model: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Load hook that accepts plain names too, and keeps an attached identity that the checkpoint does not contain.

    A mechanism that started as the identity keeps its weights if the checkpoint has none of them. A checkpoint with
    some weights of a mechanism must contain all of them, as usual.
    """
    present = model.state_dict()
    by_plain = {plain_name(model, key): key for key in present}
    for plain, key in by_plain.items():
        if plain != key and prefix + key not in state_dict and prefix + plain in state_dict:
            state_dict[prefix + key] = state_dict.pop(prefix + plain)
    names = {plain for plain, key in by_plain.items() if prefix + key in state_dict}
    for plain in missing_parameters(model, names):
        state_dict[prefix + by_plain[plain]] = present[by_plain[plain]]


def report_plain_names(model: nn.Module, incompatible: Any) -> None:
    """Load hook that gives missing and unexpected weights their plain names."""
    for keys in incompatible:
        keys[:] = [plain_name(model, key) for key in keys]


def missing_parameters(model: nn.Module, names: Container[str]) -> set[str]:
    """Return the plain names of the weights of mechanisms that started as the identity, where `names` has none."""
    return {
        name
        for attachment in attachments(model)
        for module in attachment.modules
        if attachment.identity and not any(name in names for name in module.own)
        for name in module.own
    }
