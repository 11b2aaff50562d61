"""Modules that are a channel gate of the means over the map alone, and the function from means to gate of each.

The function calls the modules' own children, so that watching, replacing and hooking the weights works as before.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from foveal.core.names import class_names
from foveal.mechanisms.efficient_channel import EfficientChannel
from foveal.mechanisms.squeeze_excite import SqueezeExcite
from foveal.surgery.fused.conditions import bypassable

OURS = (SqueezeExcite, EfficientChannel)
Gate = Callable[[Tensor], Tensor]  # from means (B, C) to weights (B, C)


def gate_of(module: nn.Module | None) -> Gate | None:
    """Return the function from means to a module's gate; None if it is not such a module, or has hooks of its own."""
    if module is None or not bypassable(module, type(module)):
        return None
    if isinstance(module, SqueezeExcite | EfficientChannel) and type(module) in OURS:
        weigh = module.weigh
        return lambda means: weigh(means[:, :, None, None])
    if class_names(module)[0] != "timm.layers.squeeze_excite.SEModule" or module.add_maxpool:
        return None

    se: Any = module

    def gate(means: Tensor) -> Tensor:
        z = se.fc1(means[:, :, None, None])
        return se.gate(se.fc2(se.act(se.bn(z)))).flatten(1)

    return gate
