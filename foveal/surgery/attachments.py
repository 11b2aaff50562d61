"""What stands where in an attached model, and the names that its weights have in the plain one."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class InsertedModule:
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
    at: tuple[str, ...]  # paths in the model as it then was, "input" or "residual"
    position: str
    identity: bool  # it began as the identity, because it was asked to or because its paper begins so
    options: dict[str, Any]
    modules: tuple[InsertedModule, ...]


def attachments(model: nn.Module) -> list[Attachment]:
    """What `attach` did to a model, in order."""
    return getattr(model, "attachments", [])


def set_attachments(model: nn.Module, made: list[Attachment]) -> None:
    """Kept on the model, as plain facts, so that copies and pickles have them."""
    model.__dict__["attachments"] = made


def plain_name(model: nn.Module, key: str) -> str:
    """The name that a weight of an attached model has in the plain model; that of an attention's weight stays."""
    for attachment in reversed(attachments(model)):
        for module in reversed(attachment.modules):
            for plain, present in module.moved:
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
    by_plain = {plain_name(model, key): key for key in present}
    for plain, key in by_plain.items():
        if plain != key and prefix + key not in state_dict and prefix + plain in state_dict:
            state_dict[prefix + key] = state_dict.pop(prefix + plain)
    held = {plain for plain, key in by_plain.items() if prefix + key in state_dict}
    for plain in missing_parameters(model, held, identity=True):
        state_dict[prefix + by_plain[plain]] = present[by_plain[plain]]


def missing_parameters(model: nn.Module, held: Container[str], *, identity: bool) -> set[str]:
    """The plain names of weights of attentions of which `held` has none: all, or those that began as the identity."""
    return {
        name
        for attachment in attachments(model)
        for module in attachment.modules
        if (attachment.identity or not identity) and not any(name in held for name in module.own)
        for name in module.own
    }
