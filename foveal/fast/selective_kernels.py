"""Selective kernels, ours and timm's, that keep only their convolutions' outputs for the backward pass."""

import torch
from timm.layers import selective_kernel
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from foveal.fast.conditions import bypassable, eager, fusible
from foveal.fast.norms import taken
from foveal.fast.normed_selection import normed_selection
from foveal.foreign import class_names
from foveal.mechanisms import selective_kernel as ours


class SelectiveKernel(ours.SelectiveKernel):
    """The mechanism, its branches' norms and activations, their sum and the choice among them fused."""

    def forward(self, x: Tensor) -> Tensor:
        branches = [[*branch.children()] for branch in self.branches]
        if not (eager(x) and all(map(plain_sequence, self.branches))):
            return super().forward(x)
        cs = [conv(x) for conv, _, _ in branches]
        norms = [taken(norm, c)[0] for (_, norm, _), c in zip(branches, cs, strict=True)]
        return normed_selection(cs, norms, lambda s: self.weigh(s[:, :, None, None]))


def plain_sequence(branch: nn.Module) -> bool:
    """Whether a branch is a convolution, a BatchNorm and a ReLU, and nothing else."""
    parts = [*branch.children()]
    if not bypassable(branch, nn.Sequential) or len(parts) != 3:
        return False
    return isinstance(parts[0], nn.Conv2d) and fusible(parts[1]) and bypassable(parts[2], nn.ReLU)


class TimmSelectiveKernel(selective_kernel.SelectiveKernel):
    """timm's, fused in the same way."""

    def forward(self, x: Tensor) -> Tensor:
        attn = self.attn
        if not (eager(x) and all(map(plain_path, self.paths)) and not attn._forward_pre_hooks):
            return super().forward(x)
        inputs = x.split(self.in_channels // self.num_paths, 1) if self.split_input else [x] * self.num_paths
        cs = [path.conv(each) for path, each in zip(self.paths, inputs, strict=True)]
        norms = [taken(path.bn, c)[0] for path, c in zip(self.paths, cs, strict=True)]

        def select(s: Tensor) -> Tensor:
            rest = s.new_zeros(len(s), len(cs) - 1, *s.shape[1:])  # `attn` adds up the branches itself
            return attn(torch.cat((s[:, None], rest), 1)[..., None, None]).flatten(2)

        return normed_selection(cs, norms, select)


def plain_path(path: nn.Module) -> bool:
    """Whether one of timm's branches is a convolution, a BatchNorm and a ReLU, and nothing else."""
    if not bypassable(path, type(path)) or class_names(path)[0] != "timm.layers.conv_bn_act.ConvNormAct":
        return False
    norm = path.bn
    return (
        path.aa is None
        and fusible(norm, BatchNormAct2d)
        and bypassable(norm.drop, nn.Identity)
        and bypassable(norm.act, nn.ReLU)
    )
