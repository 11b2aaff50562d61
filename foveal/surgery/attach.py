"""Attach a mechanism to an existing model, in place, and detach it again.

There are four forms, each visible in `print(model)`:

- slot: an empty slot of a block (timm's `se`) is filled;
- child: a Sequential gets one more child;
- wrap: any other module is wrapped in an `Attached`, which runs it and the mechanism in order;
- instead: a convolution with its norm and activation becomes the first branch of the mechanism.

Only the last form changes names of weights: the old ones move into the branch. A load hook on the model accepts the
plain names too, `plain_state_dict` returns them, and `detach` restores them.

(A hook on a BatchNorm, or a change of its class, would keep the names, but BatchNorm folding, freezing and
SyncBatchNorm conversion would then remove the attention silently.)
"""

import inspect
from typing import Any

import torch
from torch import nn

from foveal.core.arguments import check_arguments
from foveal.core.names import lookup, unknown_name_error
from foveal.core.trial_pass import Inputs, arguments_of, find_input_module
from foveal.core.validation import check_model
from foveal.mechanisms.registry import MECHANISMS, short_name
from foveal.surgery.attachments import Attachment, attachments, set_attachments
from foveal.surgery.blocks import POSITIONS
from foveal.surgery.fused.fused_blocks import restore_blocks, use_fused_blocks
from foveal.surgery.insertion import Build, Trial, plan_insertions, plan_replacements, remove
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
    inputs: Inputs | None = None,
    **options: Any,
) -> nn.Module:
    """Attach a mechanism to a model, in place.

    A trial pass over a copy of the model finds the channels at each place; the model itself is not run.

    Args:
        model (nn.Module): any model on images; `foveal.surgery.blocks` lists the known blocks.
        mechanism (str or type[nn.Module]): a name from `foveal.list_mechanisms()`, or a module class with the
            number of channels as first argument.
        at (str, Iterable[str] or Callable[[str, nn.Module], bool], optional): where to attach: a pattern over module
            paths (`*` matches within one path component, `**` across components), a list of patterns, or a predicate of
            path and module. A module in several places is chosen in each, by the path that it has there; a place in a
            block that runs several times is named by its first path, and its attention acts in every run. "input" is
            the image itself, for a mechanism that is attached before a module; "residual" is the end of every residual
            branch, found by `foveal.surgery.residual`. The path of a known block means the end of its branch. Default:
            every known block that the model runs; for a mechanism attached between stages, every stage but the last.
        position (str): where in a known block (Hu et al., 2020, fig. 5): "standard" is the end of its branch, "pre"
            before the branch, "post" after the whole block, "identity" on the shortcut.
        identity (bool): keep the model's output unchanged until it is trained (in training mode up to rounding, where a
            block then runs its faster form, see `foveal.surgery.fused.fused_blocks`). False uses the paper's own
            initialization, which for gc, nl and stn is the identity, too. A class of your own supports this if it takes
            `identity`. A hard crop cannot start as the identity: the network sees other pixels from the first step, and
            the `Attachment` has `identity=False`.
        inputs (Tensor, list, tuple or dict, optional): what the model is called with in the trial pass: a tensor or a
            list of images as the first argument, a tuple of arguments, or a dict of keyword arguments. Default: images
            of the size that the model declares, or of common sizes.
        **options (Any): options of the mechanism, such as `reduction=8`.

    Returns:
        nn.Module: the same model; `foveal.attachments(model)` lists what is attached where.

    Raises:
        TypeError: `model` is not a module; `mechanism` is neither a name nor a module class; `inputs` contains no
            tensor.
        ValueError: an unknown name, option or position; nothing matches `at`, or something matches twice; no forward
            pass reaches a place, or no map (B, C, H, W) flows there; a block without such a position; the mechanism
            cannot be attached there; the model is in DistributedDataParallel or FSDP, which take it with its
            attachments. The model is then unchanged.

    >>> import foveal, torch
    >>> model = foveal.create_model("small_cnn", num_classes=10, in_chans=1).eval()
    >>> images = torch.rand(2, 1, 28, 28)
    >>> before = model(images)
    >>> model = foveal.attach(model, "se", reduction=8)
    >>> type(model.features[0].attention).__name__
    'SqueezeExcite'
    >>> torch.equal(model(images), before)
    True
    """
    check_model(model)
    check_not_distributed(model)
    check_arguments("attach", attach, {"identity": identity})
    cls, name = resolve(mechanism)
    attaches = getattr(cls, "attaches", "after")
    check_position(position, name, attaches, at)
    if inputs is not None:
        arguments_of(inputs)
    paths = wanted_paths(model, name, attaches, at, inputs)
    check_options(cls, name, options)
    takes_identity = "identity" in inspect.signature(cls).parameters
    arguments = {**options, "identity": identity} if takes_identity else options
    build, trial = builder(model, cls, name, arguments), Trial(inputs, by_default=at is None or at == "residual")
    if attaches == "instead":
        plan = plan_replacements(model, paths, name, build, trial)
    else:
        places = [
            InsertionPoint(path, outermost(model, path))
            if at == "residual"
            else insertion_point(model, path, attaches, position)
            for path in paths
        ]
        plan = plan_insertions(model, places, name, attaches, build, trial)
    modules = tuple(step() for step in plan.values())
    requested = (at,) if at in ("input", "residual") else tuple(path for path in paths if path in plan)
    unchanged = getattr(cls, "starts_as_identity", False) or (identity and takes_identity)
    set_attachments(model, [*attachments(model), Attachment(name, requested, position, unchanged, options, modules)])
    return use_fused_blocks(model)


def resolve(mechanism: str | type[nn.Module]) -> tuple[type[nn.Module], str]:
    """Return a mechanism's class and its name: the short name, or the full class name for a class of the user."""
    if isinstance(mechanism, str):
        name = short_name(mechanism)
        return MECHANISMS[name], name
    if not (isinstance(mechanism, type) and issubclass(mechanism, nn.Module)):
        raise TypeError(f"mechanism={mechanism!r}: a name of foveal.list_mechanisms() or a class of modules is needed")
    known = {cls: name for name, cls in MECHANISMS.items()}
    return mechanism, known.get(mechanism, f"{mechanism.__module__}.{mechanism.__qualname__}")


ATTACHES = {
    "after": "after a module of the network",
    "before": "before a module of the network",
    "between": "between the stages of the network",
    "instead": "instead of a convolution of the network",
    "network": "only in a network of its own",
}


DISTRIBUTED = ("torch.nn.parallel.distributed", "torch.distributed.fsdp")


def check_not_distributed(model: nn.Module) -> None:
    """Raise ValueError for a model in DistributedDataParallel or FSDP: they would not know of weights added later."""
    for module in model.modules():
        for cls in type(module).__mro__:
            if cls.__module__.startswith(DISTRIBUTED):
                raise ValueError(
                    f"model: its weights are distributed by {cls.__name__}; attach and detach the plain model, before"
                )


def check_options(mechanism: type[nn.Module], name: str, options: dict[str, Any]) -> None:
    """Raise ValueError for an option that the mechanism does not have, with the nearest one, or of another type."""
    parameters = list(inspect.signature(mechanism).parameters.values())[1:]
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return
    for option in options:
        lookup(f"option of {name}", option, {each.name: each for each in parameters if each.name != "identity"})
    if name in MECHANISMS:
        check_arguments(name, mechanism, options)


def check_position(position: str, name: str, attaches: str, at: At | None) -> None:
    """Raise ValueError for an unknown position, or one that does not fit the mechanism or `at`."""
    if position not in POSITIONS:
        raise unknown_name_error("position", position, POSITIONS)
    if position != "standard" and attaches != "after":
        raise ValueError(f"position={position!r}: {name} is attached {ATTACHES[attaches]}")
    if position != "standard" and at == "residual":
        raise ValueError(f"position={position!r}: at='residual' finds only the ends of branches")


def wanted_paths(model: nn.Module, name: str, attaches: str, at: At | None, inputs: Inputs | None) -> list[str]:
    """Return the module paths at which to attach."""
    if attaches == "network":
        raise ValueError(f"{name} works only in a network of its own; foveal.list_models() lists the networks")
    if at in ("input", "residual"):
        if attaches != ("before" if at == "input" else "after"):
            raise ValueError(f"at={at!r}: {name} is attached {ATTACHES[attaches]}")
        return [first_layer(model, find_input_module(model, inputs))] if at == "input" else residual_ends(model, inputs)
    if at is not None:
        return matching_paths(model, at)
    if attaches == "before":
        raise ValueError(f"{name} has no default place: at='input', or the path of the module to attach it before")
    return between_stages(model) if attaches == "between" else default_paths(model, stages=attaches == "after")


def first_layer(model: nn.Module, path: str) -> str:
    """Return the path of the first module within Sequentials, whose children then keep their numbers."""
    module = model.get_submodule(path)
    while type(module).forward is nn.Sequential.forward and module._modules:
        name = next(iter(module._modules))
        path, module = f"{path}.{name}", module.get_submodule(name)
    return path


def builder(model: nn.Module, cls: type[nn.Module], name: str, options: dict[str, Any]) -> Build:
    """Return a function that builds the mechanism for a path and channels, on the model's device, in its dtype."""
    like = next((weight for weight in model.parameters() if weight.is_floating_point()), torch.empty(0))

    def build(path: str, channels: int, **host_options: Any) -> nn.Module:
        try:
            with torch.device(like.device):
                return cls(channels, **{**host_options, **options}).to(like.dtype).train(model.training)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{name} at {path!r}: {error}") from error

    return build


def detach(model: nn.Module) -> nn.Module:
    """Detach everything that was attached, last first: restore the plain model and its names of weights.

    Args:
        model (nn.Module): a model with attachments.

    Returns:
        nn.Module: the same model.

    Raises:
        ValueError: nothing is attached; the model is in DistributedDataParallel or FSDP.

    >>> import foveal
    >>> model = foveal.attach(foveal.create_model("small_cnn", num_classes=10, in_chans=1), "se")
    >>> len(foveal.attachments(model))
    1
    >>> foveal.attachments(foveal.detach(model))
    []
    """
    check_not_distributed(model)
    if not attachments(model):
        raise ValueError(f"nothing is attached to this {type(model).__name__}")
    restore_blocks(model)
    for attachment in reversed(attachments(model)):
        for module in reversed(attachment.modules):
            remove(model, module)
    set_attachments(model, [])
    return model
