"""Soft mask branch (Wang et al., 2017, sec. 3.1-3.3). Mixed domain, soft: a weight for each channel at each position.

    M = sigmoid(W2 relu(norm(W1 relu(norm(up(down(x)))))))     mixed attention, f1
    out = (1 + M) T                                            attention residual learning (3)

down: max-pooling and a residual unit, several times. up: bilinear interpolation to the size of each map on the way
down, addition of that map after one more unit (skip), and a unit. The bottom has two units. The details that the paper
leaves open (norms, biases, position of the skips) follow the authors' network description. Units are pre-activation
bottlenecks (He et al., 2016).

As a mechanism the trunk T is the map itself; `foveal.networks.residual_attention` passes a trunk of its own.

Departures: pooling windows are padded by one pixel and interpolation is aligned to pixel centres, so that a map of any
size, even of one pixel, returns at its own size.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from foveal.core.record import Facts, Tap
from foveal.mechanisms.zero_init_gate import ZeroInitGate


class ResidualUnit(nn.Module):
    """Pre-activation bottleneck: (B, C, H, W) to (B, C', H', W').

    Args:
        channels: C, number of input channels.
        out_channels: C', number of output channels; by default C.
        stride: stride of the 3x3 convolution.
    """

    def __init__(self, channels: int, out_channels: int | None = None, stride: int = 1):
        super().__init__()
        out_channels = out_channels or channels
        width = max(1, out_channels // 4)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        changes = stride > 1 or channels != out_channels
        self.shortcut = nn.Conv2d(channels, out_channels, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x))
        y = self.conv2(F.relu(self.norm2(self.conv1(active))))
        y = self.conv3(F.relu(self.norm3(y)))
        return y + (x if self.shortcut is None else self.shortcut(active))


class ResidualMask(nn.Module):
    """Soft mask branch: scale each channel at each position by 1 + M, computed by an hourglass of residual units.

    Args:
        channels (int): C, number of channels of the map.
        depth (int): how often the map is halved; in the paper 3, 2 and 1 for maps of 56, 28 and 14 pixels.
        identity (bool): start as the identity (see `foveal.mechanisms.zero_init_gate`).

    Shape:
        Input and output: (B, C, H, W).

    Raises:
        ValueError: `channels` or `depth` below 1; in training, a batch of one image with its map pooled to one pixel,
            over which a norm has no variance.

    >>> import torch
    >>> from foveal.mechanisms.residual_mask import ResidualMask
    >>> ResidualMask(256)(torch.rand(8, 256, 28, 28)).shape
    torch.Size([8, 256, 28, 28])
    """

    attaches = "after"
    domain, hard, paper = "mixed", False, "Wang et al., 2017"
    arxiv = "1704.06904"

    def __init__(self, channels: int, depth: int = 2, *, identity: bool = False):
        super().__init__()
        if channels < 1 or depth < 1:
            raise ValueError(f"channels={channels}, depth={depth}: at least 1 is needed")
        self.down = nn.ModuleList(ResidualUnit(channels) for _ in range(depth))
        self.bottom = ResidualUnit(channels)
        self.skip = nn.ModuleList(ResidualUnit(channels) for _ in range(depth - 1))
        self.up = nn.ModuleList(ResidualUnit(channels) for _ in range(depth - 1))
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 1, bias=False)
        self.strength = ZeroInitGate(identity)
        self.tap = Tap(
            Facts(mechanism="residual_mask", kind="mask", domain="mixed", axes="B C H W", value_range=(1, 2))
        )

    def weigh(self, x: Tensor) -> Tensor:
        """Return 1 + M (B, C, H, W), in (1, 2), for x (B, C, H, W)."""
        maps = [x]
        for unit in self.down:
            maps.append(unit(F.max_pool2d(maps[-1], 3, stride=2, padding=1)))
        y = self.bottom(maps.pop())
        for skip, unit in zip(self.skip, self.up, strict=True):
            below = maps.pop()
            y = unit(resized(y, below) + skip(below))
        y = self.conv1(F.relu(self.norm1(resized(y, x))))
        mask = self.conv2(F.relu(self.norm2(y))).sigmoid()
        return self.tap(self.strength(1 + mask))  # (B, C, H, W) in (1, 2)

    def forward(self, x: Tensor, trunk: Tensor | None = None) -> Tensor:
        """Scale the trunk, by default x itself, by the mask of x."""
        return (x if trunk is None else trunk) * self.weigh(x)


def resized(x: Tensor, like: Tensor) -> Tensor:
    """Interpolate x bilinearly to the height and width of `like`."""
    return F.interpolate(x, like.shape[2:], mode="bilinear")
