"""Convolutional Block Attention Module (Woo et al., 2018, eq. 1-3). Mixed domain: channel, then spatial. Soft.

    gate = sigmoid(MLP(mean over H W) + MLP(max over H W))           channels (2)
    mask = sigmoid(norm(conv7x7([max over C, mean over C])))         positions (3)
    out = mask (gate x)                                              in this order (1)

The details that the equations leave open follow the authors' code: the perceptron is shared by both pools and has
biases, the maximum is the first input channel of the 7x7 convolution, which has no bias and is followed by a BatchNorm
of momentum 0.01. The spatial gate can also be attached alone.

Departure: a hidden width below 1 is set to 1.
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
    """Channel gate of CBAM: scale each channel by a gate of its mean and its maximum, through one shared perceptron.

    Args:
        channels (int): C, number of channels of the map.
        reduction (int): r; the hidden width is C / r.
        identity (bool): start as the identity (see `foveal.mechanisms.zero_init_gate`).

    Raises:
        ValueError: `channels` or `reduction` below 1.
    """

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
        """Return the gates (B, C) in (0, 1) for x (B, C, H, W)."""
        pools = torch.stack([map_means(x), x.amax((2, 3))], dim=1)  # (B, 2, C)
        gate = self.fc2(F.relu(self.fc1(pools))).sum(1).sigmoid()
        return self.tap(self.strength(gate))  # (B, C) in (0, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weigh(x)[:, :, None, None]

    def forward_(self, x: Tensor) -> Tensor:
        """In-place forward; the caller must own `x`."""
        return x.mul_(self.weigh(x)[:, :, None, None])


class SpatialGate(nn.Module):
    """Spatial gate of CBAM: scale each position by the maximum and the mean over channels at it and its neighbours.

    Args:
        channels (int): C, number of channels of the map; any number, since the gate sees only their maximum and mean.
        kernel_size (int): kernel size of the convolution; odd.
        identity (bool): start as the identity (see `foveal.mechanisms.zero_init_gate`).

    Shape:
        Input and output: (B, C, H, W).

    Raises:
        ValueError: `kernel_size` is even or below 1.

    >>> import torch
    >>> from foveal.mechanisms.cbam import SpatialGate
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
        """Return the mask (B, H, W) in (0, 1) for x (B, C, H, W)."""
        pools = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)  # (B, 2, H, W)
        mask = self.norm(self.conv(pools)).sigmoid()
        return self.tap(self.strength(mask[:, 0]))  # (B, H, W) in (0, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weigh(x)[:, None]

    def forward_(self, x: Tensor) -> Tensor:
        """In-place forward; the caller must own `x`."""
        return x.mul_(self.weigh(x)[:, None])


class CBAM(nn.Module):
    """Convolutional block attention module: scale channels, then positions.

    Args:
        channels (int): C, number of channels of the map.
        reduction (int): r, of the channel gate; the hidden width is C / r.
        kernel_size (int): kernel size of the spatial gate's convolution; odd.
        identity (bool): start as the identity (see `foveal.mechanisms.zero_init_gate`).

    Shape:
        Input and output: (B, C, H, W).

    Raises:
        ValueError: `channels` or `reduction` below 1; `kernel_size` is even or below 1.

    >>> import torch
    >>> from foveal.mechanisms.cbam import CBAM
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
        self.spatial.tap = Tap(replace(self.spatial.tap.facts, mechanism="cbam"))  # recorded as part of CBAM

    def forward(self, x: Tensor) -> Tensor:
        weighed = self.channel(x)
        mine = isinstance(self.channel, ChannelGate)  # which returns a tensor of its own; others may return x
        if mine and can_write_in_place(weighed, self.channel, self.spatial):
            return self.spatial.forward_(weighed)
        return self.spatial(weighed)

    def forward_(self, x: Tensor) -> Tensor:
        """In-place forward; the caller must own `x`."""
        if can_write_in_place(x, self.channel, self.spatial):
            return self.spatial.forward_(self.channel.forward_(x))
        return self(x)
