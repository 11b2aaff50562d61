"""Records to pictures. This folder knows no model: Records, images and, where there are some, predictions.

Images are shown as they are, in their own colours. Weights are shown on the scale that their Record states, with a
colour bar; nothing is rescaled unseen.
"""

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from foveal.drawing.bars import draw_gates, draw_selections
from foveal.drawing.canvas import WIDTH, as_pictures
from foveal.drawing.maps import as_masks, draw_affinities, draw_masks
from foveal.drawing.regions import PATHS, draw_crops, draw_glimpses, draw_transforms
from foveal.record import Record

NAMED = 4  # places, in a picture's text


class Picture:
    """A drawing: `save` it, let a notebook show it, or put it into a page as it is. `says` is its text for who cannot
    see it.
    """

    def __init__(self, figure: Figure, says: str):
        self.figure, self.says = figure, says

    def save(self, path: str | Path) -> Path:
        """Write a PNG, SVG or PDF, by the path's ending."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.figure.savefig(path, dpi=110)
        return path

    def png(self) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()

    def __html__(self) -> str:
        """An img that holds its own data; templates ask for it by this name."""
        return f'<img alt="{escape(self.says)}" src="data:image/png;base64,{base64.b64encode(self.png()).decode()}">'

    def _repr_html_(self) -> str:
        return self.__html__()


def draw(seen: Iterable[Record], images: Tensor, predictions: Sequence[str] | None = None, *, most: int = 6) -> Picture:
    """Everything that was seen, on one sheet.

    Args:
        seen: what `foveal.watch` gave, or some Records.
        images: (B, C, H, W) of one to three channels, uint8 or in [0, 1]: as they were before any normalisation.
        predictions: what the network said of each image.
        most: how many images to show.

    Raises:
        ValueError: no Record that can be drawn, as statistics cannot; images that are normalised, or not as many as the
            Records tell of.
    """
    if most < 1:
        raise ValueError(f"most={most}: at least one image is needed")
    given = list(seen)
    if not all(isinstance(record, Record) for record in given):
        raise ValueError("statistics cannot be drawn, only the values of images: watch(model, keep='values')")
    records = [record for record in given if record.kind in PANELS]
    if not records:
        raise ValueError("nothing to draw: no Record was seen")
    pictures = as_pictures(images)
    for record in records:
        if len(record.values) != len(pictures):
            raise ValueError(f"{len(pictures)} images, but {record.where!r} tells of {len(record.values)}")
    shown = pictures[:most]
    records = as_masks([record_head(record, len(shown)) for record in records])
    drawable = [record for record in records if record.axes in PANELS[record.kind].axes]
    if not drawable:
        first = records[0]
        raise ValueError(f"{first.where!r}: no picture shows a {first.kind} of axes {first.axes!r}")
    records = drawable
    groups = [(panel, chosen) for kind, panel in PANELS.items() if (chosen := [r for r in records if r.kind == kind])]
    heights = [panel.height(chosen, len(shown)) for panel, chosen in groups]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(groups), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, (panel, chosen) in zip(parts, groups, strict=True):
        panel.fill(part, chosen, shown, predictions)
    return Picture(figure, in_words(records, predictions[: len(shown)] if predictions else (), len(shown)))


def in_words(records: Sequence[Record], predictions: Sequence[str], images: int) -> str:
    """What a drawing shows, for who cannot see it; the first places by name."""
    places = [f"{record.kind} of {' '.join(record.where.split()) or record.mechanism}" for record in records]
    named = ", ".join(places[:NAMED]) + (f" and {len(places) - NAMED} more" if len(places) > NAMED else "")
    said = f"; predicted: {', '.join(map(str, predictions))}" if predictions else ""
    return f"{images} image{'s' * (images != 1)} with {named}{said}"


def record_head(record: Record, count: int) -> Record:
    return replace(record, values=record.values[:count].detach().float().cpu())


@dataclass(frozen=True)
class Panel:
    """How one kind of Record is drawn: its axes, inches of height for so many Records and images, the drawing."""

    axes: tuple[str, ...]
    height: Callable[[list[Record], int], float]
    fill: Callable[[SubFigure, list[Record], Tensor, Sequence[str] | None], None]


PANELS = {
    "transform": Panel(
        ("B 2 3", "B 3 3", "B P 2"), lambda records, images: 0.5 + 1.55 * len(records) * images, draw_transforms
    ),
    "mask": Panel(("B H W",), lambda records, images: 0.8 + 1.6 * images, draw_masks),
    "affinity": Panel(("B H W Y X", "B G H W Y X"), lambda records, images: 1.4 + 1.6 * images, draw_affinities),
    "gate": Panel(("B C",), lambda records, images: 0.6 + (0.5 + 0.14 * images) * len(records), draw_gates),
    "selection": Panel(("B K C",), lambda records, images: 3.0, draw_selections),
    "glimpse": Panel(("B T 2",), lambda records, images: 0.3 + 3.1 * -(-len(records) * images // PATHS), draw_glimpses),
    "crop": Panel(("B K 2 3",), lambda records, images: 0.5 + 2.2 * len(records) * images, draw_crops),
}
