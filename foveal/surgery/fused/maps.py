"""Reductions over maps (B, C, H, W) without a temporary map, or with only a small part of one.

Sums are accumulated in float32 where maps are of lower precision.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from foveal.ops.pooling import map_means

PART = 2**22  # bytes of a map processed at a time where a temporary is needed; fits into a cache
STEEP = 4.0  # squared mean over variance above which a variance from sums of squares loses digits


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which sums over a map are accumulated."""
    return dtype if dtype == torch.float64 else torch.float32


def parts(like: Tensor, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split tensors, images first, into equal runs of images of about `PART` bytes of `like` in its wide dtype."""
    image = max(like[:1].numel(), 1) * wide(like.dtype).itemsize
    images = max(PART // image, 1)
    return zip(*(tensor.split(images) for tensor in tensors), strict=True)


def row_means(x: Tensor) -> Tensor:
    """Return the means over H and W, (B, C)."""
    return map_means(x) if x.dtype == wide(x.dtype) else x.mean((2, 3), dtype=wide(x.dtype))


def row_sums(x: Tensor) -> Tensor:
    """Return the sums over H and W, (B, C)."""
    return row_means(x) * (x.shape[2] * x.shape[3])


def row_dots(x: Tensor, y: Tensor) -> Tensor:
    """Return the sums of x y over H and W, (B, C)."""
    dtype = wide(x.dtype)
    return torch.cat([(each.to(dtype) * other).sum((2, 3)) for each, other in parts(x, x, y)])


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the means over H and W (B, C), and mean and biased variance (C) over B, H and W."""
    means = row_means(x)
    mean = means.mean(0)
    if x.is_contiguous() and x.dtype == means.dtype:  # torch's own moments are three times slower in this case
        rows = torch.linalg.vector_norm(x, dim=(2, 3)).double().square_()
        exact = means.double().mean(0)
        var = rows.mean(0) / (x.shape[2] * x.shape[3]) - exact.square()
        if bool((exact.square() <= STEEP * var).all()):  # also false for values that are not finite
            return means, mean, var.to(mean.dtype)
    _, var = torch.batch_norm_update_stats(x, torch.zeros_like(mean), torch.zeros_like(mean), 0.0)
    return means, mean, var.to(mean.dtype)
