"""Selective kernel (Li et al., 2019, eq. 1-6). Channel domain, soft: each channel chooses its receptive field.

    U_k = relu(norm(conv3x3_k(x)))        split: branch k has its dilation, and the stride
    z = relu(norm(W mean(sum_k U_k)))     fuse (1)-(4), W without bias, z of width max(C / r, L)
    a = softmax over k of (A_k z)         select (5), per channel, A_k without bias
    out = sum_k a_k U_k                   (6)

As in the authors' networks, the 5x5 convolution in the paper's figure is a 3x3 of dilation 2, and the 3x3 convolutions
are grouped. A dilation of 0 is a 1x1 convolution, for images of 32x32.

Departures: the first branch may be an existing module (`first`), such as the convolution that this unit replaces, with
its own weights. With identity at initialization the selection is a + s (a - first branch), see
`foveal.mechanisms.zero_init_gate`: only the first branch is selected at the start.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.core.record import Facts, Tap
from foveal.mechanisms.zero_init_gate import ZeroInitGate
from foveal.ops.fast_path import can_write_in_place
from foveal.ops.pooling import holds_one_image, map_means


class SelectiveKernel(nn.Module):
    """Selective kernel unit: convolution, norm and activation in several receptive fields, softly selected per channel.

    Args:
        channels (int): number of input channels.
        out_channels (int, optional): C, number of output channels; by default that of the input.
        dilations (Sequence[int]): dilations of the M branches, two or more; 0 is a 1x1 convolution.
        groups (int): G, groups of each 3x3 convolution.
        reduction (int): r.
        floor (int): L, minimum width of z.
        stride (int): stride of every branch.
        act (Callable[[], nn.Module]): returns a new activation for a branch.
        first (nn.Module, optional): existing module as first branch, whatever its dilation; its output must have the
            shape of the other branches' output.
        identity (bool): start with the first branch alone.

    Shape:
        Input: (B, channels, H, W).
        Output: (B, C, H', W'), the height and width divided by the stride, rounded up.

    Raises:
        ValueError: fewer than two dilations, or one below 0; `groups`, `reduction` or `floor` below 1; `groups` does
            not divide the channels; in the forward pass, a training batch of one image, over which the norm of z has no
            variance.

    >>> import torch
    >>> from foveal.mechanisms.selective_kernel import SelectiveKernel
    >>> SelectiveKernel(128, stride=2)(torch.rand(8, 128, 14, 14)).shape
    torch.Size([8, 128, 7, 7])
    """

    attaches = "instead"
    domain, hard, paper = "channel", False, "Li et al., 2019"
    arxiv = "1903.06586"

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        *,
        dilations: Sequence[int] = (1, 2),
        groups: int = 32,
        reduction: int = 16,
        floor: int = 32,
        stride: int = 1,
        act: Callable[[], nn.Module] = nn.ReLU,
        first: nn.Module | None = None,
        identity: bool = False,
    ):
        super().__init__()
        out_channels = out_channels or channels
        if not isinstance(dilations, Sequence) or len(dilations) < 2 or min(dilations) < 0:
            raise ValueError(f"dilations={dilations}: a selection needs two or more, each at least 0")
        if groups < 1 or reduction < 1 or floor < 1:
            raise ValueError(f"groups={groups}, reduction={reduction}, floor={floor}: at least 1 is needed")
        if channels % groups or out_channels % groups:
            raise ValueError(f"groups={groups} does not divide the channels, {channels} in and {out_channels} out")
        new_dilations = dilations if first is None else dilations[1:]
        branches = [conv_norm_act(channels, out_channels, stride, dilation, groups, act) for dilation in new_dilations]
        self.branches = nn.ModuleList(branches if first is None else [first, *branches])
        width = max(out_channels // reduction, floor)
        self.fc1 = nn.Linear(out_channels, width, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.fc2 = nn.Linear(width, len(dilations) * out_channels, bias=False)
        self.strength = ZeroInitGate(identity)
        self.tap = Tap(
            Facts(mechanism="selective_kernel", kind="selection", domain="channel", axes="B K C", value_range=(0, 1))
        )

    def weigh(self, pooled: Tensor) -> Tensor:
        """Return the selection (B, K, C), with sum 1 over K, for the mean of the summed branches (B, C)."""
        if self.norm.training and holds_one_image(pooled):
            raise ValueError("selective kernel: a training batch of 1 image; its norm needs two or more")
        z = F.relu(self.norm(self.fc1(pooled)))  # (B, d)
        logits = self.fc2(z).unflatten(1, (len(self.branches), -1))
        selection = logits.softmax(1)  # (B, K, C), sum 1 over K
        alone = F.pad(torch.ones_like(selection[:1, :1, :1]), (0, 0, 0, len(self.branches) - 1))  # (1, K, 1)
        return self.tap(self.strength(selection, alone))

    def forward(self, x: Tensor) -> Tensor:
        maps = [branch(x) for branch in self.branches]
        if len(maps) == 2 and can_write_in_place(maps[1], *self.branches[1].modules()):
            return self.choose(*maps)
        selection = self.weigh(reduce(torch.add, maps).mean((2, 3)))[..., None, None]  # (B, K, C, 1, 1)
        return reduce(torch.add, (selection[:, branch] * each for branch, each in enumerate(maps)))

    def choose(self, first: Tensor, second: Tensor) -> Tensor:
        """Fuse and select two maps, in the memory of the second; only the mean of their sum is computed."""
        selection = self.weigh(map_means(first) + map_means(second))
        return second.lerp_(first, selection[:, 0, :, None, None])


def conv_norm_act(
    channels: int, out_channels: int, stride: int, dilation: int, groups: int, act: Callable[[], nn.Module]
) -> nn.Sequential:
    """Return the convolution, norm and activation of one branch."""
    kernel = 3 if dilation else 1
    conv = nn.Conv2d(channels, out_channels, kernel, stride, dilation, max(dilation, 1), groups, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(out_channels), act=act()))
