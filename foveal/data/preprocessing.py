"""Preprocessing: from images to the input of a network, the same for training, look, audit, score and export.

An image file is resized and cropped to uint8 pixels of the network's size; a batch of uint8 images (B, C, H, W) then
becomes (x / 255 - mean) / std.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos", "hamming", "box", "random")
SIDE, LARGE = 8192, 1e6  # at most: pixels of a side, and any other number


@dataclass(frozen=True)
class Preprocessing:
    """Size, crop and normalization of the images that a network takes."""

    shape: tuple[int, int, int]  # C, H, W
    mean: tuple[float, ...]  # per channel, of images in [0, 1]
    std: tuple[float, ...]
    crop_pct: float = 1.0  # share of the resized image's shorter side that the crop keeps
    interpolation: str = "bilinear"
    value_range: tuple[float, float] | None = None  # of 16-bit pixels: becomes 0 to 255; None without such files

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "Preprocessing":
        """Rebuild from the facts of a checkpoint, whose tuples are lists.

        Raises:
            ValueError: a fact that is missing, of another type or out of its range.
        """
        channels, height, width = numbers(facts, "shape", 3, 1, SIDE, int)
        mean = numbers(facts, "mean", channels, -LARGE, LARGE)
        std = numbers(facts, "std", channels, 1 / LARGE, LARGE)
        (crop_pct,) = numbers({"crop_pct": [facts.get("crop_pct")]}, "crop_pct", 1, 0.1, 1)
        if facts.get("interpolation") not in INTERPOLATIONS:
            known = ", ".join(INTERPOLATIONS)
            raise ValueError(f"states interpolation={facts.get('interpolation')!r:.80}; one of {known} is needed")
        if facts.get("value_range") is None:
            return cls((channels, height, width), mean, std, crop_pct, facts["interpolation"])
        low, high = numbers(facts, "value_range", 2, -LARGE, LARGE)
        if low >= high:
            raise ValueError(f"states value_range={facts['value_range']}; the first number must be below the second")
        return cls((channels, height, width), mean, std, crop_pct, facts["interpolation"], (low, high))

    @classmethod
    def of_images(cls, images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> "Preprocessing":
        """Describe images (N, C, H, W) that are not resized."""
        _, channels, height, width = images.shape
        return cls((channels, height, width), mean, std)

    def transform(self, training: bool = False, auto_augment: str | None = None) -> Callable[[Any], Tensor]:
        """Create the transform from an image of Pillow to uint8 (3, H, W): resize and center crop, as timm's; in
        training timm's random crops and colours, or its `auto_augment` instead of the colours.

        Outside of training it also carries torchvision's BoundingBoxes of an image.

        Raises:
            ValueError: `auto_augment` is none of timm's.
        """
        if not training:
            from foveal.data.resize_and_crop import resize_and_crop

            return resize_and_crop(self.shape[1:], self.crop_pct, self.interpolation)
        from timm.data import create_transform

        try:
            return create_transform((3, *self.shape[1:]), is_training=True, normalize=False, auto_augment=auto_augment)
        except (AssertionError, KeyError, ValueError) as error:
            raise ValueError(f"aa={auto_augment!r}: must be one of timm, as 'rand-m9-mstd0.5-inc1'") from error

    def match_channels(self, images: Tensor) -> Tensor:
        """Convert uint8 images (B, C, H, W) between grey and colour where the network takes the other.

        Raises:
            ValueError: the images have other channels, which are neither one grey nor three colours.
        """
        if images.shape[1] == self.shape[0]:
            return images
        if {images.shape[1], self.shape[0]} != {1, 3}:
            raise ValueError(
                f"images of {images.shape[1]} channels, and the network takes {self.shape[0]}; only grey (1) and "
                "colour (3) are converted into each other"
            )
        grey = images.float().mean(1, keepdim=True).to(torch.uint8)
        return grey if self.shape[0] == 1 else grey.expand(-1, self.shape[0], -1, -1)

    def normalize(self, images: Tensor) -> Tensor:
        """Normalize uint8 images (B, C, H, W) on their device."""
        mean, std = (  # sent without waiting for what the device still computes
            torch.tensor(each).view(1, -1, 1, 1).to(images.device, non_blocking=True) for each in (self.mean, self.std)
        )
        return images.to(torch.float32, copy=True).div_(255).sub_(mean).div_(std)  # in place, which is faster


def numbers(
    facts: Mapping[str, Any], key: str, count: int, least: float, most: float, kind: Any = int | float
) -> tuple[Any, ...]:
    """Return a list of numbers among the facts of a checkpoint.

    Raises:
        ValueError: another value, or a number out of range.
    """
    stated = facts.get(key)
    listed = stated if isinstance(stated, list | tuple) and len(stated) == count else [None]
    if not all(isinstance(each, kind) and not isinstance(each, bool) and least <= each <= most for each in listed):
        raise ValueError(f"states {key}={stated!r:.80}; {count} numbers from {least:g} to {most:g} are needed")
    return tuple(listed)
