"""BatchNorm over the images of all processes on any device; torch's own, `nn.SyncBatchNorm`, needs a GPU.

    mean = sum over processes of sum x / N,  var = sum over processes of sum (x - mean)^2 / N

with N the values of a channel in all processes (Ioffe and Szegedy, 2015, over the whole batch). Every call of
`F.batch_norm` is replaced while the context lasts, so that no module changes: that of torch's modules, of timm's
BatchNormAct2d and of one's own. The fused forms of `foveal.surgery` are off in this context.
"""

from collections.abc import Callable
from inspect import signature
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

ARGUMENTS = signature(F.batch_norm)


class SumOverProcesses(torch.autograd.Function):
    """Sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        total = grad.clone()
        dist.all_reduce(total)
        return total


class BatchNormOverProcesses(TorchFunctionMode):
    """Context in which `F.batch_norm` takes the statistics of a batch from all processes."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is F.batch_norm:
            given = ARGUMENTS.bind(*args, **(kwargs or {}))
            given.apply_defaults()
            if given.arguments["training"]:
                return normalize(SimpleNamespace(**given.arguments))
        return function(*args, **(kwargs or {}))


def normalize(given: SimpleNamespace) -> Tensor:
    """Normalize by the statistics of all processes, and update the running ones.

    Args:
        given: the arguments of `F.batch_norm`; its `input` is (B, C, ...).
    """
    x: Tensor = given.input
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    others = [0, *range(2, x.ndim)]
    here = wide.new_tensor([x.numel() / x.shape[1]])
    total = SumOverProcesses.apply(torch.cat([wide.sum(others), here]))
    count = total[-1].detach()
    mean = total[:-1] / count
    centred = wide - along(mean, x)
    var = SumOverProcesses.apply((centred * centred).sum(others)) / count
    with torch.no_grad():
        for running, new in ((given.running_mean, mean), (given.running_var, var * count / (count - 1))):
            if running is not None:
                running.lerp_(new.to(running.dtype), given.momentum)
    scale = (var + given.eps).rsqrt()
    out = centred * along(scale if given.weight is None else scale * given.weight, x)
    return (out if given.bias is None else out + along(given.bias, x)).to(x.dtype)


def along(channels: Tensor, x: Tensor) -> Tensor:
    """Shape values of channels (C,) to (1, C, 1, ...), as x has dimensions."""
    return channels.view(1, -1, *[1] * (x.ndim - 2))
