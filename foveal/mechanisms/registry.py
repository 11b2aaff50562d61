"""Registry of the mechanisms under the names used in the literature, one file for each paper.

Each mechanism is a module that takes the number of channels first, computes weights (`weigh`), then applies them
(`forward`). Class attributes give its form of attachment (after a module, before one, between the stages of a network,
instead of a convolution with its norm and activation, or not at all: only in a network of its own), its domain, whether
it is hard, and its paper.
"""

import re
from typing import Any

from torch import nn

from foveal.core.names import unknown_name_error
from foveal.mechanisms.bam import BAM
from foveal.mechanisms.cbam import CBAM, SpatialGate
from foveal.mechanisms.coordinate import Coordinate
from foveal.mechanisms.efficient_channel import EfficientChannel
from foveal.mechanisms.gather_excite import GatherExcite
from foveal.mechanisms.glimpse import Glimpse
from foveal.mechanisms.global_context import GlobalContext
from foveal.mechanisms.hard_crop import HardCrop
from foveal.mechanisms.non_local import NonLocal
from foveal.mechanisms.residual_mask import ResidualMask
from foveal.mechanisms.selective_kernel import SelectiveKernel
from foveal.mechanisms.self_attention import SelfAttention
from foveal.mechanisms.spatial_transformer import SpatialTransformer
from foveal.mechanisms.squeeze_excite import SqueezeExcite

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


def long_name(mechanism: type[nn.Module]) -> str:
    """Return the long name of a mechanism: the name of its class in snake case."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", mechanism.__name__).lower()


def short_name(name: str) -> str:
    """Return the short name of a mechanism for either of its names.

    Raises:
        ValueError: an unknown name.
    """
    by_long = {long_name(mechanism): short for short, mechanism in MECHANISMS.items()}
    if name in MECHANISMS:
        return name
    if name in by_long:
        return by_long[name]
    raise unknown_name_error("mechanism", name, [*MECHANISMS, *by_long])
