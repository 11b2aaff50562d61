"""Poses of objects from the corners of their boxes, before and after a transform.

Axes: B batch, N points.
"""

import torch
from torch import Tensor

from foveal.core.record import Record


def normalised_corners(boxes: Tensor, height: int, width: int) -> Tensor:
    """Convert boxes (B, 4) in pixels to normalised corners (B, 4, 2), clockwise from the upper left."""
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].unflatten(1, (4, 2))
    return 2 * corners / torch.tensor([width, height]) - 1


def undone(record: Record, points: Tensor) -> Tensor:
    """Map points (B, N, 2) of the input to the output of a transform."""
    theta = record.values.double()
    last = torch.tensor([[[0.0, 0.0, 1.0]]], dtype=theta.dtype).expand(len(theta), 1, 3)
    matrix = theta if theta.shape[1] == 3 else torch.cat([theta, last], 1)
    inverse, info = torch.linalg.inv_ex(matrix)
    if info.any():
        raise ValueError(f"{record.path!r}: a transform has no inverse: it shows a line or a point; see foveal.audit")
    moved = torch.cat([points.double(), torch.ones_like(points[..., :1]).double()], -1) @ inverse.mT
    return (moved[..., :2] / moved[..., 2:]).float()


def pose(corners: Tensor) -> Tensor:
    """Compute poses (B, 3) of corners (B, 4, 2), relative to the image's side: mean x and y, root of the area."""
    places = (corners + 1) / 2
    (x, y), (u, v) = places.unbind(-1), places.roll(-1, 1).unbind(-1)
    area = ((x * v - u * y).sum(1) / 2).abs()
    return torch.cat([places.mean(1), area.sqrt()[:, None]], 1)


def deviation(poses: Tensor) -> Tensor:
    """Compute the standard deviations (3,) of x, y and log2(size)."""
    return torch.stack([*poses[:, :2].unbind(1), poses[:, 2].log2()], 1).std(0, correction=0)
