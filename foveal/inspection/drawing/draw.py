"""Drawing of Records on one sheet. This folder depends on no model: Records, images and, if any, predictions.

Images are shown unchanged, in their own colours; under a map they are repeated in grey. Weights are shown on the scale
of their Record's `value_range`, with a colour bar; no value is rescaled without a visible scale.
"""

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from foveal.core.batches import as_tensor
from foveal.core.files import WRITTEN_BY, write_file
from foveal.core.names import lookup
from foveal.core.record import Record
from foveal.inspection.drawing.affinities import AXES, count_columns, draw_affinities, no_map
from foveal.inspection.drawing.bars import draw_gates, draw_selections, gates_height
from foveal.inspection.drawing.canvas import PLAIN_TEXT, WIDTH, as_pictures
from foveal.inspection.drawing.maps import columns_height, draw_masks, marginals
from foveal.inspection.drawing.regions import PATHS, draw_crops, draw_glimpses, draw_transforms

DPI = 110
SUFFIX_FIELDS = {"png": "Software", "svg": "Creator", "pdf": "Creator"}  # of a file's metadata, for its origin
NAMED = 4  # places named in the alt text


class Picture:
    """Drawing that can be saved, shown by a notebook, or inserted into an HTML page.

    Attributes:
        figure: matplotlib figure.
        alt_text: description for screen readers.
    """

    def __init__(self, figure: Figure, alt_text: str):
        self.figure, self.alt_text = figure, alt_text
        self._png: bytes | None = None

    def save(self, path: str | Path) -> Path:
        """Write a PNG, SVG or PDF, by the suffix of `path`; return the path.

        Raises:
            ValueError: another suffix.
            OSError: the file cannot be written.
        """
        path = Path(path)
        kind = path.suffix.lower().removeprefix(".")
        lookup("ending of a picture", kind, SUFFIX_FIELDS)
        return write_file(path, self.png() if kind == "png" else self.rendered(kind))

    def png(self) -> bytes:
        """Return the drawing as a PNG; it is rendered once."""
        if self._png is None:
            self._png = self.rendered("png")
        return self._png

    def rendered(self, kind: str) -> bytes:
        """Render the drawing as "png", "svg" or "pdf"."""
        buffer = io.BytesIO()
        metadata: dict[str, Any] = {SUFFIX_FIELDS[kind]: WRITTEN_BY}
        if kind != "png":
            metadata["Date" if kind == "svg" else "CreationDate"] = None  # equal files for equal drawings
        self.figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()

    def __html__(self) -> str:
        """Return an `img` element with embedded data; templates call this method by its name."""
        return (
            f'<img alt="{escape(self.alt_text)}" src="data:image/png;base64,{base64.b64encode(self.png()).decode()}">'
        )

    def _repr_html_(self) -> str:
        return self.__html__()


def draw(
    seen: Iterable[Record], images: Any, predictions: Sequence[str | int] | None = None, *, most: int = 6
) -> Picture:
    """Draw all recorded attention on one sheet.

    Args:
        seen (Recording or Iterable[Record]): the result of `foveal.watch`, or some Records.
        images (Tensor, ndarray, PIL images or a list of these): (B, C, H, W), as an array also (B, H, W, C), of one
            to three channels, uint8 or in [0, 1]: as they were before any normalisation.
        predictions (Sequence[str], optional): the model's prediction for each image: a text, or a class's number.
        most (int): maximum number of images to show.

    Returns:
        Picture: shown by a notebook; `save(path)` writes PNG, SVG or PDF, `alt_text` describes it.

    Raises:
        TypeError: predictions that are no list of texts or whole numbers.
        ValueError: `most` below 1; no Record that can be drawn, such as statistics; images that are normalised, or
            not as many as the Records contain; predictions that are not one for each image, such as logits.

    >>> import foveal, torch
    >>> model = foveal.create_model("small_cnn+se", num_classes=10, in_chans=1).eval()
    >>> images = torch.rand(4, 1, 28, 28)
    >>> with foveal.watch(model) as seen:
    ...     logits = model(images)
    >>> picture = foveal.draw(seen, images, most=2)
    >>> picture.alt_text
    '2 images with gate of features.0.attention, gate of features.2.attention, gate of features.3.attention'
    """
    if most < 1:
        raise ValueError(f"most={most}: at least one image is needed")
    recorded = list(seen)
    if not all(isinstance(record, Record) for record in recorded):
        raise ValueError("statistics cannot be drawn, only the values of images: use watch(model, keep='values')")
    records = [record for record in recorded if record.kind in PANELS]
    if not records:
        raise ValueError("nothing to draw: no Record was seen")
    pictures = as_pictures(images)
    for record in records:
        if len(record.values) != len(pictures):
            raise ValueError(f"{len(pictures)} images, but {record.path!r} has {len(record.values)}")
    shown, texts = pictures[:most], read_predictions(predictions, len(pictures))
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
    figure = draw_groups(groups, shown, texts, not_shown(refused))
    return Picture(figure, in_words(records, texts[: len(shown)], len(shown)))


@rc_context(PLAIN_TEXT)
def draw_groups(
    groups: Sequence[tuple["Panel", list[Record]]], shown: Tensor, texts: Sequence[str], lines: list[str]
) -> Figure:
    """Draw each group of Records with its panel, one below another, and the lines on what is not shown."""
    heights = [panel.height(chosen, shown) for panel, chosen in groups] + ([0.1 + 0.16 * len(lines)] if lines else [])
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, (panel, chosen) in zip(parts, groups, strict=False):
        panel.fill(part, chosen, shown, texts)
    if lines:
        parts[-1].text(0.01, 0.5, "\n".join(lines), fontsize=7, va="center")
    return figure


def read_predictions(predictions: Any, images: int) -> list[str]:
    """Return the text of each image's prediction; none if there are no predictions.

    Raises:
        TypeError: predictions that are no list of texts or whole numbers.
        ValueError: not one prediction for each image.
    """
    if predictions is None:
        return []
    values = as_tensor(predictions)
    if isinstance(values, str) or not hasattr(values, "__len__"):
        raise TypeError(f"predictions={values!r:.80}: a list, a text or a class's number for each image, is needed")
    shape = tuple(values.shape) if isinstance(values, Tensor) else (len(values),)
    if shape != (images,):
        raise ValueError(f"predictions of shape {shape}: one for each of {images} images is needed, its class")
    values = [each.item() if isinstance(each, Tensor) and each.ndim == 0 else each for each in values]
    for each in values:
        if not isinstance(each, str | int | np.integer):
            raise TypeError(f"predictions: {each!r:.80}; a text or a class's number is needed for each image")
    return [str(each) for each in values]


def in_words(records: Sequence[Record], predictions: Sequence[str], images: int) -> str:
    """Return the alt text of a drawing: the number of images, the first places by name, the predictions."""
    places = [f"{record.kind} of {' '.join(record.path.split()) or record.mechanism}" for record in records]
    named = ", ".join(places[:NAMED]) + (f" and {len(places) - NAMED} more" if len(places) > NAMED else "")
    suffix = f"; predicted: {', '.join(map(str, predictions))}" if predictions else ""
    return f"{images} image{'s' * (images != 1)} with {named}{suffix}"


def refusal(record: Record, size: tuple[int, int]) -> str:
    """Return the reason why a Record cannot be drawn, or ""."""
    panel = PANELS[record.kind]
    if record.axes not in panel.axes:
        return f"no picture shows a {record.kind} of axes {record.axes!r}"
    return panel.refuses(record, size)


def not_shown(refused: dict[str, str]) -> list[str]:
    """Return a line for each reason why places are left out."""
    places: dict[str, list[str]] = {}
    for path, why in refused.items():
        places.setdefault(why, []).append(path)
    return [
        f"not shown: {', '.join(each[:3])}{f' and {len(each) - 3} more' if len(each) > 3 else ''}: {why}"
        for why, each in places.items()
    ]


def record_head(record: Record, count: int) -> Record:
    """Return the Record of the first `count` images, on the CPU in single precision."""
    return replace(record, values=record.values[:count].detach().float().cpu())


@dataclass(frozen=True)
class Panel:
    """Panel for one kind of Record.

    Attributes:
        axes: axes of the Records that it can draw.
        height: function from Records and images to the height in inches.
        fill: function that draws Records on a part of the figure.
        refuses: function that returns the reason why a Record of these axes cannot be drawn, or "".
    """

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
