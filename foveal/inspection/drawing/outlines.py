"""Outlines of objects, drawn into images: white with black around it, visible on every ground and in grey."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

WIDTH = 1 / 160  # of a line, as a share of the image's shorter side; at least a pixel
BLACK, WHITE = 0, 255


def outlined(images: Tensor, objects: Sequence[Tensor]) -> Tensor:
    """Draw the outlines of objects into images.

    Args:
        images: uint8 (B, C, H, W).
        objects: of each image boxes (N, 4) as x0, y0, x1, y1 in pixels, or masks (N, H, W) of bool.

    Returns:
        A copy of the images.
    """
    drawn = images.clone()
    height, width = images.shape[2:]
    line = max(1, round(WIDTH * min(height, width)))
    for image, each in zip(drawn, objects, strict=True):
        masks = each if each.ndim == 3 else filled(each, height, width)
        inner = masks & ~shrunk(masks, line)
        outer = grown(masks, line) & ~masks
        image.masked_fill_(outer.any(0), BLACK).masked_fill_(inner.any(0), WHITE)
    return drawn


def filled(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return the pixels whose centre lies in each box (N, 4): bool (N, H, W)."""
    x0, y0, x1, y1 = (edge[:, None] for edge in boxes.unbind(1))
    rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    return ((y0 <= rows) & (rows < y1))[:, :, None] & ((x0 <= columns) & (columns < x1))[:, None, :]


def grown(masks: Tensor, by: int) -> Tensor:
    """Grow masks (N, H, W) by pixels in all directions."""
    return F.max_pool2d(masks.float(), 2 * by + 1, 1, by) > 0 if len(masks) else masks


def shrunk(masks: Tensor, by: int) -> Tensor:
    """Shrink masks (N, H, W) by pixels from all directions, also from the image's edge."""
    outside = F.pad(~masks, (by, by, by, by), value=True)
    return ~grown(outside, by)[:, by:-by, by:-by]
