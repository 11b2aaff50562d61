"""1x1 convolutions as matrix products, for inference.

In the channels-last memory format, a feature map is a matrix with one row for each position, and a 1x1 convolution is
its product with the weights. PyTorch's convolution computes the same product with additional copies.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.ops.fast_path import fast_path_applies


class Pointwise(nn.Conv2d):
    """1x1 convolution of stride 1 without groups or padding, as a matrix product for channels-last inputs."""

    def forward(self, input: Tensor) -> Tensor:
        if not fast_path_applies(input) or not input.is_contiguous(memory_format=torch.channels_last):
            return super().forward(input)
        return F.linear(input.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


def multiply_pointwise(model: nn.Module) -> int:
    """Replace the 1x1 convolutions of a model with `Pointwise`, in place; return their number."""
    found = [each for each in model.modules() if type(each) is nn.Conv2d and is_pointwise(each)]
    for each in found:
        each.__class__ = Pointwise
    return len(found)


def is_pointwise(conv: nn.Conv2d) -> bool:
    """Return True for a 1x1 convolution of stride 1 without padding and groups."""
    return (conv.kernel_size, conv.stride, conv.padding, conv.groups) == ((1, 1), (1, 1), (0, 0), 1)
