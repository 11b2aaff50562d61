"""The mean of each channel over a map, which most attention to channels begins with.

With the channels last, PyTorch's mean goes through a map of many megabytes, or of half precision, several times slower
than its average pooling does, which adds whole rows of channels, in single precision, one after the other.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from foveal.ops.fast_path import fast_path_applies

NUMBERS = 1 << 20  # in a map of single precision from which pooling is sooner done
POSITIONS = 64 * 64  # up to which a sum one after the other is good to a few units in the sixth digit


def map_means(x: Tensor) -> Tensor:
    """The means of x (B, C, H, W) over H and W: (B, C)."""
    if suits_pooling(x):
        return F.avg_pool2d(x, x.shape[2:]).flatten(1)
    return x.mean((2, 3))


def suits_pooling(x: Tensor) -> bool:
    """Whether no gradient is asked for, and pooling is faster and as good."""
    if torch.is_grad_enabled() or not fast_path_applies(x):
        return False
    if len(x) < torch.get_num_threads():  # pooling gives each thread images of its own
        return False
    large = x.dtype in (torch.bfloat16, torch.float16) or x.numel() >= NUMBERS
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return large and last and x.shape[2] * x.shape[3] <= POSITIONS
