"""1x1 convolutions at inference as the matrix products that they are.

With the channels last, a map is a matrix with a row for each position, and a 1x1 convolution its product with the
weights. PyTorch's convolution comes to the same product by way of copies.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.ops.fast_path import fast_path_applies


class Pointwise(nn.Conv2d):
    """A 1x1 convolution of stride 1, without groups or padding; as a product where its input's channels come last."""

    def forward(self, input: Tensor) -> Tensor:
        if not fast_path_applies(input) or not input.is_contiguous(memory_format=torch.channels_last):
            return super().forward(input)
        return F.linear(input.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


def multiply_pointwise(model: nn.Module) -> int:
    """Make products of the 1x1 convolutions of a model, in place; their number."""
    found = [each for each in model.modules() if type(each) is nn.Conv2d and is_pointwise(each)]
    for each in found:
        each.__class__ = Pointwise
    return len(found)


def is_pointwise(conv: nn.Conv2d) -> bool:
    return (conv.kernel_size, conv.stride, conv.padding, conv.groups) == ((1, 1), (1, 1), (0, 0), 1)
