"""Efficient channel attention (Wang et al., 2020, eq. 9 and 12). Channel domain, soft.

    z = mean of x over H and W
    g = sigmoid(C1D_k(z))                 each channel by its k neighbours (9)
    out = g x

The convolution over the channels has one kernel for all of them and no bias. k is the odd number nearest to (log2 C +
1) / 2 (12, with gamma = 2 and b = 1), the larger one in a tie. The code listing in the paper omits the sigmoid; its eq.
9 has it.

Departures: none.
"""

import math

from torch import Tensor, nn

from foveal.core.record import Facts, Tap
from foveal.mechanisms.zero_init_gate import ZeroInitGate
from foveal.ops.pooling import map_means


class EfficientChannel(nn.Module):
    """Efficient channel attention: scale each channel by a gate in (0, 1) of its own mean and its neighbours' means.

    Args:
        channels (int): C, number of channels of the map.
        kernel_size (int, optional): k, odd; by default that of eq. 12.
        identity (bool): start as the identity (see `foveal.mechanisms.zero_init_gate`).

    Shape:
        Input and output: (B, C, H, W).

    Raises:
        ValueError: `channels` below 1; `kernel_size` is even or below 1.

    >>> import torch
    >>> from foveal.mechanisms.efficient_channel import EfficientChannel
    >>> EfficientChannel(256)(torch.rand(8, 256, 14, 14)).shape
    torch.Size([8, 256, 14, 14])
    """

    attaches = "after"
    domain, hard, paper = "channel", False, "Wang et al., 2020"
    arxiv = "1910.03151"

    def __init__(self, channels: int, kernel_size: int | None = None, *, identity: bool = False):
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels={channels}: at least 1 is needed")
        k = kernel_width(channels) if kernel_size is None else kernel_size
        if k < 1 or k % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size}: an odd number is needed, as many neighbours on each side")
        self.conv = nn.Conv1d(1, 1, k, padding=k // 2, bias=False)
        self.strength = ZeroInitGate(identity)
        self.tap = Tap(
            Facts(mechanism="efficient_channel", kind="gate", domain="channel", axes="B C", value_range=(0, 1))
        )

    def weigh(self, x: Tensor) -> Tensor:
        """Return the gates (B, C) in (0, 1) for x (B, C, H, W)."""
        z = map_means(x)  # (B, C)
        gate = self.conv(z[:, None])[:, 0].sigmoid()
        return self.tap(self.strength(gate))  # (B, C) in (0, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weigh(x)[:, :, None, None]


def kernel_width(channels: int) -> int:
    """Return the odd number nearest to (log2 C + 1) / 2, the larger one in a tie."""
    return 2 * int((math.log2(channels) + 1) / 4) + 1
