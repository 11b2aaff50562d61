"""Images without labels, for prediction: files, folders of files, pictures and pixels in memory, as one part."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from foveal.core.batches import as_tensor, dtype_name
from foveal.core.validation import check_images
from foveal.data.folder import Files
from foveal.data.image_files import from_memory, why_no_image
from foveal.data.parts import InMemory, Part
from foveal.data.preprocessing import Preprocessing
from foveal.data.text_files import check_names


@dataclass(frozen=True)
class ImageSource:
    """A part whose labels mean nothing, and the files that were left out, with the reason."""

    part: Part
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pictures:
    """Images of Pillow as a part."""

    images: Sequence[Image.Image]
    names: Sequence[str]
    labels: Tensor
    transform: Callable[[Image.Image], Tensor]
    value_range: tuple[float, float] | None

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        chosen = [from_memory(self.images[index], f"image {index}", self.value_range) for index in indices]
        return torch.stack([self.transform(image) for image in chosen]), self.labels[torch.as_tensor(indices)]


def image_source(images: Any, preprocessing: Preprocessing) -> ImageSource | None:
    """Return images as a part.

    Args:
        images: a path of an image file, or of a folder with image files at any depth; an image of Pillow; a list or
            tuple of these; uint8 pixels (B, C, H, W), a tensor or an array.
        preprocessing: of the network.

    Returns:
        The source; None for anything else, such as a loader.

    Raises:
        ValueError: an empty list; pixels of another shape or size than the network's.
        TypeError: paths and images of Pillow in one list.
    """
    several = list(images) if isinstance(images, list | tuple) else [images]
    if not several:
        raise ValueError("images: an empty list; at least one image is needed")
    paths = [isinstance(each, str | Path) for each in several]
    pictures = [isinstance(each, Image.Image) for each in several]
    if all(paths):
        return file_source(several, preprocessing)
    labels = torch.zeros(len(several), dtype=torch.int64)
    names = [str(index) for index in range(len(several))]
    if all(pictures):
        return ImageSource(Pictures(several, names, labels, preprocessing.transform(), preprocessing.value_range))
    if any(paths) or any(pictures):
        raise TypeError("images: paths, images of Pillow and other values in one list; one kind is needed")
    pixels = as_tensor(images)
    if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8:
        return None
    check_images(pixels, "images")
    check_pixels(pixels, preprocessing)
    numbers = [str(index) for index in range(len(pixels))]
    return ImageSource(InMemory(pixels, torch.zeros(len(pixels), dtype=torch.int64), numbers))


def check_pixels(images: Tensor, preprocessing: Preprocessing) -> None:
    """Check that images (B, C, H, W) are normalized floats, or uint8 pixels of the network's size.

    Raises:
        ValueError: another type or size.
    """
    if images.is_floating_point():
        return
    if images.dtype != torch.uint8:
        raise ValueError(f"images of type {dtype_name(images)}; uint8 pixels, or normalized floats, are needed")
    if images.shape[2:] != preprocessing.shape[1:]:
        height, width = preprocessing.shape[1:]
        raise ValueError(
            f"images of {images.shape[2]} x {images.shape[3]} pixels, and the network takes {height} x {width}; hand "
            "over files or images of Pillow, which are resized"
        )


def file_source(paths: Sequence[str | Path], preprocessing: Preprocessing) -> ImageSource:
    """List image files, those of folders too, in order; files without the name of an image are left out."""
    names: list[str] = []
    for path in map(str, paths):
        names += files_below(path) if os.path.isdir(path) else [path]
    check_names("images", names)
    skipped = {name: reason for name in names if (reason := why_no_image(Path(name))) is not None}
    left = list(dict.fromkeys(name for name in names if name not in skipped))
    labels = torch.zeros(len(left), dtype=torch.int64)
    part = Files(Path(), left, labels, preprocessing.transform(), preprocessing.value_range)
    return ImageSource(part, skipped)


def files_below(folder: str) -> list[str]:
    """List the files in a folder at any depth, without hidden ones, folder by folder in order."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [os.path.join(place, name) for name in sorted(files) if not name.startswith(".")]
    return found
