"""Identity at initialization: attach a mechanism to a trained network without changing the network's output.

An attention weight w with neutral value n becomes n + s (w - n), with a learned strength s that is initialized to 0:
the output of the network does not change, bit for bit, until training changes s. Weights are blended, not maps, so the
blend adds no map to the computation or to the memory saved for the backward pass, and a weight that is not finite shows
in the output at once.
"""

import torch
from torch import Tensor, nn


class ZeroInitGate(nn.Module):
    """Learned strength s of shape (1,), or no parameter if `identity` is False: then weights pass unchanged."""

    def __init__(self, identity: bool):
        super().__init__()
        self.s = nn.Parameter(torch.zeros(1)) if identity else None

    def forward(self, weights: Tensor, neutral: Tensor | float = 1.0) -> Tensor:
        """Return `neutral + s (weights - neutral)`, or the weights unchanged."""
        if self.s is None:
            return weights
        return neutral + self.s.to(weights.dtype) * (weights - neutral)

    def extra_repr(self) -> str:
        return "the paper's own initialization" if self.s is None else "identity at initialization"
