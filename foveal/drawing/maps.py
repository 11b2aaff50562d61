"""Panels of weights that lie over the image: masks and affinities, beside it, each with its own scale."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from math import isinf, prod

import torch
from matplotlib.figure import SubFigure
from matplotlib.patches import Rectangle
from torch import Tensor

from foveal.drawing.canvas import BOX, SCALE, WIDTH, fitting, show
from foveal.record import Record

SHARES = 1e-3  # how far from one the sum of a softmax may be, in single precision

PLANES: dict[str, Callable[[Tensor], Tensor]] = {  # weights of channels and positions, as (B, C, H or 1, W or 1)
    "B C H W": lambda values: values,
    "B C H": lambda values: values[..., None],
    "B C W": lambda values: values[:, :, None],
}


def as_masks(records: list[Record]) -> list[Record]:
    """Weights that differ by channel and position as masks, their mean over channels; other Records as they are.

    The gates of rows and of columns that one place states are drawn as what they multiply out to.
    """
    owners: dict[tuple[str, int], list[Record]] = {}
    for record in (each for each in records if each.axes in PLANES):
        owner = record.where if record.axes == "B C H W" else record.where.rpartition(".")[0]
        owners.setdefault((owner or record.mechanism, record.call), []).append(record)
    means = [mean_over_channels(owner, stated) for (owner, _), stated in owners.items()]
    return [record for record in records if record.axes not in PLANES] + means


def mean_over_channels(owner: str, stated: list[Record]) -> Record:
    values = reduce(torch.mul, (PLANES[record.axes](record.values) for record in stated)).mean(1)
    lows, highs = zip(*(record.within for record in stated), strict=True)
    within = prod(lows), prod(highs)
    title = f"{owner}\nmean over channels"
    return replace(stated[0], where=title, kind="mask", axes="B H W", values=values, within=within)


def draw_masks(part: SubFigure, records: list[Record], images: Tensor, predictions: Sequence[str] | None) -> None:
    """Image by image: the image, then each place's mask as large as the image; a colour bar for each place."""
    ratios = [1.0] * len(images) + [0.06]
    axes = part.subplots(len(images) + 1, len(records) + 1, squeeze=False, height_ratios=ratios)
    height, width = images.shape[2:]
    for axis in (*axes[:-1].flat, axes[-1, 0]):
        axis.set_axis_off()
    for axis, image in zip(axes[:-1, 0], images, strict=True):
        show(axis, image, margin=0)
    axes[0, 0].set_title("input", fontsize=9)
    for (*column, below), record in zip(axes[:, 1:].T, records, strict=True):
        low, high = mask_scale(record)
        for axis, mask in zip(column, record.values, strict=True):
            drawn = axis.imshow(
                mask.numpy(),
                vmin=low,
                vmax=high,
                cmap=SCALE,
                interpolation="nearest",
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            )
        title = f"{record.mechanism}\n{record.where}"
        column[0].set_title(title, fontsize=fitting(title, WIDTH / (len(records) + 1)))
        part.colorbar(drawn, cax=below, orientation="horizontal", ticks=[low, high], format="%.2g")
        below.tick_params(labelsize=6)


def mask_scale(record: Record) -> tuple[float, float]:
    """The range that a mask states; from 0 to the largest of its weights where that range has no end, and for shares of
    the positions, which are one in sum.
    """
    shares = (record.values.sum((1, 2)) - 1).abs().max() < SHARES
    return (0.0, record.values.max().item() or 1.0) if shares or isinf(record.within[1]) else record.within


def draw_affinities(part: SubFigure, records: list[Record], images: Tensor, predictions: Sequence[str] | None) -> None:
    """Image by image: the image, then for each place what the centre of its map, framed, reads from where.

    Heads are averaged. One weight among many is small, so a place's scale ends at its largest weight, see its bar.
    """
    axes = part.subplots(len(images), len(records) + 1, squeeze=False)
    height, width = images.shape[2:]
    for row, image in zip(axes, images, strict=True):
        show(row[0], image, margin=0)
    axes[0, 0].set_title("input", fontsize=9)
    for column, record in zip(axes.T[1:], records, strict=True):
        several = record.axes.startswith("B G")
        weights = record.values.mean(1) if several else record.values  # (B, H, W, Y, X)
        rows, columns = weights.shape[1:3]
        maps = weights[:, rows // 2, columns // 2]  # (B, Y, X)
        cell = width / columns, height / rows
        for picture, axis, weight in zip(axes[:, 0], column, maps, strict=True):
            drawn = axis.imshow(
                weight.numpy(),
                vmin=0,
                vmax=maps.max().item(),
                cmap=SCALE,
                interpolation="nearest",
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            )
            corner = columns // 2 * cell[0] - 0.5, rows // 2 * cell[1] - 0.5
            for framed in (picture, axis):
                framed.add_patch(Rectangle(corner, *cell, fill=False, edgecolor=BOX, linewidth=1.5))
        query = f"query, framed: row {rows // 2}, column {columns // 2} of {rows}x{columns}"
        column[0].set_title(f"{record.where}\n{query}", fontsize=7)
        bar = part.colorbar(drawn, ax=list(column), location="bottom", shrink=0.9)
        bar.set_label("weight, mean of the heads" if several else "weight", fontsize=7)
        bar.ax.tick_params(labelsize=6)
    for axis in axes.flat:
        axis.set_axis_off()
