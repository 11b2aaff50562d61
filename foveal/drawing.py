"""Records to pictures. This file knows no model: Records, images and, where there are some, predictions.

Images are shown as they are, in their own colours. Weights are shown on the scale that their Record states, with a
colour bar; nothing is rescaled unseen.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import ceil, prod, sqrt
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Polygon, Rectangle
from torch import Tensor

from foveal.geometry import IDENTITY, sample, to_pixels
from foveal.record import Record
from foveal.warps import grid_of, outline

BOX = "#e69f00"  # orange and blue that colour-blind readers tell apart
POINTS = "#56b4e9"
PAIR = ((1.0, 0.6, 0.0), (0.0, 0.4, 1.0))  # the same, as light: where both are full it is white
GRID_POINTS = 12  # along a side of the sampling grid
PATHS = 3  # images in a row, where each shows a path
BRANCHES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")
SCALE = "viridis"
SHARES = 1e-3  # how far from one the sum of a softmax may be, in single precision
WIDTH = 9.5  # inches
NUMBER = {"boxstyle": "circle,pad=0.15", "facecolor": "#0072b2", "edgecolor": "none"}


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
    return Picture(figure)


def record_head(record: Record, count: int) -> Record:
    return replace(record, values=record.values[:count].detach().float().cpu())


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


def as_pictures(images: Tensor) -> Tensor:
    """Images in [0, 1] with three channels: (B, 3, H, W). Of two channels one is shown orange and the other blue."""
    if images.ndim != 4 or images.shape[1] not in (1, 2, 3):
        raise ValueError(f"images {tuple(images.shape)}: (B, 1 to 3, H, W) is needed")
    images = images.detach().cpu()
    images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    if images.min() < 0 or images.max() > 1:
        raise ValueError(
            f"images from {images.min():.3g} to {images.max():.3g}: give them as they were before any "
            "normalisation, in [0, 1]"
        )
    if images.shape[1] == 2:
        return torch.einsum("bchw,cd->bdhw", images, torch.tensor(PAIR)).clamp(max=1)
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
        crop = sample(image, grid_of(theta, *(record.size or (height, width))))
        for axis in row:
            axis.set_axis_off()
        for axis, picture in ((row[0], image), (row[1], image), (row[2], crop), (row[4], image), (row[5], image)):
            show(axis, picture[0])
        box = to_pixels(outline(theta), height, width)[0].numpy()
        row[1].add_patch(Polygon(box, fill=False, edgecolor=BOX, linewidth=2))
        say(row[3], predictions, index)
        for axis, shown in ((row[4], identity), (row[5], theta)):
            points = to_pixels(grid_of(shown, GRID_POINTS, GRID_POINTS), height, width).reshape(-1, 2)
            axis.scatter(*points.T.numpy(), s=3, color=POINTS)
    part.suptitle(", ".join(record.where for record in records), fontsize=10)


def draw_crops(part: SubFigure, records: list[Record], images: Tensor, predictions: Sequence[str] | None) -> None:
    """Image by image: input, the box of each crop, the crops in the same order, prediction."""
    titles = ["(a) input", "(b) chosen crops", "(c) the crops", "(d) predicted"]
    axes = part.subplots(len(records) * len(images), len(titles), squeeze=False)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    height, width = images.shape[2:]
    rows = ((record, index) for record in records for index in range(len(images)))
    for row, (record, index) in zip(axes, rows, strict=True):
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
        say(row[3], predictions, index)
    part.suptitle(", ".join(record.where for record in records), fontsize=10)


def tiled(pictures: Tensor) -> Tensor:
    """Pictures (K, 3, H, W) as one (3, H', W'), row by row, in white frames."""
    columns = ceil(sqrt(len(pictures)))
    lines = [torch.cat(list(F.pad(line, (1, 1, 1, 1), value=1.0)), dim=2) for line in pictures.split(columns)]
    return torch.cat([F.pad(line, (0, lines[0].shape[2] - line.shape[2]), value=1.0) for line in lines], dim=1)


def draw_gates(part: SubFigure, records: list[Record], images: Tensor, predictions: Sequence[str] | None) -> None:
    """Place by place: a row an image, a column a channel; a gate of channel and position by its mean over these."""
    axes = part.subplots(len(records), 1, squeeze=False)[:, 0]
    for axis, record in zip(axes, records, strict=True):
        low, high = record.within
        gate = record.values.unsqueeze(-1).flatten(2).mean(2).numpy()  # (B, C)
        drawn = axis.imshow(gate, vmin=low, vmax=high, cmap=SCALE, aspect="auto", interpolation="nearest")
        labels = predictions[: len(images)] if predictions else [str(index) for index in range(len(images))]
        axis.set_yticks(range(len(images)), labels, fontsize=7)
        mean = ", mean over positions" if record.values.ndim > 2 else ""
        axis.set_title(f"{record.where}: {record.mechanism}, gate of each channel{mean}", fontsize=9, loc="left")
    axes[-1].set_xlabel("channel", fontsize=8)
    part.colorbar(drawn, ax=axes, shrink=0.9).set_label("gate", fontsize=8)


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


def fitting(title: str, width: float) -> float:
    """The font size, seven points at most, at which the longest line fits into a width in inches."""
    longest = max(len(line) for line in title.split("\n"))
    return min(7.0, 72 * width / (0.6 * longest))


def mask_scale(record: Record) -> tuple[float, float]:
    """The range that a mask states; shares of the positions, which are one in sum, from 0 to the largest of them."""
    shares = (record.values.sum((1, 2)) - 1).abs().max() < SHARES
    return (0.0, record.values.max().item()) if shares else record.within


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


def draw_glimpses(part: SubFigure, records: list[Record], images: Tensor, predictions: Sequence[str] | None) -> None:
    """Image by image: the numbered places of the path, each in the square that its sharpest patch shows."""
    height, width = images.shape[2:]
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
            axis.annotate(str(step), (x, y), color="white", fontsize=7, ha="center", va="center", bbox=NUMBER)
        said = f": {predictions[index]}" if predictions else ""
        axis.set_title(f"{record.where}{said}", fontsize=9)


def say(axis: Axes, predictions: Sequence[str] | None, index: int) -> None:
    """What the network said of an image."""
    text = str(predictions[index]) if predictions else ""
    axis.text(0.5, 0.5, text, ha="center", va="center", fontsize=20, transform=axis.transAxes)


def show(axis: Axes, image: Tensor, margin: float = 0.25) -> None:
    """An image (3, H, W) with room around it for what lies outside."""
    height, width = image.shape[1:]
    axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    axis.set_xlim(-0.5 - margin * width, (1 + margin) * width - 0.5)
    axis.set_ylim((1 + margin) * height - 0.5, -0.5 - margin * height)


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
