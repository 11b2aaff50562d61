"""The mechanisms by the names that the field gives them, one paper a file.

Each is a module that takes the channel count first, weighs (`weigh`), then applies (`forward`), and says in class
attributes what it attaches as (after a module, before one, between the stages of a network, instead of a convolution
with its norm and activation, or not at all: in a network of its own), its domain, whether it is hard, and its paper.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from foveal.mechanisms.bam import BAM
from foveal.mechanisms.cbam import CBAM, ChannelGate, SpatialGate
from foveal.mechanisms.coordinate import Coordinate
from foveal.mechanisms.efficient_channel import EfficientChannel
from foveal.mechanisms.gather_excite import GatherExcite
from foveal.mechanisms.glimpse import Glimpse
from foveal.mechanisms.global_context import GlobalContext
from foveal.mechanisms.hard_crop import HardCrop
from foveal.mechanisms.non_local import NonLocal
from foveal.mechanisms.residual_mask import ResidualMask, ResidualUnit
from foveal.mechanisms.selective_kernel import SelectiveKernel
from foveal.mechanisms.self_attention import RelativeAttention, SelfAttention
from foveal.mechanisms.spatial_transformer import Localisation, SpatialTransformer
from foveal.mechanisms.squeeze_excite import SqueezeExcite
from foveal.naming import unknown

MECHANISMS: dict[str, Any] = {
    "se": SqueezeExcite,
    "eca": EfficientChannel,
    "ge": GatherExcite,
    "gc": GlobalContext,
    "sk": SelectiveKernel,
    "stn": SpatialTransformer,
    "coord": Coordinate,
    "spatial": SpatialGate,
    "cbam": CBAM,
    "bam": BAM,
    "residual_mask": ResidualMask,
    "nl": NonLocal,
    "mhsa": SelfAttention,
    "glimpse": Glimpse,
    "hard_crop": HardCrop,
}

CHANNELS = 256  # for which parameters are stated


def long_name(mechanism: type[nn.Module]) -> str:
    """The long name of a mechanism: that of its class in small letters."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", mechanism.__name__).lower()


def short_name(name: str) -> str:
    """The short name of a mechanism given by either of its names; ValueError for an unknown one."""
    by_long = {long_name(mechanism): short for short, mechanism in MECHANISMS.items()}
    if name in MECHANISMS:
        return name
    if name in by_long:
        return by_long[name]
    raise unknown("mechanism", name, [*MECHANISMS, *by_long])


@dataclass(frozen=True)
class Listed:
    """A mechanism's own facts, as `foveal list` prints them."""

    name: str
    long_name: str
    domain: str
    kind: str  # soft or hard
    attaches: str  # after, before, between, instead or network
    parameters: int  # at `CHANNELS` channels
    paper: str


def list_mechanisms() -> list[Listed]:
    """Every mechanism with its facts."""
    return [
        Listed(
            name,
            long_name(made),
            made.domain,
            "hard" if made.hard else "soft",
            made.attaches,
            parameters(made),
            made.paper,
        )
        for name, made in MECHANISMS.items()
    ]


def parameters(made: type[nn.Module]) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in made(CHANNELS).parameters())


__all__ = [
    "BAM",
    "CBAM",
    "MECHANISMS",
    "ChannelGate",
    "Coordinate",
    "EfficientChannel",
    "GatherExcite",
    "Glimpse",
    "GlobalContext",
    "HardCrop",
    "Localisation",
    "NonLocal",
    "RelativeAttention",
    "ResidualMask",
    "ResidualUnit",
    "SelectiveKernel",
    "SelfAttention",
    "SpatialGate",
    "SpatialTransformer",
    "SqueezeExcite",
    "list_mechanisms",
    "long_name",
    "short_name",
]
