"""Helpers shared by the panels: what a sheet shows, images, colours and text.

Text has sizes that stay readable when a sheet is shown at half its size; what does not fit on a line is wrapped, not
made smaller.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
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
SIDE = 1.9  # inches, width of an image with its margin
ACROSS, NARROW = 5, 3  # images side by side: on a sheet, and on one that is read on a phone
WIDTH = ACROSS * SIDE
TITLE, TICK = 11.0, 9.5  # points
PREDICTION = 15.0  # points, where a prediction has a column of its own
LINE = 0.18  # inches, of a line of a title
LETTER = 0.6  # width of a letter, in its size
PLAIN_TEXT: dict[Any, Any] = {"text.parse_math": False}  # names may contain "$"


@dataclass(frozen=True)
class Sheet:
    """Images of a sheet with what is said of them.

    Attributes:
        images: (B, 3, H, W) in [0, 1].
        predictions: a text for each image, or none.
        opacity: of maps over the images.
        across: number of images side by side, which gives the width of the sheet.
    """

    images: Tensor
    predictions: Sequence[str]
    opacity: float
    across: int = ACROSS

    @property
    def width(self) -> float:
        """Width of the sheet, in inches."""
        return SIDE * self.across

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        return self.images.shape[2], self.images.shape[3]

    @property
    def ratio(self) -> float:
        """Height of an image in its width."""
        return self.size[0] / self.size[1]

    @property
    def height(self) -> float:
        """Height of an image with its prediction, in inches."""
        return SIDE * self.ratio + self.lines() * LINE

    def caption(self, index: int) -> str:
        """Return an image's prediction in lines as wide as the image; "" if there is none."""
        return caption(self.predictions[index]) if self.predictions else ""

    def lines(self) -> int:
        """Return the number of lines of the longest prediction."""
        return max((caption(each).count("\n") + 1 for each in self.predictions if each), default=0)


def caption(prediction: str) -> str:
    """Return a prediction in one line where it is as wide as an image at most, else in several lines."""
    joined = ", ".join(prediction.split("\n"))
    return joined if "\n" not in wrapped(joined, SIDE) else wrapped(prediction, SIDE)


def wrapped(text: str, width: float, size: float = TITLE) -> str:
    """Break lines longer than `width` inches: after a space or a sign of a path, else anywhere."""
    most = max(int(72 * width / (LETTER * size)), 1)
    return "\n".join(part for line in text.split("\n") for part in broken(line, most))


def broken(line: str, most: int) -> list[str]:
    """Break a line into parts of at most `most` letters."""
    parts = [""]
    for word in re.findall(r"[^\s._/:-]*[\s._/:-]?", line):
        if len((parts[-1] + word).rstrip()) > most and parts[-1]:
            parts.append("")
        parts[-1] += word
        while len(parts[-1].rstrip()) > most:
            parts[-1:] = [parts[-1][:most], parts[-1][most:]]
    return [part.strip() for part in parts]


def title_height(titles: Sequence[str]) -> float:
    """Return the height in inches of the title with most lines."""
    return LINE * max(title.count("\n") + 1 for title in titles)


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


def show_captioned(axis: Axes, sheet: Sheet, index: int) -> None:
    """Show an image of a sheet with its prediction below."""
    show(axis, sheet.images[index], margin=0)
    axis.text(0.5, -0.03, sheet.caption(index), ha="center", va="top", fontsize=TITLE, transform=axis.transAxes)


def write_prediction(axis: Axes, sheet: Sheet, index: int, width: float) -> None:
    """Write the prediction for an image, if there is one, in the middle of an axis of a width in inches."""
    axis.set_box_aspect(sheet.ratio)
    text = wrapped(sheet.predictions[index], width, PREDICTION) if sheet.predictions else ""
    axis.text(0.5, 0.5, text, ha="center", va="center", fontsize=PREDICTION, transform=axis.transAxes)
