"""Selective kernel with fused norms, activations, sum and selection of its branches."""

from typing import Any

from torch import Tensor, nn

from foveal.mechanisms import selective_kernel
from foveal.surgery.fused.conditions import bypassable, eager, fusible
from foveal.surgery.fused.normed_selection import normed_selection
from foveal.surgery.fused.norms import taken
from foveal.surgery.fused.swap import original_forward


class SelectiveKernel(selective_kernel.SelectiveKernel):
    """Selective kernel that saves only the outputs of its convolutions for the backward pass."""

    __prepare_scriptable__ = original_forward

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and eager(x) and all(map(plain_sequence, self.branches))):
            return super().forward(x)
        steps: list[list[Any]] = [[*branch.children()] for branch in self.branches]
        cs = [conv(x) for conv, _, _ in steps]
        norms = [taken(norm, c)[0] for (_, norm, _), c in zip(steps, cs, strict=True)]
        return normed_selection(cs, norms, self.weigh)


def plain_sequence(branch: nn.Module) -> bool:
    """Return True if a branch is a convolution, a BatchNorm and a ReLU, and nothing else."""
    parts = [*branch.children()]
    if not bypassable(branch, nn.Sequential) or len(parts) != 3:
        return False
    return isinstance(parts[0], nn.Conv2d) and fusible(parts[1]) and bypassable(parts[2], nn.ReLU)
