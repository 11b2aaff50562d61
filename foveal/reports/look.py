"""Draw what a trained network attends to on some images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from foveal.core.answers import Answers
from foveal.core.functions import Function, names_function
from foveal.core.record import Record
from foveal.data.annotated_data import objects_of_files
from foveal.data.file_facts import examine, notes_of, range_of
from foveal.data.folder import Files
from foveal.data.image_files import SUFFIXES, read
from foveal.inspection.drawing.draw import draw_pages
from foveal.inspection.drawing.maps import OPACITY
from foveal.inspection.drawing.outlines import outlined
from foveal.inspection.drawing.panels import shows_positions
from foveal.inspection.drawing.picture import Picture
from foveal.inspection.grad_cam import class_activation
from foveal.inspection.recording import Recording
from foveal.inspection.watch import watch
from foveal.training.batches import UnreadImages, read_batches
from foveal.training.load_model import load_model
from foveal.training.loaded_model import LoadedModel
from foveal.training.predict import check_any


@dataclass(frozen=True)
class LookResult:
    """What a network attends to on some images, and what was left out of it, with the reason."""

    model: str
    seen: Recording
    images: Tensor  # (B, C, H, W) uint8
    names: list[str]  # of the images
    predictions: list[str]  # classes
    probabilities: list[list[float]]  # of the class of each image, or of its classes
    skipped: dict[str, str]  # file to reason
    notes: dict[str, str] = field(default_factory=dict)  # file, or kind of files, to how it was read
    grad_cam: list[Record] = field(default_factory=list)  # one where no attention has positions
    opacity: float = OPACITY  # of maps over the images

    @property
    def captions(self) -> list[str]:
        """The prediction for each image with its probability."""
        return captions(self.predictions, self.probabilities)

    def pictures(self) -> list[Picture]:
        """Draw the sheets: one, or as many as the places need."""
        records = [*self.grad_cam, *self.seen]
        return draw_pages(records, self.images, self.captions, most=len(self.images), opacity=self.opacity)


def look(
    model: str,
    images: Sequence[str | Function],
    most: int = 6,
    backbone: str | Function | None = None,
    boxes: str | Path | None = None,
    opacity: float = OPACITY,
) -> LookResult:
    """Record what a network attends to; `pictures` of the result draws it, `foveal.reports.look_page` makes a page.

    Args:
        model: a run folder, a checkpoint, or a network's name (which is then untrained).
        images: one data set's name or function, of whose test part images at equal distances are taken, or image files.
        most: the largest number of images to draw.
        backbone: the caller's function, or its name, where the run's backbone is a function.
        boxes: annotations of the objects of image files, which are outlined, see `foveal.data.annotations`.
        opacity: of maps over the images, from 0 to 1.

    Raises:
        ValueError: no such network or data, no image that can be read, a network without attention; annotations that
            are none, are broken, or belong to no image.
    """
    opened = load_model(model, backbone)
    pictures, names, skipped, notes, files = collect_images(list(images), most, opened)
    pictures = opened.preprocessing.match_channels(pictures)
    with watch(opened.network) as seen:
        answers = opened.answers(pictures)
    grad_cam, why = find_grad_cam(opened, seen, pictures, answers)
    if boxes is not None:
        objects = objects_of_files(files, boxes, opened.preprocessing.transform())
        pictures, notes = outlined(pictures, objects), notes | {"boxes": f"{sum(map(len, objects)):,} objects outlined"}
    return LookResult(
        model, seen, pictures, names, opened.names_of(answers), answers.predicted_probabilities(), skipped,
        notes | why, grad_cam, opacity,
    )  # fmt: skip


def find_grad_cam(
    opened: LoadedModel, seen: Iterable[Record], images: Tensor, answers: Answers
) -> tuple[list[Record], dict[str, str]]:
    """Return the Grad-CAM of the predicted classes if no attention has positions on the images, and a note.

    Args:
        opened: the network.
        seen: its attention on these images.
        images: (B, C, H, W) uint8, of the network's channels.
        answers: of the network for these images.
    """
    if shows_positions(seen, images):
        return [], {}
    inputs = opened.preprocessing.normalize(images)
    try:
        return [class_activation(opened.network, inputs, targets=answers.classes())], {}
    except ValueError as error:
        return [], {"Grad-CAM": str(error)}


def captions(predictions: Sequence[str], probabilities: Sequence[Sequence[float]]) -> list[str]:
    """Return texts of predictions, each of one class or of several, with the probabilities of its classes."""
    rounded = [[f"{value:.2f}" if value >= 0.01 else f"{value:.1g}" for value in each] for each in probabilities]
    return [
        f"{name}\np = {', '.join(values)}" if values else "no class"
        for name, values in zip(predictions, rounded, strict=True)
    ]


Collected = tuple[Tensor, list[str], dict[str, str], dict[str, str], list[Path]]


def collect_images(images: list[str | Function], most: int, opened: LoadedModel) -> Collected:
    """Read uint8 images (B, C, H, W).

    Returns:
        The images, their names, the files left out with the reason, notes, and the images' files, none for other data.
    """
    if most < 1:
        raise ValueError(f"most={most}: at least one image is needed")
    files = [name for name in images if isinstance(name, str) and not names_function(name)]
    if any(Path(name).suffix.lower() in SUFFIXES and not Path(name).is_dir() for name in files):
        return read_files(files, most, opened)
    if len(images) != 1:
        raise ValueError(f"images {images}: one data set, or image files")
    data, unread = opened.load_data(images[0]), UnreadImages(str(images[0]))
    count = min(most, len(data.test))
    order = torch.arange(count) * len(data.test) // count  # from the whole part, which may be sorted by class
    ((indices, pictures, _),) = read_batches(data.test, [order], 0, unread.add)
    check_any(len(indices), unread.reasons)
    names = [data.test.names[index] for index in indices.tolist()]
    shown = [f"image {name}" if name.isdecimal() else name for name in names]
    root = data.test.root if isinstance(data.test, Files) else None
    paths = [] if root is None else [root / str(name) for name in names]
    return pictures, shown, data.skipped | unread.reasons, data.remarks, paths


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
    return pictures, list(shown), skipped, notes_of(shown, value_range, source), [Path(name) for name in shown]
