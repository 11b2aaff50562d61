"""Fused BatchNorm and ReLU in K branches, and their selection: V = sum_k a_k U_k, U_k = relu(norm_k(c_k)).

The weights a (B, K, C) are a function of s = sum_k mean U_k. Autograd saves c_k and U_k of every branch, and the
tensors for adding, stacking and weighting the branches. The fused form saves only the c_k:

    dL/da_k = sum over H and W of dL/dV U_k                         U_k recomputed from c_k
    dL/dU_k = a_k dL/dV + dL/ds / (H W)

As in `foveal.surgery.fused.gated_residual` the selection is ordinary autograd between two Functions. The second sends
the first, as the gradients of outputs without forward values, dL/dV by `handle` and a by `carrier`.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from foveal.surgery.fused.maps import parts, row_dots, row_means
from foveal.surgery.fused.norms import Norm

FIELDS = 4  # tensors of a Norm


def normed_selection(cs: Sequence[Tensor], norms: Sequence[Norm], select: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the sum over k of a_k relu(norm_k(c_k)), where a = select(s).

    Args:
        cs: K maps (B, C, H, W).
        norms: affine map of each branch's norm for its map.
        select: function from s (B, C), the means over H and W of the sum of the branches, to (B, K, C).
    """
    with torch.no_grad():
        us = [normed(c, norm) for c, norm in zip(cs, norms, strict=True)]
        means = reduce(torch.add, (row_means(u) for u in us))
    facts = tuple((norm.eps, norm.of_batch) for norm in norms)
    flat = [each for c, norm in zip(cs, norms, strict=True) for each in (c, *norm[:FIELDS])]
    s, handle, carrier = Fuse.apply(means, facts, *flat)
    a = select(s).to(s.dtype)
    return Select.apply(handle, carrier, a, facts, len(us), *us, *flat)


def normed(c: Tensor, norm: Norm) -> Tensor:
    """Return relu(norm(c))."""
    return norm.with_these(c).relu_()


def unpacked(flat: Sequence[Any], facts: Sequence[tuple[float, bool]]) -> list[tuple[Tensor, Norm]]:
    """Return each branch's map and norm."""
    step = FIELDS + 1
    branches = (flat[at : at + step] for at in range(0, len(flat), step))
    return [
        (c, Norm(weight, bias, mean, var, eps, of_batch))
        for (c, weight, bias, mean, var), (eps, of_batch) in zip(branches, facts, strict=True)
    ]


class Fuse(Function):
    """Function from the branches to s, an input here; `handle` and `carrier` receive gradients from `Select`."""

    @staticmethod
    def forward(
        ctx: Any, means: Tensor, facts: tuple[tuple[float, bool], ...], *flat: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*flat)
        ctx.facts = facts
        c = unpacked(flat, facts)[0][0]
        shape = (len(means), len(facts), means.shape[1])
        return means.clone(), c.new_empty(()).expand(c.shape), means.new_empty(()).expand(shape)

    @staticmethod
    def backward(ctx: Any, ds: Tensor | None, dv: Tensor | None, a: Tensor | None) -> tuple[Tensor | None, ...]:
        found: list[Tensor | None] = []
        for k, (c, norm) in enumerate(unpacked(ctx.saved_tensors, ctx.facts)):
            row = None if ds is None else (ds / c[0, 0].numel()).to(c.dtype)[:, :, None, None]
            weight = None if dv is None or a is None else a[:, k].to(c.dtype)[:, :, None, None]
            gradient = second if torch.is_grad_enabled() else first
            found += [*gradient(c, norm, dv, weight, row), None, None]
        return None, None, *found


def first(
    c: Tensor, norm: Norm, dv: Tensor | None, weight: Tensor | None, row: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Return dL/dc, dL/dweight and dL/dbias of one branch, from dL/dU = weight dv + row."""
    du = torch.zeros_like(c) if dv is None or weight is None else torch.mul(dv, weight, out=torch.empty_like(c))
    if row is not None:
        du += row
    for d, each in parts(c, du, c):
        torch.ops.aten.threshold_backward.grad_input(d, norm.with_these(each), 0, grad_input=d)
    output_mask = [True, norm.weight is not None, norm.bias is not None]
    stored = (None, None) if norm.of_batch else (norm.mean, norm.var)
    grads = torch.ops.aten.native_batch_norm_backward(
        du, c, norm.weight, *stored, norm.mean, norm.rstd(), norm.of_batch, norm.eps, output_mask
    )
    return tuple(each if wanted else None for each, wanted in zip(grads, output_mask, strict=True))


def second(
    c: Tensor, norm: Norm, dv: Tensor | None, weight: Tensor | None, row: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Return the same as `first` with a graph, for a second derivative."""
    du = torch.zeros_like(c)
    if dv is not None and weight is not None:
        du = du + dv * weight
    if row is not None:
        du = du + row
    inputs = [each for each in (c, norm.weight, norm.bias) if each is not None and each.requires_grad]
    grads = iter(torch.autograd.grad(norm.applied(c).relu(), inputs, du, create_graph=True))
    return tuple(next(grads) if each is not None and each.requires_grad else None for each in (c, *norm[:2]))


class Select(Function):
    """Function from the weights a and the branches U to V, which is written into the memory of the first branch."""

    @staticmethod
    def forward(
        ctx: Any,
        handle: Tensor,
        carrier: Tensor,
        a: Tensor,
        facts: tuple[tuple[float, bool], ...],
        count: int,
        *rest: Tensor,
    ) -> Tensor:
        us, flat = rest[:count], rest[count:]
        ctx.save_for_backward(a, *flat)
        ctx.facts, ctx.others = facts, len(rest)
        ctx.mark_dirty(us[0])
        v = us[0].mul_(weights(a, 0, us[0]))
        for k in range(1, count):
            v.addcmul_(us[k], weights(a, k, us[k]))
        return v

    @staticmethod
    def backward(ctx: Any, dv: Tensor) -> tuple[Tensor | None, ...]:
        a, *flat = ctx.saved_tensors
        branches = unpacked(flat, ctx.facts)
        if torch.is_grad_enabled():  # for a second derivative
            da = [(dv * norm.applied(c).relu()).sum((2, 3), dtype=a.dtype) for c, norm in branches]
        else:
            da = [dots_with_branch(dv, c, norm) for c, norm in branches]
        return (dv, a, torch.stack(da, 1), None, None, *(None,) * ctx.others)


def dots_with_branch(dv: Tensor, c: Tensor, norm: Norm) -> Tensor:
    """Return the sums of dv U over H and W, (B, C), with U recomputed."""
    return torch.cat([row_dots(normed(each, norm), d) for each, d in parts(c, c, dv)])


def weights(a: Tensor, k: int, like: Tensor) -> Tensor:
    """Return the weights of branch k as a map (B, C, 1, 1)."""
    return a[:, k].to(like.dtype)[:, :, None, None]
