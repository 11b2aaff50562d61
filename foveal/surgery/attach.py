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
from typing import Any

import torch
from torch import nn

from foveal.core.names import lookup, unknown_name_error
from foveal.core.trial_pass import find_input_module
from foveal.core.validation import check_model
from foveal.mechanisms.registry import MECHANISMS, short_name
from foveal.surgery.attachments import Attachment, accept_plain_names, attachments, set_attachments
from foveal.surgery.blocks import POSITIONS
from foveal.surgery.fused.fused_blocks import restore_blocks, use_fused_blocks
from foveal.surgery.insertion import Build, plan_insertions, plan_replacements, remove
from foveal.surgery.insertion_points import InsertionPoint, insertion_point, outermost
from foveal.surgery.placement import At, between_stages, default_paths, matching_paths
from foveal.surgery.residual import residual_ends


def attach(
    model: nn.Module,
    mechanism: str | type[nn.Module],
    at: At | None = None,
    *,
    position: str = "standard",
    identity: bool = True,
    **options: Any,
) -> nn.Module:
    """Put a mechanism into a model, in place.

    Args:
        model: any model on images; the blocks that are known are listed in `foveal.surgery.blocks`.
        mechanism: a name from `foveal.list_mechanisms()`, or a class of modules that takes the channel count first.
        at: where: a pattern over module paths (`*` stays within a dot, `**` does not), a list of them, or a predicate
            of path and module; "input" is the image itself, for a mechanism that stands before a module; "residual"
            the end of every residual branch, found by `foveal.surgery.residual`. A path that is a known block means the
            end of its branch. Left out: every known block; every stage but the last for a mechanism that stands between
            stages.
        position: where in a known block (Hu et al., 2020, fig. 5): "standard" is the end of its branch, "pre" before
            the branch, "post" after the whole block, "identity" on the shortcut.
        identity: the model's answer does not change until it is trained (in training mode but for rounding, where a
            block then runs its faster form, see `foveal.surgery.fused.fused_blocks`); False is the paper's own start,
            which for gc, nl and stn is the identity, too. A class of your own keeps this promise if it takes
            `identity`. A hard crop cannot keep it: the network sees other pixels from the first, and the `Attachment`
                says so.
        options: for the mechanism, as `reduction=8`.

    Returns:
        The same model; `foveal.attachments(model)` says what stands where.

    Raises:
        TypeError: `model` is no module, `mechanism` neither a name nor a class of modules.
        ValueError: nothing matches `at`, or something twice; a place that no forward pass reaches, or where no map
            (B, C, H, W) flows; a block without such a position; the mechanism cannot stand there. The model is then as
            it was.
    """
    check_model(model)
    made, name = resolve(mechanism)
    attaches = getattr(made, "attaches", "after")
    check_position(position, name, attaches, at)
    paths = wanted_paths(model, name, attaches, at)
    check_options(made, name, options)
    takes_identity = "identity" in inspect.signature(made).parameters
    given = {**options, "identity": identity} if takes_identity else options
    build = builder(model, made, name, given)
    if attaches == "instead":
        plan = plan_replacements(model, paths, name, build)
    elif at == "residual":
        plan = plan_insertions(
            model, [InsertionPoint(path, outermost(model, path)) for path in paths], name, attaches, build
        )
    else:
        plan = plan_insertions(
            model, [insertion_point(model, path, attaches, position) for path in paths], name, attaches, build
        )
    modules = tuple(step() for step in plan)
    if not hasattr(model, "attachments"):
        model.register_load_state_dict_pre_hook(accept_plain_names)
    requested = (at,) if at in ("input", "residual") else tuple(paths)
    unchanged = getattr(made, "starts_as_identity", False) or (identity and takes_identity)
    set_attachments(model, [*attachments(model), Attachment(name, requested, position, unchanged, options, modules)])
    return use_fused_blocks(model)


def resolve(mechanism: str | type[nn.Module]) -> tuple[type[nn.Module], str]:
    """A mechanism's class and its name: the short one, or for a class of somebody's own its full one."""
    if isinstance(mechanism, str):
        name = short_name(mechanism)
        return MECHANISMS[name], name
    if not (isinstance(mechanism, type) and issubclass(mechanism, nn.Module)):
        raise TypeError(f"mechanism={mechanism!r}: a name, or a class of modules, is needed")
    known = {made: name for name, made in MECHANISMS.items()}
    return mechanism, known.get(mechanism, f"{mechanism.__module__}.{mechanism.__qualname__}")


STANDS = {
    "after": "after a module of the network",
    "before": "before a module of the network",
    "between": "between the stages of the network",
    "instead": "instead of a convolution of the network",
    "network": "only in a network of its own",
}


def check_options(mechanism: type[nn.Module], name: str, options: dict[str, Any]) -> None:
    """Refuse an option that the mechanism does not have, with the nearest one."""
    parameters = list(inspect.signature(mechanism).parameters.values())[1:]
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return
    for option in options:
        lookup(f"option of {name}", option, {each.name: each for each in parameters if each.name != "identity"})


def check_position(position: str, name: str, attaches: str, at: At | None) -> None:
    if position not in POSITIONS:
        raise unknown_name_error("position", position, POSITIONS)
    if position != "standard" and attaches != "after":
        raise ValueError(f"position={position!r}: {name} stands {STANDS[attaches]}")
    if position != "standard" and at == "residual":
        raise ValueError(f"position={position!r}: at='residual' finds the ends of branches alone")


def wanted_paths(model: nn.Module, name: str, attaches: str, at: At | None) -> list[str]:
    if attaches == "network":
        raise ValueError(f"{name} stands only in a network of its own; foveal.list_models() names the networks")
    if at in ("input", "residual"):
        if attaches != ("before" if at == "input" else "after"):
            raise ValueError(f"at={at!r}: {name} stands {STANDS[attaches]}")
        return [find_input_module(model)] if at == "input" else residual_ends(model)
    if at is not None:
        return matching_paths(model, at)
    if attaches == "before":
        raise ValueError(f"{name} has no default place: at='input', or the path of the module that it stands before")
    return between_stages(model) if attaches == "between" else default_paths(model, stages=attaches == "after")


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


def detach(model: nn.Module) -> nn.Module:
    """Take out again all that was attached, last first: the plain model, under its own names.

    Raises:
        ValueError: nothing is attached.
    """
    if not attachments(model):
        raise ValueError(f"nothing is attached to this {type(model).__name__}")
    restore_blocks(model)
    for attachment in reversed(attachments(model)):
        for module in reversed(attachment.modules):
            remove(model, module)
    set_attachments(model, [])
    return model
