"""Look: a trained network, some images, and a picture of what it attends to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from foveal.data.folder import SUFFIXES, read, why_not
from foveal.inspection.drawing.draw import Picture, draw
from foveal.inspection.watch import Recording, watch
from foveal.training.load_model import LoadedModel, load_model


@dataclass(frozen=True)
class LookResult:
    """The picture, what it was drawn from, and what was left out of it with the reason."""

    model: str
    picture: Picture
    seen: Recording
    images: Tensor  # (B, C, H, W) uint8
    names: list[str]  # of the images
    predictions: list[str]
    skipped: dict[str, str]  # file to reason


def look(model: str, images: Sequence[str], most: int = 6) -> LookResult:
    """Draw what a network attends to; `foveal.reports.look_page` makes a page of it.

    Args:
        model: a run folder, a checkpoint, or a network's name (which is then untrained).
        images: one data set's name, of whose test part the first images are taken, or image files.
        most: how many images to draw.

    Raises:
        ValueError: no such network or data, no image that can be read, a network without attention.
    """
    opened = load_model(model)
    pictures, names, skipped = collect_images(list(images), most, opened)
    pictures = opened.preprocessing.match_channels(pictures)
    with watch(opened.network) as seen, torch.no_grad():
        answers = opened.network(opened.preprocessing.normalize(pictures)).argmax(1)
    predictions = [opened.classes[answer] if opened.classes else str(answer) for answer in answers.tolist()]
    picture = draw(seen, pictures, predictions, most=most)
    return LookResult(model, picture, seen, pictures, names, predictions, skipped)


def collect_images(images: list[str], most: int, opened: LoadedModel) -> tuple[Tensor, list[str], dict[str, str]]:
    """uint8 images (B, C, H, W), their names, and the files that are left out with the reason."""
    if most < 1:
        raise ValueError(f"most={most}: at least one image is needed")
    if not any(Path(name).suffix.lower() in SUFFIXES for name in images):
        if len(images) != 1:
            raise ValueError(f"images {images}: one data set, or image files")
        data = opened.load_data(images[0])
        chosen = range(min(most, len(data.test)))
        names = [f"image {name}" if name.isdecimal() else name for name in data.test.names[: len(chosen)]]
        return data.test.__getitems__(chosen)[0], names, data.skipped
    skipped = {name: reason for name in images if (reason := why_not(Path(name)))}
    whole = [name for name in images if name not in skipped]
    if not whole:
        told = "; ".join(f"{name!r}: {reason}" for name, reason in skipped.items())
        raise ValueError(f"no image could be read; {told}")
    skipped |= dict.fromkeys(whole[most:], f"beyond the first {most}")
    transform = opened.preprocessing.transform()
    return torch.stack([transform(read(Path(name))) for name in whole[:most]]), whole[:most], skipped
