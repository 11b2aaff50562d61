"""Convolutional Block Attention Module (Woo et al., 2018, eq. 1-3). Mixed domain: channel, then spatial. Soft.

    gate = sigmoid(MLP(mean over H W) + MLP(max over H W))           channels (2)
    mask = sigmoid(norm(conv7x7([max over C, mean over C])))         positions (3)
    out = mask (gate x)                                              in this order (1)

The details that the equations leave open are those of the authors' code: the perceptron is shared by both pools and
has biases, the maximum stands first, the 7x7 convolution has none and is followed by a BatchNorm of momentum 0.01.
The spatial gate can also be attached alone.

Departure: a hidden width below one counts as one.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.core.record import Facts, Tap
from foveal.mechanisms.zero_init_gate import ZeroInitGate
from foveal.ops.fast_path import can_write_in_place
from foveal.ops.pooling import map_means


class ChannelGate(nn.Module):
    """Weigh each channel by its mean and its maximum, through one shared perceptron."""

    def __init__(self, channels: int, reduction: int = 16, *, identity: bool = False):
        super().__init__()
        if channels < 1 or reduction < 1:
            raise ValueError(f"channels={channels}, reduction={reduction}: at least 1 is needed")
        hidden = max(1, channels // reduction)
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)
        self.strength = ZeroInitGate(identity)
        self.tap = Tap(Facts(mechanism="cbam", kind="gate", domain="channel", axes="B C", value_range=(0, 1)))

    def weigh(self, x: Tensor) -> Tensor:
        pools = torch.stack([map_means(x), x.amax((2, 3))], dim=1)  # (B, 2, C)
        gate = self.fc2(F.relu(self.fc1(pools))).sum(1).sigmoid()
        return self.tap(self.strength(gate))  # (B, C) in (0, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weigh(x)[:, :, None, None]

    def forward_(self, x: Tensor) -> Tensor:
        return x.mul_(self.weigh(x)[:, :, None, None])


class SpatialGate(nn.Module):
    """Weigh each position by the maximum and the mean over its channels and its neighbours'.

    Args:
        channels: C, of the map; any number does, the gate sees their maximum and mean.
        kernel_size: of the convolution; odd.
        identity: start as the identity, see `foveal.mechanisms.zero_init_gate`.

    Raises:
        ValueError: an even `kernel_size`.

    >>> SpatialGate(64)(torch.rand(8, 64, 14, 14)).shape
    torch.Size([8, 64, 14, 14])
    """

    attaches = "after"
    domain, hard, paper = "spatial", False, "Woo et al., 2018"
    arxiv = "1807.06521"

    def __init__(self, channels: int, kernel_size: int = 7, *, identity: bool = False):
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size}: an odd number is needed, to keep the map's size")
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(1, momentum=0.01)
        self.strength = ZeroInitGate(identity)
        self.tap = Tap(Facts(mechanism="spatial_gate", kind="mask", domain="spatial", axes="B H W", value_range=(0, 1)))

    def weigh(self, x: Tensor) -> Tensor:
        pools = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)  # (B, 2, H, W)
        mask = self.norm(self.conv(pools)).sigmoid()
        return self.tap(self.strength(mask[:, 0]))  # (B, H, W) in (0, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weigh(x)[:, None]

    def forward_(self, x: Tensor) -> Tensor:
        return x.mul_(self.weigh(x)[:, None])


class CBAM(nn.Module):
    """Weigh channels, then positions.

    Args:
        channels: C, of the map.
        reduction: r, of the channel gate; the hidden width is C / r.
        kernel_size: of the spatial gate's convolution; odd.
        identity: start as the identity, see `foveal.mechanisms.zero_init_gate`.

    Raises:
        ValueError: `channels` or `reduction` below 1, an even `kernel_size`.

    >>> CBAM(64)(torch.rand(8, 64, 14, 14)).shape
    torch.Size([8, 64, 14, 14])
    """

    attaches = "after"
    domain, hard, paper = "mixed", False, "Woo et al., 2018"
    arxiv = "1807.06521"

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int = 7, *, identity: bool = False):
        super().__init__()
        self.channel = ChannelGate(channels, reduction, identity=identity)
        self.spatial = SpatialGate(channels, kernel_size, identity=identity)
        self.spatial.tap = Tap(replace(self.spatial.tap.facts, mechanism="cbam"))  # whose part it is here

    def forward(self, x: Tensor) -> Tensor:
        weighed = self.channel(x)
        if can_write_in_place(weighed, self.channel, self.spatial):
            return self.spatial.forward_(weighed)
        return self.spatial(weighed)

    def forward_(self, x: Tensor) -> Tensor:
        """`forward` in the memory of x, for who made x and shows it to nobody else."""
        if can_write_in_place(x, self.channel, self.spatial):
            return self.spatial.forward_(self.channel.forward_(x))
        return self(x)
