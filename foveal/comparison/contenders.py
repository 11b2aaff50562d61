"""Contenders of a comparison: their names, and the networks that they stand for.

A contender is `none`, the plain backbone; one mechanism or several with options, `sk:groups=8` or `stn+se`; a control,
`wider` or `deeper`; `:transformers=2`, the backbone with so many parallel transformers, where it has this option; or
any of these under another name, `twin=none`. Contenders of the same network are trained from different initial weights.
A control is the plain backbone widened or deepened to the parameter count of the most expensive contender;
`wider:match=macs` and `wider:match=ms` match MACs and milliseconds instead.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import torch

from foveal.core.functions import Functions, names_function
from foveal.core.names import lookup, slug
from foveal.data.parts import Data
from foveal.networks.match_cost import scale_to_cost
from foveal.networks.own import create_for
from foveal.profiling.costs import BATCH, count_macs, count_parameters
from foveal.profiling.timing import time_inference

CONTENDERS = ("none", "wider", "stn", "se", "sk:groups=8")
Control = Literal["wider", "deeper"]
CONTROLS: tuple[Control, ...] = ("wider", "deeper")
MATCHES: dict[str, Callable[..., float]] = {
    "parameters": lambda network, shape, layout: count_parameters(network),
    "macs": lambda network, shape, layout: count_macs(network, shape),
    "ms": lambda network, shape, layout: milliseconds(network, shape, layout),
}


def by_name(contenders: Sequence[str]) -> dict[str, str]:
    """Parse contenders: map each name to what it adds to the backbone."""
    if not contenders:
        raise ValueError("contenders: the list is empty; name at least one, such as 'none' (the plain backbone)")
    named: dict[str, str] = {}
    for each in [contenders] if isinstance(contenders, str) else contenders:
        if not isinstance(each, str):
            raise TypeError(
                f"contenders: {each!r:.80} is no name; a network of one's own is given as backbone=, and what is added "
                "to it here, as in ['none', 'se:at=layer1']"
            )
        name, renamed, what = each.partition("=")
        name, what = (name, what) if renamed and ":" not in name else (each, each)
        if not name or not what:
            raise ValueError(f"contender {each!r}: must have the form CONTENDER or NAME=CONTENDER")
        if slug(name) in map(slug, named):
            raise ValueError(f"contender {name!r} is named twice; give one of them another name: twin={what}")
        named[name] = what
    return named


def baseline_of(models: Mapping[str, str], backbone: str) -> str:
    """Return the contender that the others are compared with: the plain backbone, else the first."""
    return next((name for name, model in models.items() if model == backbone), next(iter(models)))


def with_twin(models: Mapping[str, str], backbone: str) -> tuple[dict[str, str], str]:
    """Insert the twin of the baseline after it; return the networks and the twin's name.

    Raises:
        ValueError: If a contender has this name.
    """
    baseline = baseline_of(models, backbone)
    twin = f"{baseline} again"
    if slug(twin) in map(slug, models):
        raise ValueError(f"contender {twin!r}: the name of the second training of {baseline!r}; choose another name")
    names = [name for each in models for name in ((each, twin) if each == baseline else (each,))]
    return {name: models[baseline if name == twin else name] for name in names}, twin


def as_networks(
    named: Mapping[str, str], backbone: str, frozen: Mapping[str, str], data: Data, layout: torch.memory_format
) -> dict[str, str]:
    """Map each contender to its network's name; a control that was matched before has that name in `frozen`."""
    models = {name: network_name(backbone, what) for name, what in named.items() if control_of(what) is None}
    for name, what in named.items():
        control = control_of(what)
        if control is not None:
            models[name] = frozen.get(name) or match_to_costliest(control, what, models, backbone, data, layout)
    return {name: models[name] for name in named}


def matches_of(named: Mapping[str, str], backbone: str) -> dict[str, str]:
    """Describe each control: how it was asked for, and the networks of which it matches the most expensive one."""
    others = {network_name(backbone, what) for what in named.values() if control_of(what) is None}
    matched = ", ".join(sorted(others - {backbone}))
    return {name: f"{what} for {matched}" for name, what in named.items() if control_of(what) is not None}


def control_of(what: str) -> Control | None:
    """Return the control that a contender is, or None."""
    return next((control for control in CONTROLS if what.partition(":")[0] == control), None)


def network_name(backbone: str, what: str) -> str:
    """Return the network's name of a contender that is not a control.

    Raises:
        ValueError: If the contender is another option of the backbone than `transformers`.
    """
    if what.startswith(":"):
        if re.fullmatch(r":transformers=[1-9]\d?", what) is None:
            raise ValueError(f"contender {what!r}: no option of the backbone but :transformers=N, N from 1 to 99")
        return f"{backbone}{',' if ':' in backbone else ':'}{what[1:]}"
    return backbone if what == "none" else f"{backbone}+{what}"


def match_to_costliest(
    control: Control, what: str, models: Mapping[str, str], backbone: str, data: Data, layout: torch.memory_format
) -> str:
    """Scale the plain backbone to the cost of the most expensive of some networks, and return its name."""
    option = what.partition(":")[2] or "match=parameters"
    key, _, match = option.partition("=")
    lookup("option of a control", key, {"match": None})
    lookup("match", match, MATCHES)
    if names_function(backbone):
        raise ValueError(f"contender {what!r}: the backbone {backbone!r} is a function, which foveal cannot scale")
    attentive = [model for model in models.values() if model != backbone]
    if not attentive:
        raise ValueError(f"contender {what!r}: needs a contender with attention, to match its cost")

    cost = partial(MATCHES[match], shape=data.shape, layout=layout)
    budget = max(cost(build(model, data, {})) for model in attentive)
    device = "cpu" if match == "ms" else "meta"
    return scale_to_cost(backbone, control, budget, cost, device, num_classes=len(data.classes), in_chans=data.shape[0])


def milliseconds(network: torch.nn.Module, shape: tuple[int, int, int], layout: torch.memory_format) -> float:
    """Measure the milliseconds of a forward pass on a large batch."""
    images = torch.rand(BATCH, *shape).contiguous(memory_format=layout)
    return time_inference({"": network.to(memory_format=layout)}, images)[""]


def build(model: str, data: Data, functions: Functions) -> torch.nn.Module:
    """Create a network for the classes and channels of the data."""
    return create_for(data, model, functions)
