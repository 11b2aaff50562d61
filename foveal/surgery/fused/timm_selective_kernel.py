"""timm's selective kernel, fused as in `foveal.surgery.fused.selective_kernel`."""

import torch
from timm.layers import selective_kernel
from timm.layers.conv_bn_act import ConvNormAct
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from foveal.surgery.fused.conditions import bypassable, eager, fusible
from foveal.surgery.fused.normed_selection import normed_selection
from foveal.surgery.fused.norms import taken
from foveal.surgery.fused.swap import original_forward


class SelectiveKernel(selective_kernel.SelectiveKernel):
    """timm's selective kernel that saves only the outputs of its convolutions for the backward pass."""

    __prepare_scriptable__ = original_forward

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and eager(x) and all(map(plain_path, self.paths)) and not self.attn._forward_pre_hooks):
            return super().forward(x)
        inputs = x.split(self.in_channels // self.num_paths, 1) if self.split_input else [x] * self.num_paths
        cs = [path.conv(each) for path, each in zip(self.paths, inputs, strict=True)]
        norms = [taken(path.bn, c)[0] for path, c in zip(self.paths, cs, strict=True)]
        return normed_selection(cs, norms, self.select)

    def select(self, s: Tensor) -> Tensor:
        """Return the weights (B, K, C) from the mean of all branches (B, C); `attn` sums the branches itself."""
        others = s.new_zeros(len(s), self.num_paths - 1, *s.shape[1:])
        return self.attn(torch.cat((s[:, None], others), 1)[..., None, None]).flatten(2)


def plain_path(path: nn.Module) -> bool:
    """Return True if a branch is a convolution, a BatchNorm and a ReLU, and nothing else."""
    if not bypassable(path, ConvNormAct) or path.aa is not None or not fusible(path.bn, BatchNormAct2d):
        return False
    return bypassable(path.bn.drop, nn.Identity) and bypassable(path.bn.act, nn.ReLU)
