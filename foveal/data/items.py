"""Items of the caller's datasets: an image and a label, understood or refused.

An image is a PIL image of mode L or RGB; a uint8 tensor or array (C, H, W); or a float one with values in [0, 1], which
is rounded to 8 bits. A label is a whole number from 0.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset

from foveal.core.names import one_line

MODES = ("L", "RGB")
CHANNELS_LAST = 4  # channels at most of an image (H, W, C), by which it is recognized


def read_item(place: str, dataset: Any, index: int) -> tuple[Tensor, int]:
    """Read an image (C, H, W) uint8 and its label.

    Args:
        place: the data, for messages.
        dataset: a map-style dataset.
        index: of the item.

    Raises:
        ValueError: the dataset fails, or its item is not understood; the message names the index.
    """
    place = f"{place}, image {index}"
    try:
        item = dataset[index]
    except Exception as error:  # any exception: it is the caller's dataset
        raise ValueError(f"{place}: the dataset fails, {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise ValueError(f"{place}: the item is a {type(item).__name__}; a pair (image, label) is needed")
    return as_uint8(place, item[0]), as_label(place, item[1])


def as_uint8(place: str, image: Any) -> Tensor:
    """Convert an image to (C, H, W) uint8; ValueError for one that is not understood."""
    if isinstance(image, Image.Image):
        if image.mode not in MODES:
            raise ValueError(f"{place}: a PIL image of mode {image.mode}; L or RGB is needed, as by convert('RGB')")
        pixels = torch.from_numpy(np.array(image))
        return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()
    if isinstance(image, np.ndarray) and image.dtype.kind in "biuf":
        image = torch.from_numpy(np.array(image))
    if not isinstance(image, Tensor):
        raise ValueError(f"{place}: a {type(image).__name__}; a PIL image, or a tensor or array (C, H, W), is needed")
    image = image.detach().as_subclass(Tensor).cpu()
    shape = tuple(image.shape)
    if len(shape) != 3 or 0 in shape or shape[2] <= CHANNELS_LAST < shape[0]:
        raise ValueError(f"{place}: shape {shape}; (C, H, W) is needed")
    if image.dtype == torch.uint8:
        return image
    kind = str(image.dtype).removeprefix("torch.")
    if not image.is_floating_point():
        raise ValueError(f"{place}: values of type {kind}; uint8, or floats in [0, 1], are needed")
    least, most = image.min().item(), image.max().item()
    if not (least >= 0 and most <= 1):
        raise ValueError(
            f"{place}: {kind} values from {least:.4g} to {most:.4g}; uint8, or floats in [0, 1], are needed: leave out "
            "a normalization, which foveal does"
        )
    return (image.float() * 255).round().to(torch.uint8)


def as_label(place: str, label: Any) -> int:
    """Convert a label to a number; ValueError for another one than a whole number from 0."""
    if (isinstance(label, Tensor) and label.numel() == 1) or (isinstance(label, np.ndarray) and label.size == 1):
        label = label.item()
    whole = isinstance(label, int | np.integer) and not isinstance(label, bool)
    if not whole or not 0 <= label < 2**63:
        raise ValueError(f"{place}: label {label!r:.80}; a whole number from 0 is needed")
    return int(label)


def read_labels(place: str, dataset: Any) -> Tensor:
    """Return the labels (N,) int64: those that the dataset states, else those of its items, each read once.

    Raises:
        ValueError: a label that is not understood; another number of labels than of items.
    """
    stated = stated_labels(dataset)
    if stated is None:
        return torch.tensor([read_item(place, dataset, index)[1] for index in range(len(dataset))])
    if len(stated) != len(dataset):
        raise ValueError(f"{place}: {len(dataset):,} items, and {len(stated):,} labels in its targets or labels")
    return torch.tensor([as_label(f"{place}, label {index}", each) for index, each in enumerate(stated)])


def stated_labels(dataset: Any) -> Sequence[Any] | None:
    """Return a dataset's `targets` or `labels`, also those behind a Subset; None without any."""
    if isinstance(dataset, Subset):
        whole = stated_labels(dataset.dataset)
        return None if whole is None else [whole[index] for index in dataset.indices]
    for name in ("targets", "labels"):
        stated = getattr(dataset, name, None)
        if isinstance(stated, list | tuple | Tensor | np.ndarray):
            return list(stated)
    return None


def stated_classes(place: str, dataset: Any) -> tuple[str, ...] | None:
    """Return the names in a dataset's `classes`, also those behind a Subset; None without any.

    Raises:
        ValueError: another value than different names.
    """
    if isinstance(dataset, Subset):
        return stated_classes(place, dataset.dataset)
    stated = getattr(dataset, "classes", None)
    if stated is None:
        return None
    names = list(stated) if isinstance(stated, list | tuple | np.ndarray) else []
    if not names or not all(isinstance(each, str) for each in names) or len(set(names)) < len(names):
        raise ValueError(f"{place}: classes={stated!r:.80}; a list of different names is needed")
    return tuple(map(str, names))
