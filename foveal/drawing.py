"""Records to pictures. This file knows no model: Records, images and, where there are some, predictions.

Images are shown as they are, in their own colours. Weights are shown on the scale that their Record states, with a
colour bar; nothing is rescaled unseen.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Polygon, Rectangle
from torch import Tensor

from foveal.geometry import IDENTITY, affine_grid, corners, sample, to_pixels
from foveal.record import Record

BOX = "#e69f00"  # orange and blue that colour-blind readers tell apart
POINTS = "#56b4e9"
GRID_POINTS = 12  # along a side of the sampling grid
BRANCHES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")
SCALE = "viridis"
WIDTH = 9.5  # inches


class Picture:
    """A drawing: `save` it, or let a notebook show it."""

    def __init__(self, figure: Figure):
        self.figure = figure

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


def draw(seen: Iterable[Record], images: Tensor, predictions: Sequence[str] | None = None, *, most: int = 6) -> Picture:
    """Everything that was seen, on one sheet.

    Args:
        seen: what `foveal.watch` gave, or some Records.
        images: (B, C, H, W) of one or three channels, uint8 or in [0, 1]: as they were before any normalisation.
        predictions: what the network said of each image.
        most: how many images to show.

    Raises:
        ValueError: no Record that can be drawn; images that are normalised, or not as many as the Records tell of.
    """
    records = [record for record in seen if record.kind in PANELS]
    if not records:
        raise ValueError("nothing to draw: no Record was seen")
    pictures = as_pictures(images)
    for record in records:
        if len(record.values) != len(pictures):
            raise ValueError(f"{len(pictures)} images, but {record.where!r} tells of {len(record.values)}")
    shown = pictures[:most]
    groups = [(panel, chosen) for kind, panel in PANELS.items() if (chosen := [r for r in records if r.kind == kind])]
    heights = [panel.height(chosen, len(shown)) for panel, chosen in groups]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(groups), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, (panel, chosen) in zip(parts, groups, strict=True):
        panel.fill(part, [record_head(record, len(shown)) for record in chosen], shown, predictions)
    return Picture(figure)


def record_head(record: Record, count: int) -> Record:
    return replace(record, values=record.values[:count].detach().float().cpu())


def as_pictures(images: Tensor) -> Tensor:
    """Images in [0, 1] with three channels: (B, 3, H, W)."""
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images {tuple(images.shape)}: (B, 1 or 3, H, W) is needed")
    images = images.detach().cpu()
    images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    if images.min() < 0 or images.max() > 1:
        raise ValueError(
            f"images from {images.min():.3g} to {images.max():.3g}: give them as they were before any "
            "normalisation, in [0, 1]"
        )
    return images.expand(-1, 3, -1, -1)


def draw_transforms(part: SubFigure, records: list[Record], images: Tensor, predictions: Sequence[str] | None) -> None:
    """Image by image: input, learned box, what the transformer gives out, prediction; the sampling grid twice."""
    titles = [
        "(a) input",
        "(b) learned box",
        "(c) transformed",
        "(d) predicted",
        "grid at the identity",
        "grid learned",
    ]
    axes = part.subplots(len(records) * len(images), len(titles), squeeze=False)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    height, width = images.shape[2:]
    identity = torch.tensor([IDENTITY])
    rows = ((record, index) for record in records for index in range(len(images)))
    for row, (record, index) in zip(axes, rows, strict=True):
        image, theta = images[index : index + 1], record.values[index : index + 1]
        crop = sample(image, affine_grid(theta, *(record.size or (height, width))))
        for axis in row:
            axis.set_axis_off()
        for axis, picture in ((row[0], image), (row[1], image), (row[2], crop), (row[4], image), (row[5], image)):
            show(axis, picture[0])
        outline = to_pixels(corners(theta), height, width)[0].numpy()
        row[1].add_patch(Polygon(outline, fill=False, edgecolor=BOX, linewidth=2))
        row[3].text(
            0.5,
            0.5,
            str(predictions[index]) if predictions else "",
            ha="center",
            va="center",
            fontsize=20,
            transform=row[3].transAxes,
        )
        for axis, shown in ((row[4], identity), (row[5], theta)):
            points = to_pixels(affine_grid(shown, GRID_POINTS, GRID_POINTS), height, width).reshape(-1, 2)
            axis.scatter(*points.T.numpy(), s=3, color=POINTS)
    part.suptitle(", ".join(record.where for record in records), fontsize=10)


def draw_gates(part: SubFigure, records: list[Record], images: Tensor, predictions: Sequence[str] | None) -> None:
    """Place by place: a row an image, a column a channel."""
    axes = part.subplots(len(records), 1, squeeze=False)[:, 0]
    for axis, record in zip(axes, records, strict=True):
        low, high = record.within
        drawn = axis.imshow(
            record.values.numpy(), vmin=low, vmax=high, cmap=SCALE, aspect="auto", interpolation="nearest"
        )
        labels = predictions[: len(images)] if predictions else [str(index) for index in range(len(images))]
        axis.set_yticks(range(len(images)), labels, fontsize=7)
        axis.set_title(f"{record.where}: {record.mechanism}, gate of each channel", fontsize=9, loc="left")
    axes[-1].set_xlabel("channel", fontsize=8)
    part.colorbar(drawn, ax=axes, shrink=0.9).set_label("gate", fontsize=8)


def draw_masks(part: SubFigure, records: list[Record], images: Tensor, predictions: Sequence[str] | None) -> None:
    """Image by image: the image, then each place's mask as large as the image."""
    axes = part.subplots(len(images), len(records) + 1, squeeze=False)
    height, width = images.shape[2:]
    for index, row in enumerate(axes):
        show(row[0], images[index], margin=0)
        for axis, record in zip(row[1:], records, strict=True):
            low, high = record.within
            drawn = axis.imshow(
                record.values[index].numpy(),
                vmin=low,
                vmax=high,
                cmap=SCALE,
                interpolation="nearest",
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            )
        for axis in row:
            axis.set_axis_off()
    axes[0, 0].set_title("input", fontsize=9)
    for axis, record in zip(axes[0, 1:], records, strict=True):
        axis.set_title(record.where, fontsize=7)
    part.colorbar(drawn, ax=axes, shrink=0.9).set_label("mask", fontsize=8)


def draw_selections(part: SubFigure, records: list[Record], images: Tensor, predictions: Sequence[str] | None) -> None:
    """The share of each branch by depth, the mean over channels; a dot an image."""
    axis = part.subplots()
    below = np.zeros(len(records))
    shares = [record.values.mean(2) for record in records]  # (B, K) each
    for branch in range(max(share.shape[1] for share in shares)):
        height = np.array([share[:, branch].mean() if branch < share.shape[1] else 0 for share in shares])
        axis.bar(
            range(len(records)),
            height,
            bottom=below,
            color=BRANCHES[branch % len(BRANCHES)],
            label=f"branch {branch + 1}",
        )
        below = below + height
    for place, share in enumerate(shares):
        axis.scatter(np.full(len(share), place), share[:, 0], s=8, color="black", zorder=3)
    axis.set_xticks(range(len(records)), [record.where for record in records], fontsize=7)
    axis.set_ylim(0, 1)
    axis.set_ylabel("mean selection", fontsize=8)
    axis.set_title("selective kernel: share of each branch; dots: branch 1, image by image", fontsize=9, loc="left")
    axis.legend(fontsize=7, loc="upper right")


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


def show(axis: Axes, image: Tensor, margin: float = 0.25) -> None:
    """An image (3, H, W) with room around it for what lies outside."""
    height, width = image.shape[1:]
    axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    axis.set_xlim(-0.5 - margin * width, (1 + margin) * width - 0.5)
    axis.set_ylim((1 + margin) * height - 0.5, -0.5 - margin * height)


@dataclass(frozen=True)
class Panel:
    """How one kind of Record is drawn: inches of height for so many Records and images, and the drawing."""

    height: Callable[[list[Record], int], float]
    fill: Callable[[SubFigure, list[Record], Tensor, Sequence[str] | None], None]


PANELS = {
    "transform": Panel(lambda records, images: 0.5 + 1.55 * len(records) * images, draw_transforms),
    "mask": Panel(lambda records, images: 0.4 + 1.6 * images, draw_masks),
    "gate": Panel(lambda records, images: 0.6 + (0.5 + 0.14 * images) * len(records), draw_gates),
    "affinity": Panel(lambda records, images: 1.4 + 1.6 * images, draw_affinities),
    "selection": Panel(lambda records, images: 3.0, draw_selections),
}
