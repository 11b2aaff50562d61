"""Gather-Excite (Hu et al., 2018b, sec. 2-4). Channel domain, soft; a local extent says where, too.

    z = gather(x)                          context: one number for each channel and extent
    out = sigmoid(resize(excite(z))) x     resize: to the map again, by nearest neighbours

The extent is the whole map, or e: one cell for every e x e positions. What is learned:

    GE-theta-    nothing: the gather is a mean (of 2e - 1 x 2e - 1 positions, so that cells overlap), no excite
    GE-theta     the gather, depthwise: log2(e) 3x3 convolutions of stride 2 with norms, a ReLU between two of them; or
                 one convolution as large as the map with a norm
    GE-theta+    the excite too: relu, then a perceptron over channels (1x1 convolutions) through C / r

The order of norms and ReLUs is that of the authors' networks. A perceptron after a mean over the whole map would be
squeeze-and-excitation.

Departures: a hidden width below one counts as one. A kernel as large as the map fits maps of one size; to another it is
resized, and scaled by the areas so that it weighs as much in sum.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.core.record import Facts, Tap
from foveal.mechanisms.zero_init_gate import ZeroInitGate


class Mean(nn.Module):
    """(B, C, H, W) to (B, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


class WholeMap(nn.Module):
    """A depthwise convolution as large as the map: (B, C, H, W) to (B, C, 1, 1)."""

    def __init__(self, channels: int, size: int | tuple[int, int]):
        super().__init__()
        height, width = (size, size) if isinstance(size, int) else size
        if min(height, width) < 1:
            raise ValueError(f"size={size}: at least one position is needed")
        self.weight = nn.Parameter(torch.empty(channels, 1, height, width))
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        share = self.weight[0].numel() / (height * width)
        kernel = share * F.interpolate(self.weight, size=(height, width), mode="bilinear")
        return torch.einsum("bchw,chw->bc", x, kernel[:, 0].to(x.dtype))[:, :, None, None]


class GatherExcite(nn.Module):
    """Weigh each channel, over the whole map or neighbourhood by neighbourhood, by what is gathered there.

    Args:
        channels: C, of the map.
        extent: e, the side of a neighbourhood; the whole map if left out.
        theta: learn the gather.
        plus: learn the excite.
        size: height and width, one number for both, of the kernel that learns to gather the whole map: the map's.
        reduction: r, of the excite; the hidden width is C / r.
        identity: start as the identity, see `foveal.mechanisms.zero_init_gate`.

    Raises:
        ValueError: `channels` or `reduction` below 1; an `extent` below 2, or with `theta` one that is no power of 2;
            `theta` for the whole map without a `size` of one position at least; with `theta`, a training batch that is
            gathered into one number a channel, over which a norm has no variance.

    >>> GatherExcite(256, extent=8, theta=True)(torch.rand(8, 256, 14, 14)).shape
    torch.Size([8, 256, 14, 14])
    """

    attaches = "after"
    domain, hard, paper = "channel", False, "Hu et al., 2018b"
    arxiv = "1810.12348"

    def __init__(
        self,
        channels: int,
        extent: int | None = None,
        *,
        theta: bool = False,
        plus: bool = False,
        size: int | tuple[int, int] | None = None,
        reduction: int = 16,
        identity: bool = False,
    ):
        super().__init__()
        if channels < 1 or reduction < 1:
            raise ValueError(f"channels={channels}, reduction={reduction}: at least 1 is needed")
        self.extent = extent
        self.gather = learned(channels, extent, size) if theta else fixed(extent)
        self.excite = perceptron(channels, max(1, channels // reduction), theta) if plus else nn.Identity()
        self.strength = ZeroInitGate(identity)
        one = extent is None
        self.tap = Tap(
            Facts(
                mechanism="gather_excite",
                kind="gate" if one else "mask",
                domain="channel" if one else "mixed",
                axes="B C" if one else "B C H W",
                value_range=(0, 1),
            )
        )

    def weigh(self, x: Tensor) -> Tensor:
        self.check_batch(x)
        gate = self.strength(self.excite(self.gather(x)).sigmoid())
        if self.extent is None:
            return self.tap(gate.flatten(1))  # (B, C) in (0, 1)
        return self.tap(nearest(gate, *x.shape[2:]))  # (B, C, H, W) in (0, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.weigh(x)
        return x * (weights[:, :, None, None] if self.extent is None else weights)

    def check_batch(self, x: Tensor) -> None:
        training = any(part.training for part in self.gather.children() if isinstance(part, nn.BatchNorm2d))
        if training and len(x) == 1 and (self.extent is None or max(x.shape[2:]) <= self.extent):
            raise ValueError("gather excite: a training batch of 1 image, gathered whole; its norm needs two or more")


def nearest(gate: Tensor, height: int, width: int) -> Tensor:
    """Resized by nearest neighbours, (B, C, h, w) to (B, C, H, W): row i from row floor(i h / H), columns likewise.

    `F.interpolate` means the same, but its quotients are floating ones, which miss a row at some sizes (row 61 of 122
    from 16) and may miss others in another runtime, and on a CPU it takes many times as long.
    """
    rows = torch.arange(height, device=gate.device) * gate.shape[2] // height
    columns = torch.arange(width, device=gate.device) * gate.shape[3] // width
    return gate.index_select(3, columns).index_select(2, rows)


def fixed(extent: int | None) -> nn.Module:
    if extent is None:
        return Mean()
    if extent < 2:
        raise ValueError(f"extent={extent}: at least 2 is needed, or None for the whole map")
    return nn.AvgPool2d(2 * extent - 1, extent, extent - 1, count_include_pad=False)


def learned(channels: int, extent: int | None, size: int | tuple[int, int] | None) -> nn.Sequential:
    if extent is None:
        if size is None:
            raise ValueError("size=None: to learn to gather the whole map, its height and width are needed")
        return nn.Sequential(WholeMap(channels, size), nn.BatchNorm2d(channels))
    if extent < 2 or extent & (extent - 1):
        raise ValueError(f"extent={extent}: a power of 2 is needed, since each convolution halves the map")
    parts: list[nn.Module] = []
    for _ in range(int(math.log2(extent))):
        conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False)
        parts += [conv, nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def perceptron(channels: int, hidden: int, after_norm: bool) -> nn.Sequential:
    parts = [nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)]
    return nn.Sequential(*([nn.ReLU()] if after_norm else []), *parts)
