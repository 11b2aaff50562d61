"""BatchNorm as an affine map: what a fused Function needs of a norm, computed once; updates running statistics.

u = scale c + shift,  scale = weight / sqrt(var + eps),  shift = bias - scale mean
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.surgery.fused.maps import moments, row_means, wide


class Norm(NamedTuple):
    """Affine map of a BatchNorm for one map c (B, C, H, W); each tensor has shape (C,)."""

    weight: Tensor | None
    bias: Tensor | None
    mean: Tensor
    var: Tensor  # biased
    eps: float
    of_batch: bool  # True if mean and variance are those of c itself, so that gradients flow through them

    def rstd(self) -> Tensor:
        """Return the reciprocal of the standard deviation, (C,)."""
        return (self.var + self.eps).rsqrt()

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return scale and shift, (C,)."""
        scale = self.rstd() if self.weight is None else self.rstd() * self.weight
        shift = -scale * self.mean
        return scale, shift if self.bias is None else shift + self.bias

    def applied(self, c: Tensor) -> Tensor:
        """Return u by its definition, differentiable any number of times."""
        if self.of_batch:
            return F.batch_norm(c, None, None, self.weight, self.bias, True, 0.0, self.eps)
        return self.with_these(c)

    def with_these(self, c: Tensor) -> Tensor:
        """Return u with the stored mean and variance, as constants."""
        return F.batch_norm(c, self.mean, self.var, self.weight, self.bias, False, 0.0, self.eps)


@torch.no_grad()
def taken(norm: nn.BatchNorm2d, c: Tensor) -> tuple[Norm, Tensor]:
    """Return BatchNorm's scale and shift for `c`, as a Norm, and the means of `c` (B, C).

    The running statistics are updated as by the norm's own forward pass.

    Raises:
        ValueError: in training, one value for each channel.
    """
    stored = (norm.running_mean, norm.running_var)
    if not norm.training and all(each is not None for each in stored):
        mean, var = (each.to(wide(c.dtype), copy=True) for each in stored if each is not None)  # buffers may change
        return Norm(norm.weight, norm.bias, mean, var, norm.eps, False), row_means(c)
    size = c.numel() // c.shape[1]
    if size == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(c.shape)}")
    means, mean, var = moments(c)
    if norm.training and norm.track_running_stats:
        momentum = norm.momentum
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
            momentum = 1 / float(norm.num_batches_tracked) if momentum is None else momentum
        for running, new in zip(stored, (mean, var * (size / (size - 1))), strict=True):
            if running is not None:
                running.lerp_(new.to(running.dtype), momentum or 0.0)
    return Norm(norm.weight, norm.bias, mean, var, norm.eps, True), means
