"""Maps over their images, and beside them where there is room: columns of weights, each with its own scale.

Below a map is the image in grey, of reduced contrast, so that the colours of the map are those of its scale.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import ceil, isinf, prod

import torch
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.patches import Rectangle
from torch import Tensor

from foveal.core.record import Record
from foveal.inspection.drawing.canvas import (
    BOX,
    SCALE,
    SIDE,
    TICK,
    TITLE,
    Sheet,
    show,
    show_captioned,
    title_height,
    wrapped,
)

SHARES = 1e-3  # tolerance for the sum of a softmax in single precision
OPACITY = 0.6  # of a map over its image
DARK, LIGHT = 0.3, 0.9  # grey of the darkest and the lightest point of an image under a map
LUMA = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601
SCALE_HEIGHT = 0.42  # inches: a colour bar with its numbers

PLANES: dict[str, Callable[[Tensor], Tensor]] = {  # weights of channels and positions, as (B, C, H or 1, W or 1)
    "B C H W": lambda values: values,
    "B C H": lambda values: values[..., None],
    "B C W": lambda values: values[:, :, None],
}


@dataclass(frozen=True)
class Query:
    """Query cell of the weights shown, on a map of rows and columns."""

    row: int
    column: int
    rows: int
    columns: int

    def frame(self, axis: Axes, height: int, width: int) -> None:
        """Draw a frame around the cell."""
        wide, tall = width / self.columns, height / self.rows
        corner = self.column * wide - 0.5, self.row * tall - 0.5
        axis.add_patch(Rectangle(corner, wide, tall, fill=False, edgecolor=BOX, linewidth=1.5))


@dataclass(frozen=True)
class Column:
    """Column of one map for each image, (B, Y, X), all on one scale; over the images, or `alone` beside them."""

    title: str
    maps: Tensor
    scale: tuple[float, float]
    query: Query | None = None
    alone: bool = False

    def heading(self) -> str:
        return wrapped(self.title, SIDE)


def mask_column(record: Record) -> Column:
    """Return the column of a mask."""
    return Column(f"{record.mechanism}\n{record.path}", record.values, mask_scale(record))


def beside(columns: Sequence[Column], sheet: Sheet) -> list[Column]:
    """Return columns each with one beside it that shows the map alone, if they fit side by side; else unchanged."""
    if 2 * len(columns) + 1 > sheet.across:
        return list(columns)
    return [each for column in columns for each in (column, replace(column, title="beside the image", alone=True))]


def bands(columns: Sequence[Column], sheet: Sheet) -> list[Sequence[Column]]:
    """Divide columns evenly into bands, one below another, each with a column for the images."""
    width = ceil(len(columns) / ceil(len(columns) / (sheet.across - 1)))
    return [columns[first : first + width] for first in range(0, len(columns), width)]


def columns_height(columns: Sequence[Column], sheet: Sheet) -> float:
    """Return the height in inches of columns of maps."""
    titles = [title_height([column.heading() for column in band]) for band in bands(columns, sheet)]
    return sum(titles) + len(titles) * (len(sheet.images) * sheet.height + SCALE_HEIGHT)


def draw_columns(part: SubFigure, columns: Sequence[Column], sheet: Sheet) -> None:
    """Draw each image with its prediction, then each column's map over the image; below, the scale of each column."""
    below = bands(columns, sheet)
    ratios = ([sheet.height] * len(sheet.images) + [0.08]) * len(below)
    axes = part.subplots(len(ratios), sheet.across, squeeze=False, height_ratios=ratios)
    for axis in axes.flat:
        axis.set_axis_off()
    for band, rows in zip(below, axes.reshape(len(below), len(sheet.images) + 1, -1), strict=True):
        pictures = list(rows[:-1, 0])
        for index, axis in enumerate(pictures):
            show_captioned(axis, sheet, index)
        pictures[0].set_title("image", fontsize=TITLE)
        for (*cells, bar), column in zip(rows.T[1:], band, strict=False):
            draw_column(part, column, sheet, pictures, cells, bar)


def draw_column(
    part: SubFigure, column: Column, sheet: Sheet, pictures: Sequence[Axes], cells: Sequence[Axes], bar: Axes
) -> None:
    """Draw the maps of one column over the images or beside them, their query and their colour bar."""
    height, width = sheet.size
    low, high = column.scale
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    opacity = 1.0 if column.alone else sheet.opacity
    for picture, axis, image, weights in zip(pictures, cells, sheet.images, column.maps, strict=True):
        if not column.alone:
            show(axis, in_grey(image), margin=0)
        drawn = axis.imshow(
            weights.numpy(), vmin=low, vmax=high, cmap=SCALE, interpolation="nearest", extent=extent, alpha=opacity
        )
        if column.query:
            for framed in (axis,) if column.alone else (picture, axis):
                column.query.frame(framed, height, width)
    cells[0].set_title(column.heading(), fontsize=TITLE)
    bar.set_axis_on()
    bar.set_facecolor(str((DARK + LIGHT) / 2))
    part.colorbar(drawn, cax=bar, orientation="horizontal", ticks=[low, high], format="%.2g")
    bar.tick_params(labelsize=TICK)
    first, last = bar.get_xticklabels()
    first.set_horizontalalignment("left")  # both within the bar, clear of a neighbour's
    last.set_horizontalalignment("right")
    for edge in (column.maps.min().item(), column.maps.max().item()):
        bar.axvline(edge, color="black", linewidth=1.5)


def in_grey(image: Tensor) -> Tensor:
    """Return the luminance of an image (3, H, W) as grey of reduced contrast, (3, H, W)."""
    return DARK + (LIGHT - DARK) * torch.einsum("chw,c->hw", image, LUMA).expand(3, -1, -1)


def by_owner(records: list[Record]) -> list[tuple[str, list[Record]]]:
    """Group weights of channels and positions by place; the gates of rows and of columns of a place are together."""
    owners: dict[tuple[str, int], list[Record]] = {}
    for record in (each for each in records if each.axes in PLANES):
        owner = record.path if record.axes == "B C H W" else record.path.rpartition(".")[0]
        owners.setdefault((owner or record.mechanism, record.call), []).append(record)
    return [(owner, parts) for (owner, _), parts in owners.items()]


def marginals(records: list[Record]) -> list[Record]:
    """Replace weights that differ by channel and position by means that can be drawn; keep other Records unchanged.

    The mean over channels is a mask over positions; for gates, the mean over positions is a gate of each channel as
    well. Gates of rows and of columns at one place are drawn as their product.
    """
    found = [record for record in records if record.axes not in PLANES]
    for owner, parts in by_owner(records):
        values = reduce(torch.mul, (PLANES[record.axes](record.values) for record in parts))  # (B, C, H, W)
        lows, highs = zip(*(record.value_range for record in parts), strict=True)
        product = replace(parts[0], values=values, value_range=(prod(lows), prod(highs)))
        mask = replace(product, kind="mask", axes="B H W", values=values.mean(1), path=f"{owner}\nmean over channels")
        found.append(mask)
        if product.kind == "gate":
            gate = values.mean((2, 3))
            found.append(replace(product, axes="B C", values=gate, path=f"{owner}\nmean over positions"))
    return found


def mask_scale(record: Record) -> tuple[float, float]:
    """Return the range of a mask's scale: its `value_range`.

    The range is from 0 to the largest weight if `value_range` is unbounded, or if the weights are shares of the
    positions, with sum 1.
    """
    shares = (record.values.sum((1, 2)) - 1).abs().max() < SHARES
    return (0.0, record.values.max().item() or 1.0) if shares or isinf(record.value_range[1]) else record.value_range
