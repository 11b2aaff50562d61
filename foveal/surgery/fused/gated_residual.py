"""Fused BatchNorm, channel gate, addition and ReLU: y = relu(g u + r), u = norm(c), g a function of mean u.

Autograd saves three maps for this: c for the norm, u for the gate, y for the ReLU. The fused form saves c and y, and
the adjacent layers save y anyway. With u = scale c + shift and e = dL/dy where y > 0, sums over H and W give

    dL/dg = sum(e u) = scale sum(e c) + shift sum(e)                (B, C)
    dL/du = g e + dL/dz / (H W)                                     z = mean u
    dL/dc = scale (dL/du - mean(dL/du) - v mean(v dL/du))           v = (c - mean) / sqrt(var + eps), means over B, H, W

so that neither u nor dL/du is ever computed as a map.

The gate between z and g is ordinary autograd and arbitrary. Therefore there are two Functions, one before the gate and
one after it. dL/dc can be written in one pass only where both gradients are known, so the second Function sends the
first its part, as the gradients of two outputs without forward values: `handle`, a map without memory, receives e, and
`carrier` receives g, sum(e) and sum(e c).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from foveal.surgery.fused.maps import parts, row_dots, row_sums, wide
from foveal.surgery.fused.norms import Norm


def gated_residual(c: Tensor, norm: Norm, means: Tensor, gate: Callable[[Tensor], Tensor], shortcut: Tensor) -> Tensor:
    """Return relu(gate(z) norm(c) + shortcut), where z is the mean of norm(c) over H and W.

    Args:
        c: (B, C, H, W).
        norm: affine map of the norm for c.
        means: means of c over H and W, (B, C).
        gate: differentiable function from (B, C) to (B, C).
        shortcut: shape of c.
    """
    z, handle, carrier = Squeeze.apply(c, *norm[:4], means, norm.eps, norm.of_batch)
    g = gate(z).to(z.dtype)
    return Excite.apply(handle, carrier, c, shortcut, g, *norm)


class Squeeze(Function):
    """Function from c to z, the means of norm(c) over H W; `handle` and `carrier` get gradients from `Excite`."""

    @staticmethod
    def forward(
        ctx: Any,
        c: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        means: Tensor,
        eps: float,
        of_batch: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(c, weight, bias, mean, var, means)
        ctx.eps, ctx.of_batch = eps, of_batch
        scale, shift = Norm(weight, bias, mean, var, eps, of_batch).affine()
        return means * scale + shift, c.new_empty(()).expand(c.shape), means.new_empty(()).expand(3, *means.shape)

    @staticmethod
    def backward(ctx: Any, dz: Tensor | None, e: Tensor | None, carried: Tensor | None) -> tuple[Tensor | None, ...]:
        c, weight, bias, mean, var, means = ctx.saved_tensors
        norm = Norm(weight, bias, mean, var, ctx.eps, ctx.of_batch)
        dz = torch.zeros_like(means) if dz is None else dz
        if torch.is_grad_enabled():  # for a second derivative
            inputs = [each for each in (c, weight, bias) if each is not None and each.requires_grad]
            du = dz[:, :, None, None] / c[0, 0].numel()
            if e is not None and carried is not None:
                du = du + e * carried[0, :, :, None, None]
            grads = iter(torch.autograd.grad(norm.applied(c), inputs, du.to(c.dtype).expand_as(c), create_graph=True))
            tracked = [next(grads) if each is not None and each.requires_grad else None for each in (c, weight, bias)]
            return (*tracked, None, None, None, None, None)
        if e is None or carried is None:
            carried = torch.zeros_like(means).expand(3, *means.shape)
        found = gradients(ctx.needs_input_grad[0], c, norm, means, dz, e, carried)
        return (*found, None, None, None, None, None)


def gradients(
    wanted: bool, c: Tensor, norm: Norm, means: Tensor, dz: Tensor, e: Tensor | None, carried: Tensor
) -> tuple[Tensor | None, ...]:
    """Return dL/dc, dL/dweight and dL/dbias from dL/du = g e + dz / (H W).

    `carried` is g, the sums of e, and the sums of e c.
    """
    g, sums, dots = carried
    rstd, (scale, _) = norm.rstd(), norm.affine()
    dbias = (g * sums + dz).sum(0)
    dweight = ((g * dots + dz * means).sum(0) - norm.mean * dbias) * rstd
    size = c.shape[2] * c.shape[3]
    row = dz / size  # dL/du without the term g e
    slope = torch.zeros_like(scale)
    if norm.of_batch:
        slope = -scale * rstd * dweight / (len(c) * size)
        row = row - dbias / (len(c) * size)
    row = row * scale - slope * norm.mean
    dc = None
    if wanted:
        dc = rebuilt(c, torch.zeros_like(c) if e is None else e, g * scale, slope.expand_as(g), row)
    dtypes = (norm.weight, dweight), (norm.bias, dbias)
    return (dc, *(None if tensor is None else grad.to(tensor.dtype) for tensor, grad in dtypes))


def rebuilt(c: Tensor, e: Tensor, by_e: Tensor, by_c: Tensor, row: Tensor) -> Tensor:
    """Return by_e e + by_c c + row, with coefficients (B, C), in the precision of c."""
    out, dtype = torch.empty_like(c), by_e.dtype
    if c.dtype == dtype:
        torch.mul(e, as_map(by_e), out=out).addcmul_(c, as_map(by_c)).add_(as_map(row))
        return out
    for o, *maps in parts(c, out, e, c, as_map(by_e), as_map(by_c), as_map(row)):
        e_, c_, by_e_, by_c_, row_ = (each.to(dtype) for each in maps)
        o.copy_((e_ * by_e_).addcmul_(c_, by_c_).add_(row_))
    return out


class Excite(Function):
    """Function y = relu(g norm(c) + shortcut); it sends the gradient for c to `Squeeze`."""

    @staticmethod
    def forward(
        ctx: Any,
        handle: Tensor,
        carrier: Tensor,
        c: Tensor,
        shortcut: Tensor,
        g: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        eps: float,
        of_batch: bool,
    ) -> Tensor:
        scale, shift = Norm(weight, bias, mean, var, eps, of_batch).affine()
        y = gated(c, shortcut, g * scale, g * shift)
        ctx.save_for_backward(c, y, g, weight, bias, mean, var)
        ctx.eps, ctx.of_batch = eps, of_batch
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        c, y, g, weight, bias, mean, var = ctx.saved_tensors
        norm = Norm(weight, bias, mean, var, ctx.eps, ctx.of_batch)
        e = torch.ops.aten.threshold_backward(dy, y.detach(), 0)
        if torch.is_grad_enabled():  # for a second derivative; `Squeeze` then reads e and g alone
            carried = torch.stack((g, torch.zeros_like(g), torch.zeros_like(g)))
            dg = (e * norm.applied(c)).sum((2, 3), dtype=g.dtype)
        else:
            scale, shift = norm.affine()
            carried = torch.stack((g, row_sums(e), row_dots(e, c)))
            dg = scale * carried[2] + shift * carried[1]
        return (e, carried, None, e, dg, *(None,) * 6)


def gated(c: Tensor, shortcut: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return relu(scale c + shift + shortcut), with scale and shift (B, C), in the precision of c."""
    out, dtype = torch.empty_like(c), wide(c.dtype)
    if c.dtype == dtype:
        return torch.addcmul(shortcut, c, as_map(scale), out=out).add_(as_map(shift)).relu_()
    for o, *maps in parts(c, out, shortcut, c, as_map(scale), as_map(shift)):
        r, c_, scale_, shift_ = (each.to(dtype) for each in maps)
        o.copy_(torch.addcmul(r, c_, scale_).add_(shift_).relu_())
    return out


def as_map(x: Tensor) -> Tensor:
    """Reshape (B, C) to (B, C, 1, 1)."""
    return x[:, :, None, None]
