"""What every faster block has beside its forward: the way back to its own class, the only base of its faster one."""

import copy
from typing import Any

from torch import nn


def original_class(block: nn.Module) -> Any:
    return type(block).__bases__[0]


def original_forward(block: nn.Module) -> Any:
    """A copy by the block's own class, with the same weights: what `torch.jit.script` compiles in its place."""
    plain: Any = copy.copy(block)
    plain.__class__ = original_class(block)
    return plain
