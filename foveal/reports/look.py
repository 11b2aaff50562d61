"""Draw what a trained network attends to on some images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from foveal.core.functions import Function, names_function
from foveal.data.file_facts import examine, notes_of, range_of
from foveal.data.image_files import SUFFIXES, read
from foveal.inspection.drawing.draw import Picture, draw
from foveal.inspection.recording import Recording
from foveal.inspection.watch import watch
from foveal.training.batches import UnreadImages, read_batches
from foveal.training.load_model import load_model
from foveal.training.loaded_model import LoadedModel
from foveal.training.predict import check_any


@dataclass(frozen=True)
class LookResult:
    """The picture, the weights and images that it shows, and what was left out of it, with the reason."""

    model: str
    picture: Picture
    seen: Recording
    images: Tensor  # (B, C, H, W) uint8
    names: list[str]  # of the images
    predictions: list[str]
    skipped: dict[str, str]  # file to reason
    notes: dict[str, str] = field(default_factory=dict)  # file, or kind of files, to how it was read


def look(
    model: str, images: Sequence[str | Function], most: int = 6, backbone: str | Function | None = None
) -> LookResult:
    """Draw what a network attends to; `foveal.reports.look_page` makes a page of it.

    Args:
        model: a run folder, a checkpoint, or a network's name (which is then untrained).
        images: one data set's name or function, of whose test part the first images are taken, or image files.
        most: the largest number of images to draw.
        backbone: the caller's function, or its name, where the run's backbone is a function.

    Raises:
        ValueError: no such network or data, no image that can be read, a network without attention.
    """
    opened = load_model(model, backbone)
    pictures, names, skipped, notes = collect_images(list(images), most, opened)
    pictures = opened.preprocessing.match_channels(pictures)
    with watch(opened.network) as seen:
        answers = opened.answers(pictures)
    predictions = opened.names_of(answers.classes())
    picture = draw(seen, pictures, predictions, most=most)
    return LookResult(model, picture, seen, pictures, names, predictions, skipped, notes)


Collected = tuple[Tensor, list[str], dict[str, str], dict[str, str]]


def collect_images(images: list[str | Function], most: int, opened: LoadedModel) -> Collected:
    """Read uint8 images (B, C, H, W); return them, their names, the files left out with the reason, and notes."""
    if most < 1:
        raise ValueError(f"most={most}: at least one image is needed")
    files = [name for name in images if isinstance(name, str) and not names_function(name)]
    if any(Path(name).suffix.lower() in SUFFIXES and not Path(name).is_dir() for name in files):
        return read_files(files, most, opened)
    if len(images) != 1:
        raise ValueError(f"images {images}: one data set, or image files")
    data, unread = opened.load_data(images[0]), UnreadImages(str(images[0]))
    order = torch.arange(min(most, len(data.test)))
    batches = list(read_batches(data.test, order, len(order), 0, unread.add, torch.Generator()))
    check_any(len(batches), unread.reasons)
    indices, pictures, _ = batches[0]
    names = [data.test.names[index] for index in indices.tolist()]
    shown = [f"image {name}" if name.isdecimal() else name for name in names]
    return pictures, shown, data.skipped | unread.reasons, data.remarks


def read_files(files: list[str], most: int, opened: LoadedModel) -> Collected:
    """Read image files. 16-bit values have the run's range; a network by name takes their range over these files."""
    facts = {name: examine(Path(name)) for name in files}
    skipped = {name: each.reason for name, each in facts.items() if each.reason is not None}
    value_range, source = opened.preprocessing.value_range, "stored in the run"
    if value_range is None and opened.classes:
        reason = "16-bit values, and the run stores no range for them: it was trained on 8-bit images"
        skipped |= {name: reason for name, each in facts.items() if each.values is not None}
    whole = [name for name in files if name not in skipped]
    if not whole:
        reasons = "; ".join(f"{name!r}: {reason}" for name, reason in skipped.items())
        raise ValueError(f"no image could be read; {reasons}")
    skipped |= dict.fromkeys(whole[most:], f"beyond the first {most}")
    shown = {name: facts[name] for name in whole[:most]}
    if value_range is None:
        value_range, source = range_of(shown), "found on these images"
    transform = opened.preprocessing.transform()
    pictures = torch.stack([transform(read(Path(name), value_range)) for name in shown])
    return pictures, list(shown), skipped, notes_of(shown, value_range, source)
