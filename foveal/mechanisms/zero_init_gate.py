"""Identity at birth: how a mechanism joins a network whose weights are worth keeping.

An attention weight w whose neutral value is n becomes n + s (w - n), with a learned strength s that starts at 0: the
network's answer does not change, bit for bit, until training moves s. The blend is one of weights, not of maps, so it
adds no map to the work or to what is saved for the backward pass, and a weight that is not finite shows at once.
"""

import torch
from torch import Tensor, nn


class ZeroInitGate(nn.Module):
    """The learned strength s of shape (1,), or nothing where `identity` is false: then weights pass unchanged."""

    def __init__(self, identity: bool):
        super().__init__()
        self.s = nn.Parameter(torch.zeros(1)) if identity else None

    def forward(self, weights: Tensor, neutral: Tensor | float = 1.0) -> Tensor:
        if self.s is None:
            return weights
        return neutral + self.s.to(weights.dtype) * (weights - neutral)

    def extra_repr(self) -> str:
        return "the paper's own start" if self.s is None else "identity at birth"
