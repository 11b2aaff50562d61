"""Localization metrics: attention maps of Records against true regions, of boxes or masks.

`looked_at` converts a Record with spatial information to a map over the image; a channel gate has none. Each map is
scored by

    pointing    1 if its largest weight lies in the region (Zhang et al., 2018, the pointing game)
    energy      share of its weight inside the region (Wang et al., 2020)
    iou         intersection over union of the region and the cells above a threshold

and compared with two baselines that have the same weights but do not depend on the image: `centred`, the map's weights
sorted from the centre outwards, and `another`, the map of another image.

A region is given by the share of each cell that it covers, and by whether it holds each cell's centre, see
`foveal.evaluation.regions`. Axes: B batch, H W map, P points.
"""

from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from foveal.core.layout import Windows
from foveal.core.record import Record
from foveal.inspection.rollout import layouts
from foveal.ops.geometry import centres
from foveal.ops.warps import outline

TWO_SIDED_95 = NormalDist().inv_cdf(0.975)


def looked_at(record: Record, image: tuple[int, int]) -> Tensor | None:
    """Convert a Record to non-negative maps (B, H, W) over the image; None if it has no spatial information.

    A mask gives its weights, averaged over channels if there are any. Transforms, crops and glimpses give 1 inside the
    region that they show (for a glimpse, its sharpest patch) and 0 outside, in pixels. An affinity gives the mean
    weight that each position receives from all queries and heads.
    """
    values = record.values.float()
    if record.kind == "mask":
        return values.mean(1) if values.ndim == 4 else values
    if record.kind in ("transform", "crop"):
        transforms = values if record.kind == "transform" else values.flatten(0, 1)
        shown = polygon(outline(transforms), *image)
        return shown if record.kind == "transform" else shown.unflatten(0, values.shape[:2]).amax(1)
    if record.kind == "glimpse":
        return squares(values, record.size or (1, 1), image)
    return received(record, values, image) if record.kind == "affinity" and record.domain != "channel" else None


def received(record: Record, values: Tensor, image: tuple[int, int]) -> Tensor | None:
    """Average the weights that the keys receive, if the keys form a map; drops class token and registers before it."""
    axes = record.axes
    if axes.endswith("Y X"):
        return values.flatten(1, -3).mean(1)  # (B, Y, X)
    tokens = layouts(record, image)[1]
    if isinstance(tokens, Windows):
        windows = values.mean(axes.split().index("G")).mean(2)  # (B, N, K)
        return tokens.map(windows) / windows.shape[1]
    return tokens.map(values.flatten(1, -2).mean(1)) if tokens else None


def squares(path: Tensor, size: tuple[int, int], image: tuple[int, int]) -> Tensor:
    """Rasterize rectangles of a size in pixels around the points of a path (B, T, 2): (B, H, W), 1 inside, else 0."""
    x, y = (path[..., 0, None] + 1) * (image[1] / 2), (path[..., 1, None] + 1) * (image[0] / 2)
    columns, rows = torch.arange(image[1]) + 0.5, torch.arange(image[0]) + 0.5
    within_x, within_y = (columns - x).abs() <= size[1] / 2, (rows - y).abs() <= size[0] / 2  # (B, T, W), (B, T, H)
    return (within_y[..., None] & within_x[..., None, :]).any(1).float()


def polygon(points: Tensor, height: int, width: int) -> Tensor:
    """Rasterize polygons (B, P, 2) in normalised coordinates: 1 at pixel centres inside, 0 outside, (B, H, W)."""
    x, y = centres(width, points), centres(height, points)[:, None]
    inside = torch.zeros(len(points), height, width, dtype=torch.bool, device=points.device)
    for start, end in zip(points.unbind(1), points.roll(-1, 1).unbind(1), strict=True):
        (x0, y0), (x1, y1) = ((each[:, None, None] for each in point.unbind(1)) for point in (start, end))
        crosses = (y0 > y) != (y1 > y)  # a ray to the right meets this edge
        inside ^= crosses & (x < (x1 - x0) * (y - y0) / torch.where(y1 == y0, 1, y1 - y0) + x0)
    return inside.float()


def pointing(maps: Tensor, holds: Tensor) -> Tensor:
    """Compute the pointing game (B,): 1 if the region holds the largest cell's centre; the mean for ties."""
    largest = (maps == maps.amax((1, 2), keepdim=True)).to(maps.dtype)
    return (largest * holds).sum((1, 2)) / largest.sum((1, 2))


def energy(maps: Tensor, cover: Tensor) -> Tensor:
    """Compute the share (B,) of each map's weight inside its region; 0 for a map of zeros."""
    return (maps * cover).sum((1, 2)) / maps.sum((1, 2)).clamp(min=torch.finfo(maps.dtype).tiny)


def iou(maps: Tensor, cover: Tensor, threshold: float = 0.5) -> Tensor:
    """Compute the intersection over union (B,) of the region and the cells of at least `threshold` of a map's range."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    chosen = (maps >= low + threshold * (high - low)).to(maps.dtype)
    common = (chosen * cover).sum((1, 2))
    return common / (chosen.sum((1, 2)) + cover.sum((1, 2)) - common)


def centered_maps(maps: Tensor) -> Tensor:
    """Sort each map's weights from the centre (largest) to the corners (smallest): (B, H, W)."""
    height, width = maps.shape[1:]
    distance = centres(height, maps)[:, None].square() + centres(width, maps).square()
    out = torch.empty_like(maps).flatten(1)
    out[:, distance.flatten().argsort(stable=True)] = maps.flatten(1).sort(1, descending=True).values
    return out.view_as(maps)


def shuffled_maps(maps: Tensor) -> Tensor:
    """Replace each map with the map of the previous image of the batch: (B, H, W)."""
    return maps.roll(1, 0)


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def interval(values: Tensor) -> Interval:
    """Compute the mean over images (N,) and its 95 % interval by the normal approximation, for dozens of images."""
    mean = values.double().mean().item()
    error = TWO_SIDED_95 * values.double().std().item() / len(values) ** 0.5
    return Interval(mean, mean - error, mean + error)
