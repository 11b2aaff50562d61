"""Images in the forms in which Python code holds them: tensors, NumPy arrays, PIL images, and lists of these.

Axes: B batch, C channel, H W image.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from foveal.core.batches import as_tensor
from foveal.core.names import one_line

CHANNELS = (1, 2, 3)  # that can be drawn
HIGH_RANGE = ("F", "I")  # PIL's modes whose values are not 0 to 255, also "I;16" and the like


def read_images(images: Any) -> Tensor:
    """Return images as a tensor (B, C, H, W) of 1 to 3 channels, with their own values.

    Args:
        images: a tensor (B, C, H, W); an array (B, H, W, C) or (B, C, H, W), or of one image (H, W, C) or (H, W); a PIL
            image; a list or tuple of PIL images, arrays of one image, or tensors (C, H, W), all of one size.

    Raises:
        TypeError: another type.
        ValueError: a shape that has no such meaning, or two; images of several sizes.
    """
    if isinstance(images, list | tuple):
        return stacked([read_image(each) for each in images])
    if isinstance(images, Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4):
        return read_image(images)[None]
    value = as_tensor(images)
    if not isinstance(value, Tensor):
        raise TypeError(f"images: {type(images).__name__} given; a tensor, an array, PIL images or a list is needed")
    last = value.ndim == 4 and value.shape[3] in CHANNELS and isinstance(images, np.ndarray)
    if last and value.shape[1] in CHANNELS:
        raise ValueError(f"images {tuple(value.shape)}: (B, C, H, W) or (B, H, W, C)? a tensor is read as (B, C, H, W)")
    value = value.movedim(3, 1) if last else value
    if value.ndim != 4 or value.shape[1] not in CHANNELS or not value.numel():
        hint = "; images[None] makes a batch of one image" if value.ndim == 3 else ""
        raise ValueError(f"images {tuple(value.shape)}: (B, 1 to 3, H, W) is needed, with B from 1{hint}")
    return value


def read_image(image: Any) -> Tensor:
    """Return one image as a tensor (C, H, W)."""
    if isinstance(image, Image.Image):
        if image.mode.startswith(HIGH_RANGE):
            raise ValueError(f"images: a PIL image of mode {image.mode!r}; one of 8 bits is needed, as of mode 'RGB'")
        image = decoded(image)
    value = as_tensor(image)
    if not isinstance(value, Tensor):
        raise TypeError(f"images: a list of {type(image).__name__}; tensors, arrays or PIL images are needed")
    if isinstance(image, np.ndarray):
        value = value[None] if value.ndim == 2 else value.movedim(2, 0) if value.ndim == 3 else value
    if value.ndim != 3 or value.shape[0] not in CHANNELS:
        layout = "an array (H, W, 1 to 3) or (H, W)" if isinstance(image, np.ndarray) else "a tensor (1 to 3, H, W)"
        shape = tuple(image.shape)
        raise ValueError(f"images: one of shape {shape}; {layout} is needed")
    return value


def decoded(image: Image.Image) -> np.ndarray:
    """Return the pixels of a PIL image as (H, W) or (H, W, 3) uint8; an image that Pillow opened is read only here.

    Raises:
        ValueError: its file cannot be read.
    """
    try:
        return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    except Exception as error:  # a decoder may raise anything at a broken file
        name = getattr(image, "filename", "")
        raise ValueError(f"images: the PIL image {str(name)!r} cannot be read: {one_line(error):.300}") from error


def stacked(images: list[Tensor]) -> Tensor:
    """Stack images of one shape and type: (B, C, H, W)."""
    kinds = list(dict.fromkeys((tuple(each.shape), each.dtype, each.device) for each in images))
    if not images:
        raise ValueError("images: an empty list; at least one image is needed")
    if len(kinds) > 1:
        (first, dtype, _), (second, other, _) = kinds[:2]
        raise ValueError(f"images: {first} of {dtype} and {second} of {other} (C, H, W); one size and type is needed")
    return torch.stack(images)
