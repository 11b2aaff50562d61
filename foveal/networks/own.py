"""Networks of the caller: a function, `package.module:function`, that returns an `nn.Module`, with attention attached.

The function is called with `num_classes` and `in_chans`, and with `pretrained=True` where that is set, as far as its
signature takes them. It must return a new network each time, which answers with one logit for each class, (B, K).
"""

import inspect
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from foveal.core.answers import described, read_answers, run_model
from foveal.core.functions import Function, Functions, import_function, names_function
from foveal.core.names import one_line
from foveal.data.parts import Data
from foveal.mechanisms.registry import MECHANISMS
from foveal.networks.factory import create_model
from foveal.networks.options import check_options
from foveal.networks.spec import named_options, parse_mechanism
from foveal.surgery.attach import attach
from foveal.surgery.attachments import attachments

OPTIONS = ("num_classes", "in_chans")
TRIED = 2  # images


def create_for(data: Data, network: str, functions: Functions, pretrained: bool = False) -> nn.Module:
    """Create a network for the images and classes of a data set, in training mode.

    Args:
        data: The data.
        network: A name for `foveal.create_model`, or that of a function, alone or with attention.
        functions: The caller's functions by name; another one is imported.
        pretrained: As for `foveal.create_model`; a function is called with it.

    Raises:
        ValueError: As for `foveal.create_model`; a function that fails, returns no new network of at least one weight,
            or one that does not answer the data's images with a logit for each class.
    """
    name, *rest = network.split("+")
    options = {"num_classes": len(data.classes), "in_chans": data.shape[0]}
    if not names_function(name):
        return create_model(network, pretrained, **options)
    model = build_own(name, functions.get(name) or import_function(name), options, data.shape, pretrained)
    for mechanism, own in map(parse_mechanism, rest):
        check_options(mechanism, own, named_options(mechanism))
        at = "input" if MECHANISMS[mechanism].attaches == "before" else None
        attach(model, mechanism, **{"at": at, "identity": pretrained, **own})
    check_outputs(network, model, data)
    return model


def build_own(
    name: str, function: Function, options: dict[str, Any], shape: Sequence[int] | None = None, pretrained: bool = False
) -> nn.Module:
    """Build the network of a function; its checkpoints will state the function's name and the options.

    Args:
        name: Of the function.
        function: The function.
        options: `num_classes` and `in_chans`.
        shape: C, H, W of the images, which the network's `pretrained_cfg` then states, if it has none.
        pretrained: Call the function with `pretrained=True`.

    Raises:
        ValueError: The function fails, does not take `pretrained`, or returns no new network of at least one weight.
    """
    try:
        taken = taken_options(function, {**options, "pretrained": True} if pretrained else options)
        model = function(**taken)
    except Exception as error:  # any exception: it is the caller's function
        raise ValueError(f"network {name!r}: the function fails, {type(error).__name__}: {one_line(error)}") from error
    if pretrained and "pretrained" not in taken:
        raise ValueError(f"network {name!r}: pretrained=True, and the function takes no argument of this name")
    if not isinstance(model, nn.Module):
        raise ValueError(f"network {name!r}: the function returns a {type(model).__name__}; an nn.Module is needed")
    if not any(weight.requires_grad for weight in model.parameters()):
        raise ValueError(f"network {name!r}: no weight of it can be trained")
    if vars(model).get("made_as", {}).get("backbone") == name:
        raise ValueError(f"network {name!r}: the function returns one network twice; a new one is needed each time")
    model.__dict__["made_as"] = {"backbone": name, "options": options, "attached": len(attachments(model))}
    if shape is not None and not hasattr(model, "pretrained_cfg"):
        model.__dict__["pretrained_cfg"] = {"input_size": tuple(shape)}  # for the trial passes of `attach`
    return model.train()


def taken_options(function: Function, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a function takes, by name or in `**options`; the usual three channels by name alone."""
    parameters = inspect.signature(function).parameters
    others = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    return {
        name: value
        for name, value in options.items()
        if name in parameters or (others and (name, value) != ("in_chans", 3))
    }


def check_outputs(name: str, model: nn.Module, data: Data) -> None:
    """Check on two validation images that a network answers with one logit for each class, in both modes.

    The network and the random stream stay as they are. In training mode, a network with a method `loss` may answer with
    more.

    Raises:
        ValueError: It does not.
    """
    count, where = len(data.classes), f"network {name!r}, on images of the data"
    images, _ = data.validation.__getitems__([index % len(data.validation) for index in range(TRIED)])
    prepared = data.preprocessing.normalize(images)
    for training in (False, True):
        if training and hasattr(model, "loss"):
            return
        with torch.random.fork_rng(devices=[]):
            out = run_model(deepcopy(model).cpu().train(training), prepared, where)
        if not isinstance(out, Tensor) or out.shape != (TRIED, count):
            raise ValueError(
                f"{where}: it answers {described(out)}; one logit for each of {count} classes, "
                f"{(TRIED, count)}, is needed"
            )
        try:
            read_answers(out, TRIED)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
