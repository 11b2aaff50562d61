"""Gather-Excite (Hu et al., 2018b, sec. 2-4). Channel domain, soft; with a local extent also spatial.

    z = gather(x)                          context: one number for each channel and extent
    out = sigmoid(resize(excite(z))) x     resize: to the map again, by nearest neighbours

The extent is the whole map, or e: one cell for every e x e positions. The variants differ in what is learned:

    GE-theta-    nothing: the gather is a mean (of 2e - 1 x 2e - 1 positions, so that cells overlap), no excite
    GE-theta     the gather, depthwise: log2(e) 3x3 convolutions of stride 2 with norms, a ReLU between two of them; or
                 one convolution as large as the map with a norm
    GE-theta+    the excite too: relu, then a perceptron over channels (1x1 convolutions) through C / r

The order of norms and ReLUs is that of the authors' networks. A mean over the whole map followed by a perceptron is
squeeze-and-excitation.

Departures: a hidden width below 1 is set to 1. A kernel as large as the map fits maps of one size only; for a map of
another size it is resized, and scaled by the ratio of the areas so that the sum of its weights stays the same.
"""

import math

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.core.record import Facts, Tap
from foveal.mechanisms.zero_init_gate import ZeroInitGate
from foveal.ops.pooling import holds_one_image

REDUCTION = 16  # of the excite

torch.fx.wrap("nearest")  # arithmetic of sizes: one operation in a traced graph


class Mean(nn.Module):
    """Mean over a map: (B, C, H, W) to (B, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


class WholeMap(nn.Module):
    """Depthwise convolution as large as the map: (B, C, H, W) to (B, C, 1, 1)."""

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
    """Gather-excite: scale each channel, globally or in each neighbourhood, by a gate of the context gathered there.

    Args:
        channels (int): C, number of channels of the map.
        extent (int, optional): e, side of a neighbourhood; by default the whole map.
        theta (bool): learn the gather.
        plus (bool): learn the excite.
        size (int or tuple[int, int], optional): height and width, or one number for both, of the map, and so of the
            kernel that learns to gather the whole map; needed with `theta` and without `extent`.
        reduction (int, optional): r, of the excite that is learned, 16 by default; the hidden width is C / r.
        identity (bool): start as the identity (see `foveal.mechanisms.zero_init_gate`).

    Shape:
        Input and output: (B, C, H, W).

    Raises:
        ValueError: `channels` or `reduction` below 1; `reduction` without `plus`; `size` without `theta`, or with an
            `extent`; `extent` below 2, or with `theta` not a power of 2; `theta` for
            the whole map without a `size` of at least one position; in the forward pass with `theta`, a training batch
            that is gathered to one number for each channel, over which a norm has no variance.

    >>> import torch
    >>> from foveal.mechanisms.gather_excite import GatherExcite
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
        reduction: int | None = None,
        identity: bool = False,
    ):
        super().__init__()
        if reduction is not None and not plus:
            raise ValueError(f"reduction={reduction}: it is that of a learned excite, with plus=True")
        if size is not None and (extent is not None or not theta):
            raise ValueError(f"size={size}: it is that of a map which is gathered whole by theta=True, without extent")
        reduction = REDUCTION if reduction is None else reduction
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
        """Return the gates (B, C), or with an extent (B, C, H, W), in (0, 1), for x (B, C, H, W)."""
        self.check_batch(x)
        gate = self.strength(self.excite(self.gather(x)).sigmoid())
        if self.extent is None:
            return self.tap(gate.flatten(1))  # (B, C) in (0, 1)
        height, width = x.shape[2:]
        return self.tap(nearest(gate, height, width))  # (B, C, H, W) in (0, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.weigh(x)
        return x * (weights[:, :, None, None] if self.extent is None else weights)

    def check_batch(self, x: Tensor) -> None:
        """Raise ValueError for a training batch over which the norm of the gather has no variance."""
        training = any(part.training for part in self.gather.children() if isinstance(part, nn.BatchNorm2d))
        if training and holds_one_image(x) and (self.extent is None or max(x.shape[2:]) <= self.extent):
            raise ValueError("gather excite: a training batch of 1 image, gathered whole; its norm needs two or more")


def nearest(gate: Tensor, height: int, width: int) -> Tensor:
    """Resize by nearest neighbours, (B, C, h, w) to (B, C, H, W): row i from row floor(i h / H), columns likewise.

    `F.interpolate` has the same definition, but computes the quotients in floating point. They miss a row at some sizes
    (row 61 of 122 from 16) and may miss others in another runtime. On a CPU it is also many times slower.
    """
    rows = torch.arange(height, device=gate.device) * gate.shape[2] // height
    columns = torch.arange(width, device=gate.device) * gate.shape[3] // width
    return gate.index_select(3, columns).index_select(2, rows)


def fixed(extent: int | None) -> nn.Module:
    """Return the gather without parameters."""
    if extent is None:
        return Mean()
    if extent < 2:
        raise ValueError(f"extent={extent}: at least 2 is needed, or None for the whole map")
    return nn.AvgPool2d(2 * extent - 1, extent, extent - 1, count_include_pad=False)


def learned(channels: int, extent: int | None, size: int | tuple[int, int] | None) -> nn.Sequential:
    """Return the learned gather."""
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
    """Return the learned excite: a perceptron over channels, after a ReLU if a norm precedes it."""
    parts = [nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)]
    return nn.Sequential(*([nn.ReLU()] if after_norm else []), *parts)
