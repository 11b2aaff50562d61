"""What `look` saw as one HTML page: each place on all images, and each image with all places.

The page chooses among its pictures by anchors alone, so it works without a script; with none chosen it shows all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from math import isfinite
from pathlib import Path

from foveal.core.record import Record
from foveal.inspection.drawing.draw import Picture, draw
from foveal.reports.look import LookResult
from foveal.reports.render import fill

MOVED, OVER = {"transform", "crop"}, {"mask", "affinity"}
NARROW = 4.8  # inches, of one place's picture over the image: two columns, which fit on a phone


@dataclass(frozen=True)
class PageSection:
    """One thing to choose: a place or an image."""

    id: str
    title: str
    note: str  # a few words beside the title in the list
    facts: str
    picture: Picture

    @property
    def inches(self) -> float:
        return self.picture.figure.get_figwidth()


def write_page(looked: LookResult, path: str | Path) -> Path:
    """Write what was seen as one HTML file; its path."""
    grouped = by_place(looked)
    places, undrawn = [], {}
    for number, (title, records) in enumerate(grouped.items(), start=1):
        try:
            picture = draw(records, looked.images, looked.predictions, most=len(looked.images))
        except ValueError as error:
            undrawn[title] = str(error)
            continue
        if records[0].kind in OVER or len(records) > 1:
            picture.figure.set_figwidth(NARROW)
        facts = ". ".join(facts_of(record) for record in records)
        places.append(PageSection(f"place-{number}", title, records[0].mechanism, facts, picture))
    drawn = [record for view in places for record in grouped[view.title]]
    images = [image_view(looked, drawn, index) for index in range(len(looked.images))]
    page = fill(
        "look.html",
        title=f"Attention of {looked.model}",
        summary=summary(drawn, len(places), len(images)),
        places=places,
        images=images,
        unseen=looked.seen.unseen,
        undrawn=undrawn,
        skipped=looked.skipped,
        provenance=f"foveal {version('foveal')}",
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def by_place(looked: LookResult) -> dict[str, list[Record]]:
    """Place to Records; the gates of rows and of columns that one place states are one picture."""
    places: dict[str, list[Record]] = {}
    for path in looked.seen.paths():
        record = looked.seen[path]
        halves = record.axes in ("B C H", "B C W")
        title = path.rpartition(".")[0] or record.mechanism if halves else path or record.mechanism
        places.setdefault(title, []).append(record)
    return places


def image_view(looked: LookResult, records: Sequence[Record], index: int) -> PageSection:
    name, said = looked.names[index], looked.predictions[index]
    alone = [replace(record, values=record.values[index : index + 1]) for record in records]
    picture = draw(alone, looked.images[index : index + 1], [said])
    return PageSection(f"image-{index + 1}", name, f"predicted {said}", f"Predicted: {said}", picture)


def facts_of(record: Record) -> str:
    """What the weights are, and the range that they may have and have."""
    low, high = record.value_range
    may = f"from {low:g} to {high:g}" if isfinite(low) and isfinite(high) else "any number"
    values = record.values.float()
    shape = " x ".join(map(str, values.shape))
    return (
        f"{record.mechanism}: {record.kind}, {record.domain}, {'hard' if record.hard else 'soft'}; {record.axes} = "
        f"{shape}; may be {may}, here from {values.min():.3g} to {values.max():.3g}"
    )


def summary(records: Sequence[Record], places: int, images: int) -> str:
    """How much there is, and a warning where a place moves the image before others lay weights over it."""
    told = f"{places} place{'s' * (places != 1)} with attention, {images} image{'s' * (images != 1)}."
    first = next((index for index, record in enumerate(records) if record.kind in MOVED), len(records))
    if any(record.kind in OVER for record in records[first:]):
        told += (
            f" {records[first].path} moves the image: what places after it show belongs to the image that it passes "
            "on, and is drawn as if that were the whole input."
        )
    return told
