"""Objects of an image as its annotation states them, and carried to the input of a network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Size = tuple[int, int]  # height and width of an image in pixels, turned upright
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels, at pixel edges
BEYOND = 1.0  # pixels at most by which coordinates may lie beyond the image: they are rounded, or counted from 0 or 1
LEAST = 1.0  # pixels of the network's input: a box with a shorter side is left out


@dataclass(frozen=True)
class AnnotatedObject:
    """One object: its box, or its mask where this is annotated."""

    name: str | None  # None where the annotation names no classes
    box: Box | None = None
    mask: Callable[[], np.ndarray] | None = None  # draws it: bool (H, W)


@dataclass(frozen=True)
class Source:
    """Where the objects of one image are annotated; `read` takes the image's size, and raises ValueError."""

    file: Path
    read: Callable[[Size], list[AnnotatedObject]]


Transform = Callable[[Any], Tensor]  # of images of Pillow and torchvision's BoundingBoxes, see `Preprocessing`
Parts = tuple[str, ...]  # of an image's path without its ending
Sources = dict[Parts, Source]  # by the image's path from the annotations' folder


def parts_of(path: str) -> Parts:
    """Return the parts of a path without the ending of its last one; empty for a path without a name."""
    pure = PurePosixPath(path.replace("\\", "/"))
    return pure.with_suffix("").parts if pure.name else ()


def read_number(value: object, where: str) -> float:
    """Return a number of JSON, or the number that a text states; ValueError for anything else, and beyond 1e9."""
    try:
        number = float("nan" if isinstance(value, bool) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not isfinite(number) or abs(number) > 1e9:
        raise ValueError(f"{where}: {value!r:.80}; a number is needed")
    return number


def within(box: Sequence[float], size: Size, where: str) -> Box:
    """Return x0, y0, x1, y1 cut to the image.

    Raises:
        ValueError: no area; coordinates beyond the image by more than a pixel.
    """
    x0, y0, x1, y1 = box
    height, width = size
    inside = min(x0, y0) >= -BEYOND and x1 <= width + BEYOND and y1 <= height + BEYOND
    cut = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    if not (inside and cut[0] < cut[2] and cut[1] < cut[3]):
        text = ", ".join(f"{each:g}" for each in box)
        raise ValueError(f"{where}: box {text} (x0, y0, x1, y1) is none within an image of {width}x{height} pixels")
    return cut


def check_stated_size(stated: Size, size: Size, where: str) -> None:
    """Refuse an annotation of an image of another size."""
    if stated != size:
        raise ValueError(
            f"{where}: of an image of {stated[1]}x{stated[0]} pixels, and the image has {size[1]}x{size[0]}"
        )


def carry_objects(objects: Sequence[AnnotatedObject], size: Size, transform: Transform) -> tuple[Tensor, Tensor]:
    """Carry the objects of an image through the transform of the image.

    Args:
        objects: of an image of `size`.
        size: of the image.
        transform: of the image.

    Returns:
        Boxes (N, 4) in pixels of the transformed image; or masks (N, H, W), bool, if an object has one: a box becomes
        the pixels within it. And whether anything is left of each, (N,): it may be cut off, or smaller than a pixel.
    """
    from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

    if any(each.mask is not None for each in objects):
        masks = torch.stack([carry_mask(each, size, transform) for each in objects])
        return masks, masks.flatten(1).any(1)
    given = torch.tensor([each.box for each in objects]).view(-1, 4)
    boxes = transform(BoundingBoxes(given, format=BoundingBoxFormat.XYXY, canvas_size=size)).as_subclass(Tensor)
    return boxes, (boxes[:, 2:] - boxes[:, :2] >= LEAST).all(1)


def carry_mask(shown: AnnotatedObject, size: Size, transform: Transform) -> Tensor:
    """Carry an object's mask as an image: bool (H, W), true where at least half of a pixel's value is the object's."""
    mask = shown.mask() if shown.mask else box_mask(shown.box or (0, 0, 0, 0), size)
    return transform(Image.fromarray(mask.astype(np.uint8) * 255))[0] > 127


def box_mask(box: Box, size: Size) -> np.ndarray:
    """Draw a box: bool (H, W), true at pixels whose centre lies within it."""
    x0, y0, x1, y1 = box
    rows, columns = (np.arange(length) + 0.5 for length in size)
    return ((y0 <= rows) & (rows < y1))[:, None] & ((x0 <= columns) & (columns < x1))
