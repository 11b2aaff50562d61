"""Mean of each channel over a map, the first step of most channel attention.

With the channels last, PyTorch's mean over a map of many megabytes, or of half precision, is several times slower than
its average pooling, which adds whole rows of channels, in single precision, one after the other.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from foveal.ops.fast_path import fast_path_applies

NUMBERS = 1 << 20  # fewest elements of a single-precision map at which pooling is faster
POSITIONS = 64 * 64  # most positions at which a sequential sum is accurate to a few units in the sixth digit


def map_means(x: Tensor) -> Tensor:
    """Return the means of x (B, C, H, W) over H and W: (B, C)."""
    if suits_pooling(x):
        return F.avg_pool2d(x, x.shape[2:]).flatten(1)
    return x.mean((2, 3))


def suits_pooling(x: Tensor) -> bool:
    """Return True if no gradient is needed and average pooling is faster and as accurate as the mean."""
    if torch.is_grad_enabled() or not fast_path_applies(x):
        return False
    if len(x) < torch.get_num_threads():  # pooling gives each thread images of its own
        return False
    large = x.dtype in (torch.bfloat16, torch.float16) or x.numel() >= NUMBERS
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return large and last and x.shape[2] * x.shape[3] <= POSITIONS


def holds_one_image(x: Tensor) -> bool:
    """Return True for a batch of one image; False while `torch.fx` traces, which knows no sizes."""
    return isinstance(x, Tensor) and len(x) == 1
