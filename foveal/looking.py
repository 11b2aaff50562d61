"""Look: a trained network, some images, and a picture of what it attends to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from foveal.data.folder import SUFFIXES, read, why_not
from foveal.drawing import Picture, draw
from foveal.opening import Opened, open_model
from foveal.recording import watch


@dataclass(frozen=True)
class Looked:
    """The picture, and what was left out of it with the reason."""

    picture: Picture
    predictions: list[str]
    skipped: dict[str, str]


def look(model: str, images: Sequence[str], most: int = 6) -> Looked:
    """Draw what a network attends to.

    Args:
        model: a run folder, a checkpoint, or a network's name (which is then untrained).
        images: one data set's name, of whose test part the first images are taken, or image files.
        most: how many images to draw.

    Raises:
        ValueError: no such network or data, no image that can be read, a network without attention.
    """
    opened = open_model(model)
    pictures, skipped = gather(list(images), most, opened)
    pictures = opened.coloured(pictures)
    with watch(opened.network) as seen, torch.no_grad():
        answers = opened.network(opened.normalised(pictures)).argmax(1)
    predictions = [opened.classes[answer] if opened.classes else str(answer) for answer in answers.tolist()]
    return Looked(draw(seen, pictures, predictions, most=most), predictions, skipped)


def gather(images: list[str], most: int, opened: Opened) -> tuple[Tensor, dict[str, str]]:
    """uint8 images (B, C, H, W), and the files that could not be read."""
    if not any(Path(name).suffix.lower() in SUFFIXES for name in images):
        if len(images) != 1:
            raise ValueError(f"images {images}: one data set, or image files")
        part = opened.load(images[0]).test
        return part.__getitems__(range(min(most, len(part))))[0], {}
    skipped = {name: reason for name in images if (reason := why_not(Path(name)))}
    kept = [name for name in images if name not in skipped][:most]
    if not kept:
        name, reason = next(iter(skipped.items()))
        raise ValueError(f"no image could be read; {name!r}: {reason}")
    return torch.stack([fitted(Path(name), opened.shape) for name in kept]), skipped


def fitted(path: Path, shape: Sequence[int]) -> Tensor:
    """An image file brought to a size: its shorter side, then a crop of the middle; (3, H, W) uint8."""
    from torchvision.transforms.v2.functional import center_crop, pil_to_tensor, resize

    return pil_to_tensor(center_crop(resize(read(path), min(shape[1:])), list(shape[1:])))
