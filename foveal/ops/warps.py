"""Families of transforms: from a few regressed numbers to the input coordinates of each output pixel.

Jaderberg et al., 2015, secs. 3.2 and 4. A family converts its numbers to the values that a Record stores and a drawing
needs. The shape of the values determines the kind of transform:

    (B, 2, 3)  an affine transform, eq. 1; also attention (scale and translation, eq. 2), rotation and similarity
    (B, 3, 3)  a homography: (x, y, 1) goes to the first two rows over the third
    (B, P, 2)  a thin-plate spline: the input coordinates of each of P = 16 control points, on a regular grid from edge
               to edge of the output; between them the surface of least bending (Bookstein, 1989)

At its `identity` every family returns the input's own pixel centres, exactly: a spline moves points by the displacement
of its control points, which is zero there.

Scales are exponentials, so that no optimizer step flips an image or shrinks it to a point. A homography's last row
stays so near (0, 0, 1) that its denominator lies between 0.1 and 1.9 wherever the output has a pixel: the horizon is
never in view, and the division needs no guard.

Axes: B batch, H W map, N points, P control points.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foveal.ops.geometry import CORNERS, IDENTITY, affine_grid, centres, full_precision, transform

SIDE = 4  # control points along a side of the grid: 16 in all, as in the paper
CONTROL = tuple((x, y) for y in np.linspace(-1, 1, SIDE).tolist() for x in np.linspace(-1, 1, SIDE).tolist())
HORIZON = 0.45  # the largest share of x, and of y, in a homography's denominator
TINY = 1e-30  # added to a squared distance, so that a control point has a logarithm


def spline_system() -> tuple[tuple[float, ...], ...]:
    """Return the matrix from values at the control points to a spline's coefficients, (P + 3, P), in double precision.

    It is a constant, so that `torch.export` need not invert a matrix. The unknowns are a weight for each control point
    and an affine part. The equations require that the spline takes the values at the control points and that its
    weights have zero sum and zero first moments.
    """
    points = np.array(CONTROL)
    affine = np.concatenate([np.ones((len(points), 1)), points], axis=1)
    squares = ((points[:, None] - points) ** 2).sum(-1)
    system = np.block([[squares * np.log(squares + TINY), affine], [affine.T, np.zeros((3, 3))]])
    return tuple(tuple(row) for row in np.linalg.inv(system)[:, : len(points)].tolist())


SYSTEM = spline_system()


def displacement(control: Tensor, points: Tensor) -> Tensor:
    """Return the displacement of points (N, 2) by a spline: (B, N, 2).

    `control` (B, P, 2) are the input coordinates of the spline's control points. The influence of a control point on a
    point is a sum of large terms of either sign, so it is computed in double precision where the device supports it.
    """
    exact = control.dtype if control.device.type == "mps" else torch.float64
    start, system = (torch.tensor(each, device=control.device, dtype=exact) for each in (CONTROL, SYSTEM))
    points = points.to(exact)
    squares = (points[:, None] - start).square().sum(-1)  # (N, P)
    terms = torch.cat([squares * (squares + TINY).log(), torch.ones_like(points[:, :1]), points], dim=1)
    with full_precision(control):
        shares = (terms @ system).to(control.dtype)  # (N, P)
        return shares @ (control - start.to(control.dtype))


def grid_of(values: Tensor, height: int, width: int) -> Tensor:
    """Return the input coordinates of each output pixel, for a transform of any family: a grid (B, H, W, 2)."""
    if values.shape[-1] == 3:
        grid = affine_grid(values, height, width)
        return grid if values.shape[-2] == 2 else grid[..., :2] / grid[..., 2:]
    x = centres(width, values).expand(height, width)
    y = centres(height, values).view(-1, 1).expand(height, width)
    points = torch.stack([x, y], dim=-1)  # (H, W, 2)
    return points + displacement(values, points.flatten(0, 1)).unflatten(1, (height, width))


def outline(values: Tensor, steps: int = 16) -> Tensor:
    """Return the outline of the region that a transform of any family shows, clockwise from its upper left corner.

    Args:
        values: the values of B transforms.
        steps: N, the number of points along each side, of which the first is a corner.

    Returns:
        Points (B, 4 N, 2).
    """
    corner = torch.tensor(CORNERS, device=values.device, dtype=values.dtype)
    along = torch.arange(steps, device=values.device, dtype=values.dtype).view(-1, 1) / steps
    edge = torch.lerp(corner[:, None], corner.roll(-1, 0)[:, None], along).flatten(0, 1)
    if values.shape[-1] == 2:
        return edge + displacement(values, edge)
    moved = transform(values, edge)
    return moved if values.shape[-2] == 2 else moved[..., :2] / moved[..., 2:]


@dataclass(frozen=True)
class WarpFamily:
    """Family of transforms of one form.

    Attributes:
        axes: axes of its values, as a Record names them.
        identity: the numbers of the identity transform; as many as a network regresses.
        values: function from numbers (B, N) and the input's height and width to the values.
    """

    axes: str
    identity: tuple[float, ...]
    values: Callable[[Tensor, int, int], Tensor]


def affine(numbers: Tensor, height: int, width: int) -> Tensor:
    """Reshape the numbers to theta, row by row: (B, 6) to (B, 2, 3)."""
    return numbers.unflatten(1, (2, 3))


def attention(numbers: Tensor, height: int, width: int) -> Tensor:
    """Convert the logarithm of a scale and a translation: (B, 3) to (B, 2, 3)."""
    log_scale, x, y = numbers.unbind(1)
    scale, zero = log_scale.exp(), torch.zeros_like(x)
    return torch.stack([scale, zero, x, zero, scale, y], dim=1).unflatten(1, (2, 3))


def similarity(numbers: Tensor, height: int, width: int) -> Tensor:
    """Convert an angle in radians, the logarithm of a scale and a translation: (B, 4) to (B, 2, 3).

    The rotation is one in pixels, which keeps the input's proportions: the same rotation in normalised coordinates
    would shear an image that is not square.
    """
    angle, log_scale, x, y = numbers.unbind(1)
    cos, sin = log_scale.exp() * angle.cos(), log_scale.exp() * angle.sin()
    return torch.stack([cos, -sin * height / width, x, sin * width / height, cos, y], dim=1).unflatten(1, (2, 3))


def rotation(numbers: Tensor, height: int, width: int) -> Tensor:
    """Convert an angle in radians: (B, 1) to (B, 2, 3)."""
    return similarity(torch.cat([numbers, torch.zeros_like(numbers).expand(-1, 3)], dim=1), height, width)


def homography(numbers: Tensor, height: int, width: int) -> Tensor:
    """Convert two rows, and two numbers for the third, (g, h, 1), bounded by `HORIZON`: (B, 8) to (B, 3, 3)."""
    last = torch.cat([HORIZON * numbers[:, 6:].tanh(), torch.ones_like(numbers[:, :1])], dim=1)
    return torch.cat([numbers[:, :6], last], dim=1).unflatten(1, (3, 3))


def spline(numbers: Tensor, height: int, width: int) -> Tensor:
    """Reshape the numbers to the input coordinates of the control points: (B, 2 P) to (B, P, 2)."""
    return numbers.unflatten(1, (-1, 2))


UNMOVED = tuple(number for row in IDENTITY for number in row)
FAMILIES = {
    "affine": WarpFamily("B 2 3", UNMOVED, affine),
    "attention": WarpFamily("B 2 3", (0.0,) * 3, attention),
    "rotation": WarpFamily("B 2 3", (0.0,), rotation),
    "similarity": WarpFamily("B 2 3", (0.0,) * 4, similarity),
    "projective": WarpFamily("B 3 3", (*UNMOVED, 0.0, 0.0), homography),
    "tps": WarpFamily("B P 2", tuple(number for point in CONTROL for number in point), spline),
}
