"""The selective kernel, its branches' norms and activations, their sum and the choice among them fused."""

from typing import Any

from torch import Tensor, nn

from foveal.fast.conditions import bypassable, eager, fusible
from foveal.fast.normed_selection import normed_selection
from foveal.fast.norms import taken
from foveal.fast.seam import own_form
from foveal.mechanisms import selective_kernel


class SelectiveKernel(selective_kernel.SelectiveKernel):
    """The mechanism; for the backward pass it keeps only what its convolutions gave."""

    __prepare_scriptable__ = own_form

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and eager(x) and all(map(plain_sequence, self.branches))):
            return super().forward(x)
        steps: list[list[Any]] = [[*branch.children()] for branch in self.branches]
        cs = [conv(x) for conv, _, _ in steps]
        norms = [taken(norm, c)[0] for (_, norm, _), c in zip(steps, cs, strict=True)]
        return normed_selection(cs, norms, self.weigh)


def plain_sequence(branch: nn.Module) -> bool:
    """Whether a branch is a convolution, a BatchNorm and a ReLU, and nothing else."""
    parts = [*branch.children()]
    if not bypassable(branch, nn.Sequential) or len(parts) != 3:
        return False
    return isinstance(parts[0], nn.Conv2d) and fusible(parts[1]) and bypassable(parts[2], nn.ReLU)
