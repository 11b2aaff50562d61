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

from foveal.core.record import Record
from foveal.inspection.drawing.affinities import AXES, count_columns, draw_affinities, no_map
from foveal.inspection.drawing.bars import draw_gates, draw_selections, gates_height
from foveal.inspection.drawing.canvas import WIDTH, as_pictures
from foveal.inspection.drawing.maps import columns_height, draw_masks, marginals
from foveal.inspection.drawing.regions import PATHS, draw_crops, draw_glimpses, draw_transforms

DPI = 110
NAMED = 4  # places, in a picture's text


class Picture:
    """A drawing: `save` it, let a notebook show it, or put it into a page as it is.

    `alt_text`: description for screen readers.
    """

    def __init__(self, figure: Figure, alt_text: str):
        self.figure, self.alt_text = figure, alt_text
        self._png: bytes | None = None

    def save(self, path: str | Path) -> Path:
        """Write a PNG, SVG or PDF, by the path's ending."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".png":
            path.write_bytes(self.png())
        else:
            self.figure.savefig(path, dpi=DPI)
        return path

    def png(self) -> bytes:
        """The drawing as a PNG, rendered once."""
        if self._png is None:
            buffer = io.BytesIO()
            self.figure.savefig(buffer, format="png", dpi=DPI)
            self._png = buffer.getvalue()
        return self._png

    def _repr_png_(self) -> bytes:
        return self.png()

    def __html__(self) -> str:
        """An img that holds its own data; templates ask for it by this name."""
        return (
            f'<img alt="{escape(self.alt_text)}" src="data:image/png;base64,{base64.b64encode(self.png()).decode()}">'
        )

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
            raise ValueError(f"{len(pictures)} images, but {record.path!r} tells of {len(record.values)}")
    shown = pictures[:most]
    size = shown.shape[2], shown.shape[3]
    records = marginals([record_head(record, len(shown)) for record in records])
    refused = {record.path: why for record in records if (why := refusal(record, size))}
    groups = []
    for kind, panel in PANELS.items():
        chosen = [record for record in records if record.kind == kind and not refusal(record, size)]
        groups += [(panel, chosen)] if chosen else []
    if not groups:
        path, why = next(iter(refused.items()))
        raise ValueError(f"{path!r}: {why}")
    lines = not_shown(refused)
    heights = [panel.height(chosen, shown) for panel, chosen in groups] + ([0.1 + 0.16 * len(lines)] if lines else [])
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, (panel, chosen) in zip(parts, groups, strict=False):
        panel.fill(part, chosen, shown, predictions)
    if lines:
        parts[-1].text(0.01, 0.5, "\n".join(lines), fontsize=7, va="center")
    return Picture(figure, in_words(records, predictions[: len(shown)] if predictions else (), len(shown)))


def in_words(records: Sequence[Record], predictions: Sequence[str], images: int) -> str:
    """What a drawing shows, for who cannot see it; the first places by name."""
    places = [f"{record.kind} of {' '.join(record.path.split()) or record.mechanism}" for record in records]
    named = ", ".join(places[:NAMED]) + (f" and {len(places) - NAMED} more" if len(places) > NAMED else "")
    said = f"; predicted: {', '.join(map(str, predictions))}" if predictions else ""
    return f"{images} image{'s' * (images != 1)} with {named}{said}"


def refusal(record: Record, size: tuple[int, int]) -> str:
    """Why no picture shows a Record, or ""."""
    panel = PANELS[record.kind]
    if record.axes not in panel.axes:
        return f"no picture shows a {record.kind} of axes {record.axes!r}"
    return panel.refuses(record, size)


def not_shown(refused: dict[str, str]) -> list[str]:
    """What the sheet leaves out: a line for each reason."""
    places: dict[str, list[str]] = {}
    for path, why in refused.items():
        places.setdefault(why, []).append(path)
    return [
        f"not shown: {', '.join(each[:3])}{f' and {len(each) - 3} more' if len(each) > 3 else ''}: {why}"
        for why, each in places.items()
    ]


def record_head(record: Record, count: int) -> Record:
    return replace(record, values=record.values[:count].detach().float().cpu())


@dataclass(frozen=True)
class Panel:
    """How one kind of Record is drawn: its axes, inches of height for Records and images, the drawing."""

    axes: tuple[str, ...]
    height: Callable[[list[Record], Tensor], float]
    fill: Callable[[SubFigure, list[Record], Tensor, Sequence[str] | None], None]
    refuses: Callable[[Record, tuple[int, int]], str] = lambda record, size: ""


PANELS = {
    "transform": Panel(
        ("B 2 3", "B 3 3", "B P 2"), lambda records, images: 0.5 + 1.55 * len(records) * len(images), draw_transforms
    ),
    "mask": Panel(("B H W",), lambda records, images: columns_height(len(records), images), draw_masks),
    "affinity": Panel(
        AXES, lambda records, images: 0.3 + columns_height(count_columns(records), images), draw_affinities, no_map
    ),
    "gate": Panel(("B C",), lambda records, images: gates_height(len(records)), draw_gates),
    "selection": Panel(("B K C",), lambda records, images: 3.0, draw_selections),
    "glimpse": Panel(
        ("B T 2",), lambda records, images: 0.3 + 3.1 * -(-len(records) * len(images) // PATHS), draw_glimpses
    ),
    "crop": Panel(("B K 2 3",), lambda records, images: 0.5 + 2.2 * len(records) * len(images), draw_crops),
}
