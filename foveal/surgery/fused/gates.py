"""Which modules are a gate of each channel that depends on the means over the map alone, and how each makes it.

Their own children are called, so that whoever watches, replaces or hooks the weights does so as ever.
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
    """How a module makes its gate from means; None where it is no such module, or somebody hooks it itself."""
    if module is None or not bypassable(module, type(module)):
        return None
    if isinstance(module, SqueezeExcite | EfficientChannel) and type(module) in OURS:
        weigh = module.weigh
        return lambda means: weigh(means[:, :, None, None])
    if class_names(module)[0] != "timm.layers.squeeze_excite.SEModule" or module.add_maxpool:
        return None

    timms: Any = module

    def gate(means: Tensor) -> Tensor:
        z = timms.fc1(means[:, :, None, None])
        return timms.gate(timms.fc2(timms.act(timms.bn(z)))).flatten(1)

    return gate
