"""Multi-head self-attention on a map, as in BoTNet (Srinivas et al., 2021, sec. 3, fig. 4). Mixed domain, soft.

    q, k, v = W_q x, W_k x, W_v x                          1x1 convolutions without bias, split into heads
    a = softmax over keys of (q k^T + q r^T) / sqrt(d)     r = R_h[row of key - row of query] + R_w[same, columns]
    y = a v

Both products are scaled, as in the authors' code. In BoTNet this layer replaces a 3x3 convolution (`RelativeAttention`,
as in `foveal.networks.botnet`).

Departures: `SelfAttention` can be attached after any module, x + W y, at the width that it has in BoTNet's bottleneck,
C / 4. The tables R_h and R_w belong to one map size. For any other size they are interpolated along the displacement,
so that a displacement refers to the same part of the map; at their own size they are exactly the paper's.

q r^T depends on the query and on the row, or the column, of the key, so it is a product too: the query's logit for each
row and column is appended to q, and the one-hot row and column of the key to k. One fused operation then computes the
whole layer. Unless the weights are watched, neither the affinity nor its bias is ever stored, each as large as the map
squared.
"""

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.core.record import Facts, Tap

for arithmetic_of_sizes in ("displacements", "with_place"):
    torch.fx.wrap(arithmetic_of_sizes)  # one operation in a traced graph


class RelativeAttention(nn.Module):
    """BoTNet's attention: maps (B, C, H, W) to (B, width, H, W), each position a weighted sum over all.

    Args:
        channels: C, number of input channels.
        width: number of output channels; a multiple of `heads`.
        heads: G.
        size: height and width of the map for which the position tables are stored, or one number for both.

    Raises:
        ValueError: `heads` does not divide `width`; `size` below one pixel.
    """

    def __init__(self, channels: int, width: int, heads: int = 4, size: int | tuple[int, int] = 14):
        super().__init__()
        height_width = (size, size) if isinstance(size, int) else size
        if heads < 1 or width % heads:
            raise ValueError(f"heads={heads} does not divide the width, {width}")
        if min(height_width) < 1:
            raise ValueError(f"size={size}: at least one pixel is needed")
        self.heads, self.depth = heads, width // heads  # G, d
        self.qkv = nn.Conv2d(channels, 3 * width, 1, bias=False)
        nn.init.normal_(self.qkv.weight, std=channels**-0.5)
        self.rows, self.columns = (
            nn.Parameter(torch.randn(2 * count - 1, self.depth) * self.depth**-0.5) for count in height_width
        )
        facts = Facts(
            mechanism="self_attention", kind="affinity", domain="spatial", axes="B G H W Y X", value_range=(0, 1)
        )
        self.tap = Tap(facts)

    def weigh(self, query: Tensor, key: Tensor, height: int, width: int) -> Tensor:
        """Return the affinity (B, G, H, W, Y, X) of queries and keys (B, G, H W, d + H + W)."""
        weights = (query @ key.mT).softmax(3)  # sum 1 over the keys
        maps = (height, width)
        return self.tap(weights.unflatten(3, maps).unflatten(2, maps))  # (B, G, H, W, Y, X) in (0, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        query, key, value = self.qkv(x).unflatten(1, (3, self.heads, self.depth)).flatten(4).mT.unbind(1)
        query, key = self.with_positions(query * self.depth**-0.5, key, height, width)
        if self.tap.watched:
            y = self.weigh(query, key, height, width).flatten(4).flatten(2, 3) @ value
        else:
            padded = F.pad(value, (0, height + width))  # the fused operation needs values as deep as keys
            y = F.scaled_dot_product_attention(query, key, padded, scale=1.0)[..., : self.depth]
        return y.mT.flatten(1, 2).unflatten(2, (height, width))

    def with_positions(self, query: Tensor, key: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return queries and keys (B, G, H W, d + H + W) whose products are q k^T + q r^T."""
        grid = query.unflatten(2, (height, width))
        to_rows = torch.einsum("bghwd,hyd->bghwy", grid, displacements(self.rows, height))
        to_columns = torch.einsum("bghwd,wxd->bghwx", grid, displacements(self.columns, width))
        return torch.cat([grid, to_rows, to_columns], dim=4).flatten(2, 3), with_place(key, height, width)


def displacements(table: Tensor, count: int) -> Tensor:
    """Resize a table (2 n - 1, d) of displacements from 1 - n to n - 1 to `count` positions; return (query, key, d)."""
    table = F.interpolate(table.mT[None], 2 * count - 1, mode="linear")[0].mT
    steps = torch.arange(count, device=table.device)
    return table[steps - steps[:, None] + count - 1]


def with_place(key: Tensor, height: int, width: int) -> Tensor:
    """Append the one-hot row and column of each key: (B, G, H W, d) to (B, G, H W, d + H + W)."""
    row = torch.eye(height, dtype=key.dtype, device=key.device)[:, None].expand(height, width, height)
    column = torch.eye(width, dtype=key.dtype, device=key.device).expand(height, width, width)
    place = torch.cat([row, column], dim=2).flatten(0, 1).expand(*key.shape[:3], height + width)
    return torch.cat([key, place], dim=3)


class SelfAttention(nn.Module):
    """Multi-head self-attention as a residual branch: add to each position what its heads read from all positions.

    Time grows with the square of the number of positions, H W; so does memory while the module is watched (a map of
    56x56 pixels has an affinity of 39 MB for each head and image).

    Args:
        channels (int): C, number of channels of the map.
        heads (int): G.
        reduction (int): the width of the attention is C / reduction, rounded down to a multiple of `heads`, at least
            `heads`.
        size (int or tuple[int, int]): height and width of the map for which the position tables are stored, or one
            number for both.
        identity (bool): start as the identity, with the last layer initialized to zero.

    Shape:
        Input and output: (B, C, H, W).

    Raises:
        ValueError: `channels`, `heads`, `reduction` or `size` below 1.

    >>> import torch
    >>> from foveal.mechanisms.self_attention import SelfAttention
    >>> SelfAttention(256)(torch.rand(8, 256, 14, 14)).shape
    torch.Size([8, 256, 14, 14])
    """

    attaches = "after"
    domain, hard, paper = "mixed", False, "Srinivas et al., 2021"
    arxiv = "2101.11605"

    def __init__(
        self,
        channels: int,
        heads: int = 4,
        *,
        reduction: int = 4,
        size: int | tuple[int, int] = 14,
        identity: bool = False,
    ):
        super().__init__()
        if min(channels, heads, reduction) < 1:
            raise ValueError(f"channels={channels}, heads={heads}, reduction={reduction}: at least 1 is needed")
        width = heads * max(1, channels // (reduction * heads))
        self.attention = RelativeAttention(channels, width, heads, size)
        self.out = nn.Conv2d(width, channels, 1)
        self.starts_as_identity = identity
        if identity:
            for weight in self.out.parameters():
                nn.init.zeros_(weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(self.attention(x))
