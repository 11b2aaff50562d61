"""Helpers shared by the panels: images, colours and text."""

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor

from foveal.inspection.drawing.palette import ORANGE, SKY_BLUE
from foveal.inspection.drawing.read_images import read_images

BOX = ORANGE  # orange and blue are distinguishable for colour-blind readers
POINTS = SKY_BLUE
PAIR = ((1.0, 0.6, 0.0), (0.0, 0.4, 1.0))  # the same hues as light: the sum of both is white
SCALE = "viridis"
WIDTH = 9.5  # inches
PLAIN_TEXT: dict[Any, Any] = {"text.parse_math": False}  # names may contain "$"


def as_pictures(images: Any) -> Tensor:
    """Return images in [0, 1] with three channels: (B, 3, H, W). Two channels are drawn orange and blue.

    Args:
        images: in one of the forms of `read_images`; uint8, or floats in [0, 1].
    """
    images = read_images(images).detach().cpu()
    images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    if not images.isfinite().all():
        raise ValueError("images: not all values are finite")
    if images.min() < 0 or images.max() > 1:
        raise ValueError(
            f"images from {images.min():.3g} to {images.max():.3g}: pass them as they were before any "
            "normalisation, in [0, 1], or as uint8"
        )
    if images.shape[1] == 2:
        return torch.einsum("bchw,cd->bdhw", images, torch.tensor(PAIR)).clamp(max=1)
    return images.expand(-1, 3, -1, -1)


def show(axis: Axes, image: Tensor, margin: float = 0.25) -> None:
    """Show an image (3, H, W) with a margin for what lies outside it."""
    height, width = image.shape[1:]
    axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    axis.set_xlim(-0.5 - margin * width, (1 + margin) * width - 0.5)
    axis.set_ylim((1 + margin) * height - 0.5, -0.5 - margin * height)


def write_prediction(axis: Axes, predictions: Sequence[str] | None, index: int) -> None:
    """Write the prediction for an image, if there is one, in the middle of an axis."""
    text = str(predictions[index]) if predictions else ""
    axis.text(0.5, 0.5, text, ha="center", va="center", fontsize=20, transform=axis.transAxes)


def fitting(title: str, width: float) -> float:
    """Return the font size, at most seven points, at which the longest line fits into a width in inches."""
    longest = max(len(line) for line in title.split("\n"))
    return min(7.0, 72 * width / (0.6 * longest))
