"""Global context (Cao et al., 2019, GCNet, sec. 4.3). Channel domain, soft: adds a pooled context to each channel.

    a = softmax over positions of (W_k x)          context modeling: one map for all positions
    c = sum over positions of a x                  (B, C)
    out = x + W_v2 relu(LN(W_v1 c))                transform through C / r, fusion by addition

The paper compares fusion by addition and by scaling and chooses addition; so does this file (timm's layer scales by
default). W_v2 is initialized to zero, weights and bias, as in the authors' code, so the module starts as the identity.
W_k has no bias, since a softmax is invariant to one.

Departures: a hidden width below 4 is set to 4. The LayerNorm of a single number is its bias, whatever the number is,
and the LayerNorm of two numbers is little more than a sign.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.core.record import Facts, Tap

LEAST_WIDTH = 4


class GlobalContext(nn.Module):
    """Global context block: add to every position a transform of the weighted mean over all positions.

    Args:
        channels (int): C, number of channels of the map.
        reduction (int): r; the hidden width is C / r, at least 4.

    Shape:
        Input and output: (B, C, H, W).

    Raises:
        ValueError: `channels` or `reduction` below 1.

    >>> import torch
    >>> from foveal.mechanisms.global_context import GlobalContext
    >>> GlobalContext(256)(torch.rand(8, 256, 14, 14)).shape
    torch.Size([8, 256, 14, 14])
    """

    attaches = "after"
    starts_as_identity = True
    domain, hard, paper = "channel", False, "Cao et al., 2019"
    arxiv = "1904.11492"

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        if channels < 1 or reduction < 1:
            raise ValueError(f"channels={channels}, reduction={reduction}: at least 1 is needed")
        width = max(channels // reduction, LEAST_WIDTH)
        self.attention = nn.Conv2d(channels, 1, 1, bias=False)
        self.fc1 = nn.Linear(channels, width)
        self.norm = nn.LayerNorm(width)
        self.fc2 = nn.Linear(width, channels)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)
        facts = Facts(mechanism="global_context", kind="mask", domain="spatial", axes="B H W", value_range=(0, 1))
        self.tap = Tap(facts)

    def weigh(self, x: Tensor) -> Tensor:
        """Return the softmax over positions, (B, H, W) with sum 1, for x (B, C, H, W)."""
        logits = self.attention(x)[:, 0]  # (B, H, W)
        return self.tap(logits.flatten(1).softmax(1).view_as(logits))  # (B, H, W), sum 1 over H W

    def forward(self, x: Tensor) -> Tensor:
        context = torch.einsum("bchw,bhw->bc", x, self.weigh(x).to(x.dtype))
        return x + self.fc2(F.relu(self.norm(self.fc1(context))))[:, :, None, None]
