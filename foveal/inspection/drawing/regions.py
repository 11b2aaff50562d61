"""Panels of regions of the image: transforms, crops and glimpses, drawn on the image itself."""

from collections.abc import Iterator
from math import ceil, sqrt
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import SubFigure
from matplotlib.patches import Polygon, Rectangle
from torch import Tensor

from foveal.core.record import Record
from foveal.inspection.drawing.canvas import (
    BOX,
    POINTS,
    TICK,
    TITLE,
    Sheet,
    show,
    title_height,
    wrapped,
    write_prediction,
)
from foveal.inspection.drawing.palette import BLUE
from foveal.ops.geometry import IDENTITY, sample, to_pixels
from foveal.ops.warps import grid_of, outline

GRID_POINTS = 12  # along a side of the sampling grid
PATHS = 3  # images in a row, each with a path
COLUMNS = ("(a) input", "(b) learned box", "(c) transformed", "(d) predicted", "identity grid", "learned grid")
CROP_COLUMNS = ("(a) input", "(b) chosen crops", "(c) the crops", "(d) predicted")
NUMBER = {"boxstyle": "circle,pad=0.15", "facecolor": BLUE, "edgecolor": "none"}


def rows_of_columns(
    part: SubFigure, records: list[Record], sheet: Sheet, columns: tuple[str, ...]
) -> Iterator[tuple[Any, Record, int]]:
    """Divide a part of a figure into titled columns; yield the axes of each row, of a Record and an image's number."""
    axes = part.subplots(len(records) * len(sheet.images), len(columns), squeeze=False)
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(title, fontsize=TITLE)
    pairs = ((record, index) for record in records for index in range(len(sheet.images)))
    for row, (record, index) in zip(axes, pairs, strict=True):
        yield row, record, index


def draw_transforms(part: SubFigure, records: list[Record], sheet: Sheet) -> None:
    """Draw for each image the input, learned box, transformer's output, prediction, and the sampling grid twice."""
    images = sheet.images
    height, width = sheet.size
    identity = torch.tensor([IDENTITY])
    for row, record, index in rows_of_columns(part, records, sheet, COLUMNS):
        image, theta = images[index : index + 1], record.values[index : index + 1]
        if index == 0 and len(records) > 1:
            row[0].text(0, 0.87, record.path, fontsize=TICK, transform=row[0].transAxes)
        crop = sample(image, grid_of(theta, *(record.size or (height, width))))
        for axis in row:
            axis.set_axis_off()
        for axis, picture in ((row[0], image), (row[1], image), (row[2], crop), (row[4], image), (row[5], image)):
            show(axis, picture[0])
        box = to_pixels(outline(theta), height, width)[0].numpy()
        row[1].add_patch(Polygon(box, fill=False, edgecolor=BOX, linewidth=2))
        write_prediction(row[3], sheet, index, sheet.width / len(COLUMNS))
        for axis, shown in ((row[4], identity), (row[5], theta)):
            points = to_pixels(grid_of(shown, GRID_POINTS, GRID_POINTS), height, width).reshape(-1, 2)
            axis.scatter(*points.T.numpy(), s=3, color=POINTS)
    if len(records) == 1:
        part.suptitle(records[0].path, fontsize=TITLE)


def draw_crops(part: SubFigure, records: list[Record], sheet: Sheet) -> None:
    """Draw for each image the input, the box of each crop, the crops in the same order, and the prediction."""
    images = sheet.images
    height, width = sheet.size
    for row, record, index in rows_of_columns(part, records, sheet, CROP_COLUMNS):
        thetas = record.values[index]  # (K, 2, 3)
        grid = grid_of(thetas, *(record.size or (height, width)))
        crops = sample(images[index].expand(len(thetas), -1, -1, -1), grid)
        for axis, picture in ((row[0], images[index]), (row[1], images[index]), (row[2], tiled(crops))):
            axis.set_axis_off()
            show(axis, picture, margin=0)
        for number, box in enumerate(to_pixels(outline(thetas), height, width).numpy(), start=1):
            row[1].add_patch(Polygon(box, fill=False, edgecolor=BOX, linewidth=2))
            row[1].annotate(str(number), box[0], (3, -3), textcoords="offset points", va="top", color=BOX)
        row[3].set_axis_off()
        write_prediction(row[3], sheet, index, sheet.width / len(CROP_COLUMNS))
    part.suptitle(wrapped(", ".join(record.path for record in records), sheet.width), fontsize=TITLE)


def tiled(pictures: Tensor) -> Tensor:
    """Tile pictures (K, 3, H, W) to one (3, H', W'), row by row, in white frames."""
    columns = ceil(sqrt(len(pictures)))
    lines = [torch.cat(list(F.pad(line, (1, 1, 1, 1), value=1.0)), dim=2) for line in pictures.split(columns)]
    return torch.cat([F.pad(line, (0, lines[0].shape[2] - line.shape[2]), value=1.0) for line in lines], dim=1)


def draw_glimpses(part: SubFigure, records: list[Record], sheet: Sheet) -> None:
    """Draw on each image the numbered locations of the path, each with the square of its sharpest patch."""
    images = sheet.images
    height, width = sheet.size
    count = len(records) * len(images)
    axes = part.subplots(-(-count // PATHS), PATHS, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    pairs = ((record, index) for record in records for index in range(len(images)))
    for axis, (record, index) in zip(axes, pairs, strict=False):
        show(axis, images[index], margin=0.1)
        path = to_pixels(record.values[index], height, width)  # (T, 2)
        axis.plot(*path.T.numpy(), color=POINTS, linewidth=1.5)
        rows, columns = record.size or (1, 1)
        for step, (x, y) in enumerate(path.tolist(), start=1):
            corner = x - columns / 2, y - rows / 2
            axis.add_patch(Rectangle(corner, columns, rows, fill=False, edgecolor=BOX, linewidth=1.2))
            axis.annotate(str(step), (x, y), color="white", fontsize=8, ha="center", va="center", bbox=NUMBER)
        axis.set_title(path_title(record, sheet, index), fontsize=TITLE)


def path_title(record: Record, sheet: Sheet, index: int) -> str:
    """Return the place of a path and the prediction for its image."""
    return wrapped("\n".join(filter(None, [record.path, sheet.caption(index)])), 0.9 * sheet.width / PATHS)


def transforms_height(records: list[Record], sheet: Sheet) -> float:
    """Return the height of transforms in inches."""
    return 0.6 + 1.55 * sheet.ratio * len(records) * len(sheet.images)


def crops_height(records: list[Record], sheet: Sheet) -> float:
    """Return the height of crops in inches."""
    return 0.6 + 2.2 * sheet.ratio * len(records) * len(sheet.images)


def glimpses_height(records: list[Record], sheet: Sheet) -> float:
    """Return the height of paths of glimpses in inches."""
    titles = title_height([path_title(each, sheet, index) for each in records for index in range(len(sheet.images))])
    return (3.0 * sheet.ratio + titles) * ceil(len(records) * len(sheet.images) / PATHS)
