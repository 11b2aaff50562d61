"""Attention of a network as one HTML page: each place on all images, and each image with all places.

Pictures are selected by anchors only, so the page works without a script; without a selection it shows all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from math import isfinite
from pathlib import Path

from foveal.core.files import write_file
from foveal.core.record import Record
from foveal.inspection.drawing.canvas import ACROSS, NARROW
from foveal.inspection.drawing.draw import draw_sheet, prepare
from foveal.inspection.drawing.picture import Picture
from foveal.reports.look import LookResult
from foveal.reports.render import fill

MOVED, OVER = {"transform", "crop"}, {"mask", "affinity"}
WIDE = {*MOVED, "glimpse"}  # kinds whose pictures need the width of a sheet


@dataclass(frozen=True)
class PageSection:
    """Section of the page for one place or one image."""

    id: str
    title: str
    note: str  # short text beside the title in the list
    facts: str
    picture: Picture

    @property
    def inches(self) -> float:
        return self.picture.figure.get_figwidth()


def write_page(looked: LookResult, path: str | Path) -> Path:
    """Write the attention of a network on images as one HTML file, and return its path."""
    grouped = by_place(looked)
    places, undrawn = [], {}
    for number, (title, records) in enumerate(grouped.items(), start=1):
        try:
            picture = section_picture(looked, records)
        except ValueError as error:
            undrawn[title] = str(error)
            continue
        facts = ". ".join(facts_of(record) for record in records)
        places.append(PageSection(f"place-{number}", title, records[0].mechanism, facts, picture))
    drawn = [record for view in places for record in grouped[view.title]]
    images = [image_view(looked, drawn, index) for index in range(len(looked.images))]
    page = fill(
        "look.html",
        title=f"Attention of {looked.model}",
        summary=summary(drawn, len(places), len(images), bool(looked.grad_cam)),
        places=places,
        images=images,
        unseen=looked.seen.unseen,
        undrawn=undrawn,
        skipped=looked.skipped,
        notes=looked.notes,
        provenance=f"foveal {version('foveal')}",
    )
    return write_file(Path(path), page)


def by_place(looked: LookResult) -> dict[str, list[Record]]:
    """Group Records by place; the row gates and the column gates of one place share a picture."""
    places: dict[str, list[Record]] = {f"Grad-CAM of {each.path}": [each] for each in looked.grad_cam}
    for path in looked.seen.paths():
        record = looked.seen[path]
        halves = record.axes in ("B C H", "B C W")
        title = path.rpartition(".")[0] or record.mechanism if halves else path or record.mechanism
        places.setdefault(title, []).append(record)
    return places


def image_view(looked: LookResult, records: Sequence[Record], index: int) -> PageSection:
    """Build the section of one image with all places."""
    name, predicted = looked.names[index], looked.predictions[index] or "no class"
    probabilities = ", ".join(f"{value:.3f}" for value in looked.probabilities[index])
    picture = section_picture(looked, records, slice(index, index + 1))
    facts = f"Predicted: {predicted}" + f", probability {probabilities}" * bool(probabilities)
    return PageSection(f"image-{index + 1}", name, f"predicted {predicted}", facts, picture)


def section_picture(looked: LookResult, records: Sequence[Record], shown: slice = slice(None)) -> Picture:
    """Draw Records on some of the images, as narrow as their kinds permit, so that it is read on a phone too."""
    chosen = [replace(record, values=record.values[shown]) for record in records]
    across = ACROSS if any(record.kind in WIDE for record in records) else NARROW
    images, texts = looked.images[shown], looked.captions[shown]
    return draw_sheet(*prepare(chosen, images, texts, len(images), looked.opacity, across))


def facts_of(record: Record) -> str:
    """Describe the weights of a Record: mechanism, kind, shape, possible range and observed range."""
    low, high = record.value_range
    possible = f"{low:g} to {high:g}" if isfinite(low) and isfinite(high) else "any number"
    values = record.values.float()
    shape = " x ".join(map(str, values.shape))
    return (
        f"{record.mechanism}: {record.kind}, {record.domain}, {'hard' if record.hard else 'soft'}; {record.axes} = "
        f"{shape}; possible range: {possible}; observed range: {values.min():.3g} to {values.max():.3g}"
    )


def summary(records: Sequence[Record], drawn: int, images: int, grad_cam: bool = False) -> str:
    """Count places and images, and warn if weights of later places are drawn over an image that was transformed.

    Args:
        records: of the places that are drawn.
        drawn: number of the places that are drawn, with Grad-CAM.
        images: number of the images.
        grad_cam: whether one of them is Grad-CAM.
    """
    places = drawn - grad_cam
    text = f"{places} place{'s' * (places != 1)} with attention, {images} image{'s' * (images != 1)}."
    if grad_cam:
        text += " None shows where on the image it attends: Grad-CAM shows which positions raise the predicted class."
    first = next((index for index, record in enumerate(records) if record.kind in MOVED), len(records))
    if any(record.kind in OVER for record in records[first:]):
        text += (
            f" {records[first].path} transforms the image: the weights of later places refer to its output, but are "
            "drawn over the input image."
        )
    return text
