"""Maps over their images: columns of weights, each with its own scale; masks as such columns.

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
from foveal.inspection.drawing.canvas import BOX, SCALE, WIDTH, fitting, show

SHARES = 1e-3  # tolerance for the sum of a softmax in single precision
BAND = 7  # columns of weights in a band at most; more continue in a band below
ROOM = 5  # columns for which there is room at least, including the image's
SIDE = 1.6  # largest side of a map, in inches
OPACITY = 0.6  # of a map over its image
DARK, LIGHT = 0.3, 0.9  # grey of the darkest and the lightest point of an image under a map
LUMA = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601

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
    """Column of one map for each image, (B, Y, X), all on one scale."""

    title: str
    maps: Tensor
    scale: tuple[float, float]
    query: Query | None = None


def bands(columns: int) -> tuple[int, int]:
    """Return the number of columns in a band, and the number of bands."""
    below = ceil(columns / BAND)
    return ceil(columns / below), below


def columns_height(columns: int, images: Tensor) -> float:
    """Return the height in inches of `columns` columns of maps."""
    beside, below = bands(columns)
    height, width = images.shape[2:]
    side = min(SIDE, 0.95 * WIDTH / max(beside + 1, ROOM))
    return below * (0.75 + len(images) * (side * height / width + 0.04))


def draw_columns(part: SubFigure, columns: Sequence[Column], images: Tensor) -> None:
    """Draw each image, then each column's map over the image; below, the scale of each column."""
    beside, below = bands(len(columns))
    ratios = ([1.0] * len(images) + [0.06]) * below
    axes = part.subplots(len(ratios), max(beside + 1, ROOM), squeeze=False, height_ratios=ratios)
    for axis in axes.flat:
        axis.set_axis_off()
    for band, rows in enumerate(axes.reshape(below, len(images) + 1, -1)):
        pictures = list(rows[:-1, 0])
        for axis, image in zip(pictures, images, strict=True):
            show(axis, image, margin=0)
        pictures[0].set_title("input", fontsize=8)
        for (*cells, bar), column in zip(rows.T[1:], columns[band * beside : (band + 1) * beside], strict=False):
            draw_column(part, column, images, pictures, cells, bar)


def draw_column(
    part: SubFigure, column: Column, images: Tensor, pictures: Sequence[Axes], cells: Sequence[Axes], bar: Axes
) -> None:
    """Draw the maps of one column over the images, their query and their colour bar."""
    height, width = images.shape[2:]
    low, high = column.scale
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    for picture, axis, image, weights in zip(pictures, cells, images, column.maps, strict=True):
        show(axis, in_grey(image), margin=0)
        drawn = axis.imshow(
            weights.numpy(), vmin=low, vmax=high, cmap=SCALE, interpolation="nearest", extent=extent, alpha=OPACITY
        )
        if column.query:
            for framed in (picture, axis):
                column.query.frame(framed, height, width)
    cells[0].set_title(column.title, fontsize=fitting(column.title, 0.9 * columns_width(pictures[0])))
    bar.set_axis_on()
    bar.set_facecolor(str((DARK + LIGHT) / 2))
    part.colorbar(drawn, cax=bar, orientation="horizontal", ticks=[low, high], format="%.2g")
    bar.tick_params(labelsize=6)
    first, last = bar.get_xticklabels()
    first.set_horizontalalignment("left")  # both within the bar, clear of a neighbour's
    last.set_horizontalalignment("right")


def in_grey(image: Tensor) -> Tensor:
    """Return the luminance of an image (3, H, W) as grey of reduced contrast, (3, H, W)."""
    return DARK + (LIGHT - DARK) * torch.einsum("chw,c->hw", image, LUMA).expand(3, -1, -1)


def columns_width(axis: Axes) -> float:
    """Return the distance from one column to the next, in inches."""
    spec = axis.get_subplotspec()
    return WIDTH / spec.get_gridspec().ncols if spec else WIDTH


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


def draw_masks(part: SubFigure, records: list[Record], images: Tensor, predictions: Sequence[str] | None) -> None:
    """Draw masks as columns over their images."""
    titles = [f"{record.mechanism}\n{record.path}" for record in records]
    columns = [Column(title, record.values, mask_scale(record)) for title, record in zip(titles, records, strict=True)]
    draw_columns(part, columns, images)


def mask_scale(record: Record) -> tuple[float, float]:
    """Return the range of a mask's scale: its `value_range`.

    The range is from 0 to the largest weight if `value_range` is unbounded, or if the weights are shares of the
    positions, with sum 1.
    """
    shares = (record.values.sum((1, 2)) - 1).abs().max() < SHARES
    return (0.0, record.values.max().item() or 1.0) if shares or isinf(record.value_range[1]) else record.value_range
