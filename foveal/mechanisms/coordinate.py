"""Coordinate attention (Hou et al., 2021, eq. 4-9). Spatial domain, soft: gates along each axis, for each channel.

    z_h, z_w = means of x over W, over H           (B, C, H) and (B, C, W) (4), (5)
    f = h_swish(norm(F1([z_h, z_w])))              one 1x1 convolution for both, to max(C / r, 8) channels (6)
    g_h, g_w = sigmoid(F_h(f_h)), sigmoid(F_w(f_w))  f split again into its rows and columns (7), (8)
    out = g_h g_w x                                each position by the gates of its row and its column (9)

The reduction of 32, the minimum width of 8 and the biases of F_h and F_w are those of the authors' code. Its F1 has a
bias too, which the following norm cancels; F1 has none here.

Departures: none.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.core.record import Facts, Tap
from foveal.mechanisms.zero_init_gate import ZeroInitGate

LEAST_WIDTH = 8


class Coordinate(nn.Module):
    """Coordinate attention: scale each channel and position by two gates in (0, 1), of the row and of the column.

    Args:
        channels (int): C, number of channels of the map.
        reduction (int): r; the hidden width is C / r, at least 8.
        identity (bool): start as the identity (see `foveal.mechanisms.zero_init_gate`).

    Shape:
        Input and output: (B, C, H, W).

    Raises:
        ValueError: `channels` or `reduction` below 1.

    >>> import torch
    >>> from foveal.mechanisms.coordinate import Coordinate
    >>> Coordinate(256)(torch.rand(8, 256, 14, 14)).shape
    torch.Size([8, 256, 14, 14])
    """

    attaches = "after"
    domain, hard, paper = "spatial", False, "Hou et al., 2021"
    arxiv = "2103.02907"

    def __init__(self, channels: int, reduction: int = 32, *, identity: bool = False):
        super().__init__()
        if channels < 1 or reduction < 1:
            raise ValueError(f"channels={channels}, reduction={reduction}: at least 1 is needed")
        width = max(channels // reduction, LEAST_WIDTH)
        self.conv = nn.Conv1d(channels, width, 1, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.conv_h = nn.Conv1d(width, channels, 1)
        self.conv_w = nn.Conv1d(width, channels, 1)
        self.strength = ZeroInitGate(identity)
        self.height, self.width = (
            Tap(Facts(mechanism="coordinate", kind="gate", domain="mixed", axes=axes, value_range=(0, 1)))
            for axes in ("B C H", "B C W")
        )

    def weigh(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gates of rows (B, C, H) and of columns (B, C, W), in (0, 1), for x (B, C, H, W)."""
        height = x.shape[2]
        pools = torch.cat([x.mean(3), x.mean(2)], dim=2)  # (B, C, H + W)
        f = F.hardswish(self.norm(self.conv(pools)))
        rows, columns = self.conv_h(f[..., :height]).sigmoid(), self.conv_w(f[..., height:]).sigmoid()
        return self.height(self.strength(rows)), self.width(self.strength(columns))  # (B, C, H), (B, C, W) in (0, 1)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.weigh(x)
        return x * rows[..., None] * columns[:, :, None]
