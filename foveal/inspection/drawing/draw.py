"""Drawing of Records on one sheet. This folder depends on no model: Records, images and, if any, predictions.

Images are shown unchanged, in their own colours; under a map they are repeated in grey. Weights are shown on the scale
of their Record's `value_range`, with a colour bar; no value is rescaled without a visible scale.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from foveal.core.batches import as_tensor
from foveal.core.record import Record
from foveal.inspection.drawing.affinities import rollouts
from foveal.inspection.drawing.canvas import ACROSS, PLAIN_TEXT, TICK, Sheet, as_pictures, title_height, wrapped
from foveal.inspection.drawing.images import draw_images, images_height
from foveal.inspection.drawing.maps import OPACITY, marginals
from foveal.inspection.drawing.panels import PANELS, Panel, not_shown, refusal
from foveal.inspection.drawing.picture import Picture

NAMED = 4  # places named in the alt text


def draw(
    seen: Iterable[Record],
    images: Any,
    predictions: Sequence[str | int] | None = None,
    *,
    most: int = 6,
    opacity: float = OPACITY,
) -> Picture:
    """Draw all recorded attention on one sheet, with the images and their predictions.

    Args:
        seen (Recording or Iterable[Record]): the result of `foveal.watch`, or some Records.
        images (Tensor, ndarray, PIL images or a list of these): (B, C, H, W), as an array also (B, H, W, C), of one
            to three channels, uint8 or in [0, 1]: as they were before any normalisation.
        predictions (Sequence[str], optional): the model's prediction for each image: a text, or a class's number.
        most (int): maximum number of images to show.
        opacity (float): of maps over their images, from 0 to 1, which shows the maps alone.

    Returns:
        Picture: shown by a notebook; `save(path)` writes PNG, SVG or PDF, `alt_text` describes it.

    Raises:
        TypeError: predictions that are no list of texts or whole numbers.
        ValueError: `most` below 1; `opacity` outside [0, 1]; no Record that can be drawn, such as statistics; images
            that are normalised, or not as many as the Records contain; predictions that are not one for each image,
            such as logits.

    >>> import foveal, torch
    >>> model = foveal.create_model("small_cnn+se", num_classes=10, in_chans=1).eval()
    >>> images = torch.rand(4, 1, 28, 28)
    >>> with foveal.watch(model) as seen:
    ...     logits = model(images)
    >>> picture = foveal.draw(seen, images, most=2)
    >>> picture.alt_text
    '2 images with gate of features.0.attention, gate of features.2.attention, gate of features.3.attention'
    """
    return draw_sheet(*prepare(seen, images, predictions, most, opacity))


def draw_pages(
    seen: Iterable[Record],
    images: Any,
    predictions: Sequence[str | int] | None = None,
    *,
    most: int = 6,
    opacity: float = OPACITY,
) -> list[Picture]:
    """Draw as `draw` does, on as many sheets as the places need: each panel has at most the places of a page."""
    records, sheet = prepare(seen, images, predictions, most, opacity)
    drawn = {panel: [each for each in records if panel.draws(each, sheet.size)] for panel in PANELS}
    count = max(ceil(len(chosen) / panel.page) for panel, chosen in drawn.items()) or 1
    left_out = [each for each in records if not any(panel.draws(each, sheet.size) for panel in PANELS)]
    pages = [[each for chosen in drawn.values() for each in part_of(chosen, page, count)] for page in range(count)]
    pages[-1] += left_out
    return [draw_sheet(page, sheet) for page in pages]


def part_of(records: Sequence[Record], index: int, count: int) -> Sequence[Record]:
    """Return a part of Records that are divided evenly into `count` parts, in order."""
    first, end = (ceil(at * len(records) / count) for at in (index, index + 1))
    return records[first:end]


def prepare(
    seen: Iterable[Record], images: Any, predictions: Any, most: int, opacity: float, across: int = ACROSS
) -> tuple[list[Record], Sheet]:
    """Check what is handed over to `draw`; return the Records, as they are drawn, of the images that are shown."""
    if most < 1:
        raise ValueError(f"most={most}: at least one image is needed")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity={opacity}: a number from 0 to 1 is needed")
    recorded = list(seen)
    if not all(isinstance(record, Record) for record in recorded):
        raise ValueError("statistics cannot be drawn, only the values of images: use watch(model, keep='values')")
    if not recorded:
        raise ValueError("nothing to draw: no Record was seen")
    pictures = as_pictures(images)
    for record in recorded:
        if len(record.values) != len(pictures):
            raise ValueError(f"{len(pictures)} images, but {record.path!r} has {len(record.values)}")
    texts = read_predictions(predictions, len(pictures))
    sheet = Sheet(pictures[:most], texts[:most], opacity, across)
    records = marginals([record_head(record, len(sheet.images)) for record in recorded])
    return [*records, *rollouts(records, sheet.size)], sheet


@rc_context(PLAIN_TEXT)
def draw_sheet(records: list[Record], sheet: Sheet) -> Picture:
    """Draw Records panel by panel, one below another, and lines on what is not shown.

    Raises:
        ValueError: no Record that can be drawn.
    """
    refused = {each.path: why for each in records if (why := refusal(each, sheet.size))}
    drawn = {panel: [each for each in records if panel.draws(each, sheet.size)] for panel in PANELS}
    panels = [(panel, chosen) for panel, chosen in drawn.items() if chosen]
    if not panels:
        path, why = next(iter(refused.items()))
        raise ValueError(f"{path!r}: {why}")
    blocks: list[tuple[float, Callable[[SubFigure], None]]] = [
        (panel.height(chosen, sheet), filling(panel, chosen, sheet)) for panel, chosen in panels
    ]
    if not any(panel.shows_images for panel, _ in panels):
        blocks.insert(0, (images_height(sheet), partial(draw_images, sheet=sheet)))
    if refused:
        lines = wrapped("\n".join(not_shown(refused)), sheet.width, TICK)
        blocks.append((0.1 + title_height([lines]), partial(write_lines, lines=lines)))
    heights = [height for height, _ in blocks]
    figure = Figure(figsize=(sheet.width, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(blocks), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, (_, fill) in zip(parts, blocks, strict=True):
        fill(part)
    return Picture(figure, in_words(records, sheet))


def filling(panel: Panel, records: list[Record], sheet: Sheet) -> Callable[[SubFigure], None]:
    """Return a function that draws Records with their panel on a part of a figure."""
    return lambda part: panel.fill(part, records, sheet)


def write_lines(part: SubFigure, lines: str) -> None:
    """Write lines of text on a part of a figure."""
    part.text(0.01, 0.5, lines, fontsize=TICK, va="center")


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


def in_words(records: Sequence[Record], sheet: Sheet) -> str:
    """Return the alt text of a drawing: the number of images, the first places by name, the predictions."""
    places = [f"{record.kind} of {' '.join(record.path.split()) or record.mechanism}" for record in records]
    named = ", ".join(places[:NAMED]) + (f" and {len(places) - NAMED} more" if len(places) > NAMED else "")
    predicted = ", ".join(" ".join(each.split()) for each in sheet.predictions)
    suffix = f"; predicted: {predicted}" if sheet.predictions else ""
    images = len(sheet.images)
    return f"{images} image{'s' * (images != 1)} with {named}{suffix}"


def record_head(record: Record, count: int) -> Record:
    """Return the Record of the first `count` images, on the CPU in single precision."""
    return replace(record, values=record.values[:count].detach().float().cpu())
