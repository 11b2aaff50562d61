"""Contenders that are one network in two spellings: `se` and `se:reduction=16`, or `none` and `:transformers=1`.

Trained from the same initial weights they would be one result twice. Not found: an option whose default depends on the
channels, written out, such as `eca:kernel_size=3`.
"""

import inspect
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

from torch import nn

from foveal.mechanisms.registry import MECHANISMS
from foveal.networks.builders import OWN
from foveal.networks.scaling import SCALES
from foveal.surgery.attachments import attachments


def check_distinct(models: Mapping[str, str], networks: Mapping[str, nn.Module]) -> None:
    """Check that contenders whose networks have other names are other networks.

    Raises:
        ValueError: two of them are the same.
    """
    built = {name: structure_of(network) for name, network in networks.items()}
    for one, other in combinations(models, 2):
        if models[one] != models[other] and built[one] == built[other]:
            raise ValueError(
                f"contenders {one!r} and {other!r}: {models[one]!r} and {models[other]!r} are the same network; leave "
                "one out, or write both alike, and each is trained from other initial weights"
            )


def structure_of(network: nn.Module) -> tuple[Any, ...]:
    """Return what distinguishes a network from others on its backbone: weights, options, and the attention attached."""
    made = vars(network).get("made_as", {})
    own = chosen(made.get("options", {}), OWN.get(made.get("backbone")))
    return (
        {name: weight.shape for name, weight in network.named_parameters()},
        {name: value for name, value in own.items() if name not in SCALES},  # the shapes have them
        [
            (each.mechanism, each.position, each.modules, chosen(each.options, MECHANISMS.get(each.mechanism)))
            for each in attachments(network)
        ],
    )


def chosen(options: Mapping[str, Any], build: Callable[..., Any] | None) -> dict[str, Any]:
    """Leave out the options that have their defaults."""
    known = inspect.signature(build).parameters if build else {}
    return {name: value for name, value in options.items() if name not in known or known[name].default != value}
