"""Coordinate convention shared by every file that warps, samples or draws.

Coordinates are normalised, in the order (x, y): -1 is the left (upper) edge of the image and 1 its right (lower) edge,
so the centre of pixel i of n lies at (2 i + 1) / n - 1. This is PyTorch's `align_corners=False`, for both grid and
sampler.

A transform theta (B, 2, 3) maps output to input (Jaderberg et al., 2015, eq. 1), so the region of the input that it
shows is theta applied to the corners (+-1, +-1), without an inverse.

Axes: B batch, H W map, N points.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.ops.bilinear import grid_sample_rows, suits_gathering
from foveal.ops.fast_path import fast_path_applies

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
CORNERS = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))  # clockwise from the upper left


def centres(count: int, like: Tensor) -> Tensor:
    """Return the normalised coordinates of `count` pixel centres, (count,), with the device and dtype of `like`."""
    return torch.arange(1 - count, count, 2, device=like.device, dtype=like.dtype) / count


def affine_grid(theta: Tensor, height: int, width: int) -> Tensor:
    """Return each output pixel's input coordinates: theta (B, 2, 3) to a grid (B, H, W, 2); R rows to (B, H, W, R).

    Computed as the sum of a term along rows and a term along columns, instead of `F.affine_grid`'s matrix product, so
    that height and width stay dynamic under `torch.export`. In memory the grid is one map for x and one for y, which
    samplers read as fast.
    """
    along_x, along_y, shift = theta[:, :, None].unbind(-1)  # each (B, R, 1)
    along = centres(width, theta) * along_x  # (B, R, W)
    down = torch.addcmul(shift, centres(height, theta), along_y)  # (B, R, H)
    return (along[:, :, None] + down[..., None]).permute(0, 2, 3, 1)


def transform(theta: Tensor, points: Tensor) -> Tensor:
    """Apply theta (B, 2, 3), or any R rows (B, R, 3), to points (N, 2) or (B, N, 2); return (B, N, R)."""
    return points @ theta[..., :2].mT + theta[..., None, :, 2]


def invert(theta: Tensor) -> Tensor:
    """Return the inverse transform: (B, 2, 3) to (B, 2, 3)."""
    linear = torch.linalg.inv(theta[..., :2])
    return torch.cat([linear, -linear @ theta[..., 2:]], dim=-1)


def to_pixels(points: Tensor, height: int, width: int) -> Tensor:
    """Convert normalised points (..., 2) to pixels, where the centre of the first pixel is (0, 0)."""
    size = torch.tensor([width, height], device=points.device, dtype=points.dtype)
    return ((points + 1) * size - 1) / 2


def single_precision(x: Tensor) -> Tensor:
    """Return a tensor in single precision, or in double precision if it has that."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def full_precision(like: Tensor) -> AbstractContextManager[None]:
    """Return a context without autocast.

    Autocast would round a matrix product to eight bits, which is too coarse for pixel coordinates. Where autocast is
    off the context does nothing, and leaves nothing in an exported graph. A graph traced by `torch.fx` does not contain
    it: run such a graph without autocast.
    """
    if not isinstance(like, Tensor):
        return nullcontext()
    kind = like.device.type
    rounds = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if rounds else nullcontext()


def sample(x: Tensor, grid: Tensor, padding: str | float = "border") -> Tensor:
    """Sample x (B, C, H, W) bilinearly at a grid (B, H', W', 2); return (B, C, H', W').

    Outside the image the result is its border, or the value `padding`. Zeros after a normalisation are not the
    background (0 against -0.424 for MNIST), and a transformer trained with them collapses. Coordinates keep at least
    single precision: half precision cannot resolve a pixel of a large image. The result keeps the memory layout of x. A
    deep map with its channels last is sampled row by row (`foveal.ops.bilinear`).

    Warning: the backward pass of bilinear sampling is not deterministic on CUDA.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    image, grid = x.to(dtype), grid.to(dtype)
    value = 0.0 if padding == "border" else float(padding)
    image = image - value if value else image
    if fast_path_applies(x) and fast_path_applies(grid) and suits_gathering(x):
        out = grid_sample_rows(image, grid, padding == "border")
    else:
        mode = "border" if padding == "border" else "zeros"
        out = F.grid_sample(image, grid, padding_mode=mode, align_corners=False)
    out = out + value if value else out
    layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    return out.to(x.dtype).contiguous(memory_format=layout)
