"""Multi-head self-attention on a map, as in BoTNet (Srinivas et al., 2021, sec. 3, fig. 4). Mixed domain, soft.

    q, k, v = W_q x, W_k x, W_v x                          1x1 convolutions without bias, split into heads
    a = softmax over keys of (q k^T + q r^T) / sqrt(d)     r = R_h[row of key - row of query] + R_w[same, columns]
    y = a v

Scaling both products is what the authors' code does. In BoTNet this stands instead of a 3x3 convolution
(`RelativeAttention`, as in `foveal.networks.botnet`).

Departures: `SelfAttention` stands after any module, x + W y, at the width that it has in BoTNet's bottleneck, C / 4.
The tables R_h and R_w belong to one map size. For any other they are interpolated along the displacement, so that a
displacement means the same part of the map; at their own size they are the paper's, exactly.

q r^T depends on the query and on the row, or the column, of the key. So it is a product too: the query's logit for each
row and column, beside q, with the one-hot row and column of the key, beside k. One fused operation then does it all:
while nobody watches, neither the affinity nor its bias ever exists, each as large as the map squared.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.core.record import Facts, Tap


class RelativeAttention(nn.Module):
    """BoTNet's attention: maps (B, C, H, W) to (B, width, H, W), each position a weighted sum of all.

    Args:
        channels: C, of the input.
        width: of the output; `heads` divides it.
        heads: G.
        size: height and width of the map for which the position tables are stored, one number for both.
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
        weights = (query @ key.mT).softmax(3)  # over the keys one in sum
        maps = (height, width)
        return self.tap(weights.unflatten(3, maps).unflatten(2, maps))  # (B, G, H, W, Y, X) in (0, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        query, key, value = self.qkv(x).unflatten(1, (3, self.heads, self.depth)).flatten(4).mT.unbind(1)
        query, key = self.with_positions(query * self.depth**-0.5, key, height, width)
        if self.tap.watched:
            y = self.weigh(query, key, height, width).flatten(4).flatten(2, 3) @ value
        else:
            even = F.pad(value, (0, height + width))  # the fused operation wants values as deep as keys
            y = F.scaled_dot_product_attention(query, key, even, scale=1.0)[..., : self.depth]
        return y.mT.flatten(1, 2).unflatten(2, (height, width))

    def with_positions(self, query: Tensor, key: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Queries and keys (B, G, H W, d + H + W) whose products are q k^T + q r^T."""
        grid = query.unflatten(2, (height, width))
        to_rows = torch.einsum("bghwd,hyd->bghwy", grid, displacements(self.rows, height))
        to_columns = torch.einsum("bghwd,wxd->bghwx", grid, displacements(self.columns, width))
        row = torch.eye(height, dtype=key.dtype, device=key.device)[:, None].expand(height, width, height)
        column = torch.eye(width, dtype=key.dtype, device=key.device).expand(height, width, width)
        place = torch.cat([row, column], dim=2).flatten(0, 1).expand(*key.shape[:3], height + width)
        return torch.cat([grid, to_rows, to_columns], dim=4).flatten(2, 3), torch.cat([key, place], dim=3)


def displacements(table: Tensor, count: int) -> Tensor:
    """A table (2 n - 1, d) of displacements from 1 - n to n - 1, at `count` positions: (query, key, d)."""
    table = F.interpolate(table.mT[None], 2 * count - 1, mode="linear")[0].mT
    steps = torch.arange(count, device=table.device)
    return table[steps - steps[:, None] + count - 1]


class SelfAttention(nn.Module):
    """Add to each position what its heads read from all positions.

    Time grows with the square of the number of positions, H W; so does memory while it is watched (a map of 56x56
    pixels has an affinity of 39 MB a head and image).

    Args:
        channels: C, of the map.
        heads: G.
        reduction: the attention's width is C / reduction, a multiple of `heads` and at least that.
        size: height and width of the map for which the position tables are stored, one number for both.
        identity: start as the identity, the last layer at zero.

    Raises:
        ValueError: any of these below 1.

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
