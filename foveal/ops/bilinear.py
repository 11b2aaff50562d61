"""Bilinear sampling of a deep map as weighted sums of its rows: the fast form of `foveal.ops.geometry.sample`.

With its channels last, a map (B, C, H, W) is a table of B H W rows of C numbers, and eq. 5 of Jaderberg et al. (2015)
is a sum of four neighbouring rows, each read once and contiguously:

    V(x, y) = sum over i, j in (0, 1) of w_i(y) w_j(x) U(y0 + i, x0 + j)

PyTorch's sampler iterates over a map channel by channel instead, and returns its channels first. Coordinates are those
of `foveal.ops.geometry`; samples and gradients equal those of `F.grid_sample` up to rounding.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

CHANNELS = 64  # fewest channels at which rows are long enough for gathering to be faster
NUMBERS = 1 << 18  # fewest elements of a map; on a smaller one the sampler ends before the weights are computed


def suits_gathering(x: Tensor) -> bool:
    """Return True if a map (B, C, H, W) is deep, large, of single or double precision, and has its channels last."""
    deep = x.shape[1] >= CHANNELS and min(x.shape[2:]) > 1 and x.numel() >= NUMBERS
    precise = x.dtype in (torch.float32, torch.float64)
    return deep and precise and x.is_contiguous(memory_format=torch.channels_last)


def grid_sample_rows(x: Tensor, grid: Tensor, border: bool) -> Tensor:
    """Sample x (B, C, H, W) bilinearly at a grid (B, H', W', 2); return (B, C, H', W'), channels last.

    Args:
        x: map of at least two pixels in height and in width.
        grid: normalised coordinates.
        border: pad with the border of the map; if False, with zeros.
    """
    batch, channels, height, width = x.shape
    across, down = grid.flatten(0, 2).unbind(-1)
    column, left, right = neighbours(across, width, border)
    row, upper, lower = neighbours(down, height, border)
    weights = torch.stack([upper * left, upper * right, lower * left, lower * right], dim=-1)  # (B H' W', 4)
    first = torch.add(column, row, alpha=width).long().view(batch, -1)
    first = first + torch.arange(0, batch * height * width, height * width).view(-1, 1)
    rows = first.view(-1, 1) + torch.tensor([0, 1, width, width + 1])
    table = x.permute(0, 2, 3, 1).reshape(-1, channels)
    out = F.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")
    return out.view(batch, *grid.shape[1:3], channels).permute(0, 3, 1, 2)


def neighbours(along: Tensor, count: int, border: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first of the two pixels, of `count`, between which each coordinate lies, and both pixels' weights.

    Outside the map these are the two nearest pixels, and the weights fall off to zero within one pixel of the map.
    Where a weight has a kink, its slope is that of `F.grid_sample`: at the identity every coordinate lies on a kink.
    """
    place = torch.add(along.new_tensor((count - 1) / 2), along, alpha=count / 2)  # in pixels
    if border:
        place = F.hardtanh(place, 0, count - 1)  # flat at its ends, unlike clamp
    first = place.detach().floor().nan_to_num_(0).clamp_(0, count - 2)  # not finite: the weights are not finite either
    part = place - first
    if border:
        return first, 1 - part, part
    if not torch.is_grad_enabled():  # the same weights; only their slopes at the kinks differ
        return first, (1 - part.abs()).relu_(), (1 - (part - 1).abs_()).relu_()
    one = torch.where(part < 0, 1 + part, 1 - part).relu()
    other = torch.where(part < 1, part, (2 - part).relu()) * (part >= 0)
    return first, one, other
