"""Regions of an image, of one object or of several together, and how they lie over the cells of a map.

A region is a grid of cells, each inside or outside: of one cell for a box, of pixels for a mask, of the cells between
all edges for the union of boxes. So the shares of a map's cells that it covers are exact.

Axes: N objects, R regions, H W the cells of a map, Y X the cells of a region.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Size = tuple[int, int]  # height and width


@dataclass(frozen=True)
class Region:
    """A part of an image: `inside` (Y, X) of bool, between edges `y` (Y + 1,) and `x` (X + 1,) in pixels."""

    y: Tensor
    x: Tensor
    inside: Tensor

    def coverage(self, image: Size, cells: Size) -> Tensor:
        """Compute the share of each cell of a map that the region covers, (H, W); sizes as height, width."""
        rows = overlap(self.y, image[0], cells[0])
        return rows.T @ self.inside.float() @ overlap(self.x, image[1], cells[1])

    def holds(self, image: Size, cells: Size) -> Tensor:
        """Return whether the centre of each cell of a map lies in the region or on its edge: (H, W), bool."""
        rows = contained(self.y, image[0], cells[0])
        return rows.T @ self.inside.float() @ contained(self.x, image[1], cells[1]) > 0


def overlap(edges: Tensor, length: int, cells: int) -> Tensor:
    """Compute the share of each of `cells` equal parts of a length that lies between two neighbouring edges:
    (edges - 1, cells)."""
    borders = torch.arange(cells + 1) * (length / cells)
    between = torch.minimum(edges[1:, None], borders[1:]) - torch.maximum(edges[:-1, None], borders[:-1])
    return between.clamp(min=0) * (cells / length)


def contained(edges: Tensor, length: int, cells: int) -> Tensor:
    """Return 1 where the middle of each of `cells` equal parts lies between two neighbouring edges, else 0."""
    middles = (torch.arange(cells) + 0.5) * (length / cells)
    return ((edges[:-1, None] <= middles) & (middles <= edges[1:, None])).float()


def region_of_each(objects: Tensor) -> list[Region]:
    """Return the region of each object, of boxes (N, 4) or masks (N, H, W)."""
    if objects.ndim == 3:
        y, x = torch.arange(objects.shape[1] + 1.0), torch.arange(objects.shape[2] + 1.0)
        return [Region(y, x, mask) for mask in objects]
    return [Region(box[[1, 3]], box[[0, 2]], torch.ones(1, 1, dtype=torch.bool)) for box in objects]


def region_of_all(objects: Tensor) -> Region:
    """Return the union of objects, of boxes (N, 4) or masks (N, H, W)."""
    if objects.ndim == 3 or len(objects) == 1:
        first, *_ = region_of_each(objects)
        return first if objects.ndim == 2 else Region(first.y, first.x, objects.any(0))
    x, y = objects[:, [0, 2]].unique(), objects[:, [1, 3]].unique()
    inside = torch.zeros(len(y) - 1, len(x) - 1, dtype=torch.bool)
    places = torch.stack([torch.searchsorted(x if at % 2 == 0 else y, objects[:, at].contiguous()) for at in range(4)])
    for x0, y0, x1, y1 in places.T.tolist():
        inside[y0:y1, x0:x1] = True
    return Region(y, x, inside)


@dataclass(frozen=True)
class Targets:
    """Regions of a batch, each in an image; several of one image are averaged.

    Attributes:
        regions: R of them.
        owners: (R,), the index of each region's image in the batch.
        image: height and width in pixels.
    """

    regions: Sequence[Region]
    owners: Tensor
    image: Size

    def coverage(self, cells: Size) -> Tensor:
        """Compute the share of each cell of a map that each region covers: (R, H, W)."""
        return torch.stack([region.coverage(self.image, cells) for region in self.regions])

    def holds(self, cells: Size) -> Tensor:
        """Return whether each region holds the centre of each cell: (R, H, W), bool."""
        return torch.stack([region.holds(self.image, cells) for region in self.regions])

    def parts(self, count: int) -> Iterator["Targets"]:
        """Yield the regions in parts of `count`."""
        for first in range(0, len(self.regions), count):
            some = slice(first, first + count)
            yield Targets(self.regions[some], self.owners[some], self.image)

    def average(self, scores: Tensor) -> Tensor:
        """Average scores (..., R) over the regions of each image that has some: (..., images), in order."""
        images, index, counts = self.owners.unique(return_inverse=True, return_counts=True)
        return scores.new_zeros(*scores.shape[:-1], len(images)).index_add(-1, index, scores) / counts


def unions(objects: Sequence[Tensor], image: Size) -> Targets:
    """Return, of each image with objects, their union."""
    owners = [index for index, each in enumerate(objects) if len(each)]
    return Targets([region_of_all(objects[index]) for index in owners], torch.tensor(owners, dtype=torch.int64), image)


def singles(objects: Sequence[Tensor], image: Size) -> Targets:
    """Return each object alone."""
    regions = [region for each in objects for region in region_of_each(each)]
    owners = [index for index, each in enumerate(objects) for _ in each]
    return Targets(regions, torch.tensor(owners, dtype=torch.int64), image)
