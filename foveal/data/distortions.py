"""Distortions of the spatial transformer paper, drawn from a seed, with their true transforms and boxes.

Jaderberg et al., 2015, appendix A.4. A distorted image has the transform that undoes it, in the convention of
`foveal.ops.geometry` (theta maps the upright digit's frame to the canvas: the output of an ideal transformer), and the
tight box of the drawn pixels.

`rts`: rotation by up to 45 degrees, scale 0.7 to 1.2, then translation as far as the frame of an unrotated digit stays
on a canvas of 42x42. `translated`: whole pixels, on a canvas of 60x60. `r`: rotation by up to 90 degrees. `p`: the
digit is scaled by 0.75 to 1 in its image of 28x28, and each corner of the image, in the middle of a canvas of 42x42, is
moved by a normal of 5 pixels. `e`: a thin-plate spline whose 16 control points are moved by a normal of 1.5 pixels.
(The paper does not state the canvas of `r`, `p` and `e`; 28x28 contains all of `r` and `e`, but not of `p`.)

All true transforms have the direction of the transformer: theta for `r`, `rts` and `translated`, a homography (3, 3)
for `p`, and for `e` the positions on the canvas that 16 control points sample. The image is drawn through the inverse;
that of a spline is found by iteration, to some tenths of a pixel at the edge and less at the digit. In `e`, about six
splines of a thousand fold somewhere; one of the sheets is drawn there.

`cluttered`, `cluttered100` and `scene`: translated on a canvas of 60x60, 100x100 and 256x256, among 6, 8 and 40 pieces
of 8x8 pixels of other digits (as Mnih et al., 2014, sec. 4.1; six as in the transformer's paper). `noise`: translated,
under Gaussian noise of a tenth of the range. The box is that of the digit alone.

`translated84` and `cluttered84`: the images of the paper's co-localisation (appendix), on a canvas of 84x84, the latter
among 16 pieces of 6x6 pixels. `shifted`: moved by up to 12 whole pixels each way, and cut by a canvas of 28x28; its
encoders (`foveal.networks.co_localizer`) answer for parts of digits, too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from foveal.core.names import lookup
from foveal.ops.geometry import CORNERS, affine_grid, invert, sample
from foveal.ops.warps import CONTROL, grid_of, similarity

CHUNK = 2_000_000  # pixels warped at a time
SHIFT = 12  # pixels, largest move of a digit that the canvas cuts
STRETCH = 5.0  # pixels, standard deviation of a corner's move
THIN = 0.1  # of the square's: a corner of less area would fold the frame, or nearly
WAVE = 1.5  # pixels, standard deviation of a control point's move
ROUNDS = 10  # iterations for the inverse of a spline
INK = 50  # of 255: brighter pixels are inside the box
WHOLE = 1e-4  # pixels by which a position may differ from a whole one: less than the rounding of a grey level


@dataclass(frozen=True)
class Distorted:
    """Images (N, 1, S, S) uint8, the transform that undoes each, and the box of each (N, 4).

    The transform has the shape that `foveal.ops.warps` gives its kind: (N, 2, 3), (N, 3, 3) or (N, 16, 2). A box is x0,
    y0, x1, y1 in pixels, from edge to edge: a single pixel at (3, 5) is 3, 5, 4, 6.
    """

    images: Tensor
    theta: Tensor
    boxes: Tensor


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)


def rts(count: int, side: int, canvas: int, generator: torch.Generator) -> Tensor:
    """Draw rotation, scale and translation: theta (N, 2, 3)."""
    angle = torch.deg2rad(uniform(count, -45, 45, generator))
    scale = uniform(count, 0.7, 1.2, generator) * side / canvas
    shift = (1 - scale)[:, None] * torch.stack([uniform(count, -1, 1, generator) for _ in "xy"], dim=1)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rotation = torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)
    return torch.cat([rotation, shift[..., None]], dim=2)


def translated(count: int, side: int, canvas: int, generator: torch.Generator) -> Tensor:
    """Draw a translation by whole pixels: theta (N, 2, 3)."""
    corner = torch.randint(canvas - side + 1, (count, 2), generator=generator)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side / canvas
    theta[:, :, 2] = (2 * corner + side) / canvas - 1
    return theta


def shifted(count: int, side: int, canvas: int, generator: torch.Generator) -> Tensor:
    """Draw a translation by up to `SHIFT` whole pixels in x and in y: theta (N, 2, 3)."""
    theta = torch.eye(2, 3).repeat(count, 1, 1) * side / canvas
    theta[:, :, 2] = torch.randint(-SHIFT, SHIFT + 1, (count, 2), generator=generator) * 2 / canvas
    return theta


def turned(count: int, side: int, canvas: int, generator: torch.Generator) -> Tensor:
    """Draw a rotation: theta (N, 2, 3)."""
    angle = torch.deg2rad(uniform(count, -90, 90, generator))
    scale, still = torch.full_like(angle, side / canvas), torch.zeros_like(angle)
    return similarity(torch.stack([angle, scale.log(), still, still], dim=1), canvas, canvas)


def stretched(count: int, side: int, canvas: int, generator: torch.Generator) -> Tensor:
    """Draw images with moved corners and smaller digits: homographies (N, 3, 3). An image that folds is drawn again."""
    scale = uniform(count, 0.75, 1, generator)
    square = (torch.tensor(CORNERS) * side / canvas).repeat(count, 1, 1)
    corners = square.clone()
    again = torch.ones(count, dtype=torch.bool)
    while again.any():
        moves = torch.randn(int(again.sum()), 4, 2, generator=generator)
        corners[again] = square[again] + STRETCH * 2 / canvas * moves
        again = (turns(corners) < THIN * turns(square)).any(1)
    smaller = torch.stack([scale, scale, torch.ones(count)], dim=1).diag_embed()
    return to_corners(corners.double()).float() @ smaller


def turns(corners: Tensor) -> Tensor:
    """Return twice the signed area of the triangle at each corner of four (N, 4, 2): (N, 4); all positive if convex."""
    ahead = corners.roll(-1, 1) - corners
    after = ahead.roll(-1, 1)
    return ahead[..., 0] * after[..., 1] - ahead[..., 1] * after[..., 0]


def to_corners(corners: Tensor) -> Tensor:
    """Compute the homographies (N, 3, 3) that map the corners (+-1, +-1) to four points each, (N, 4, 2).

    A corner (x, y) goes to (u, v) where a x + b y + c - u (g x + h y) = u, and d x + e y + f - v (g x + h y) = v.
    """
    square = torch.tensor(CORNERS, dtype=corners.dtype).expand_as(corners)
    ones, none = torch.ones_like(square[..., :1]), torch.zeros_like(square).repeat(1, 1, 2)[..., :3]
    point = torch.cat([square, ones], dim=-1)
    u, v = corners.split(1, dim=-1)
    rows = torch.cat([torch.cat([point, none, -u * square], -1), torch.cat([none, point, -v * square], -1)], dim=1)
    numbers = torch.linalg.solve(rows, torch.cat([u, v], dim=1)).squeeze(-1)
    return torch.cat([numbers, ones[:, 0]], dim=1).unflatten(1, (3, 3))


def elastic(count: int, side: int, canvas: int, generator: torch.Generator) -> Tensor:
    """Draw moved control points: (N, 16, 2)."""
    moves = torch.randn(count, len(CONTROL), 2, generator=generator)
    return torch.tensor(CONTROL) * side / canvas + WAVE * 2 / canvas * moves


@dataclass(frozen=True)
class Distortion:
    draw: Callable[[int, int, int, torch.Generator], Tensor]
    canvas: int
    pieces: int = 0  # of other digits, as clutter
    piece: int = 8  # pixels, the side of a piece
    noise: float = 0.0  # standard deviation, of 255


DISTORTIONS = {
    "rts": Distortion(rts, 42),
    "translated": Distortion(translated, 60),
    "cluttered": Distortion(translated, 60, pieces=6),
    "cluttered100": Distortion(translated, 100, pieces=8),
    "shifted": Distortion(shifted, 28),
    "translated84": Distortion(translated, 84),
    "cluttered84": Distortion(translated, 84, pieces=16, piece=6),
    "scene": Distortion(translated, 256, pieces=40),
    "noise": Distortion(translated, 60, noise=25.5),
    "r": Distortion(turned, 28),
    "p": Distortion(stretched, 42),
    "e": Distortion(elastic, 28),
}


def distort(images: Tensor, kind: str, seed: int) -> Distorted:
    """Distort images (N, 1, H, H) uint8 on a black background.

    The same images, kind and seed give the same result.

    Raises:
        ValueError: for a kind that is not in `DISTORTIONS`.
    """
    distortion = lookup("distortion", kind, DISTORTIONS)
    generator = torch.Generator().manual_seed(seed)
    theta = distortion.draw(len(images), images.shape[-1], distortion.canvas, generator)
    chunk = CHUNK // distortion.canvas**2
    pairs = zip(images.split(chunk), theta.split(chunk), strict=True)
    out = torch.cat([warp(some, truth, distortion.canvas) for some, truth in pairs])
    boxes = ink_boxes(out)
    for _ in range(distortion.pieces):
        add_piece(out, images, distortion.piece, generator)
    if distortion.noise:
        for some in out.split(chunk):
            dirt = distortion.noise * torch.randn(some.shape, generator=generator)
            some.copy_((some + dirt).round().clamp(0, 255))
    return Distorted(out, theta, boxes)


def add_piece(images: Tensor, digits: Tensor, side: int, generator: torch.Generator) -> None:
    """Draw a square piece of a random digit at a random place of each image, in place; the brighter pixel wins."""
    count = len(images)

    def corners(size: int) -> Tensor:
        return torch.randint(size - side + 1, (2, count, 1), generator=generator)[:, :, 0]  # rows, columns

    chosen = torch.randint(len(digits), (count,), generator=generator)
    piece = windows(digits, side)[chosen, *corners(digits.shape[-1])]  # (N, side, side)
    places, where = windows(images, side), (torch.arange(count), *corners(images.shape[-1]))
    places[where] = torch.maximum(places[where], piece)


def windows(images: Tensor, side: int) -> Tensor:
    """View each square of images (N, 1, H, W) by the row and the column of its upper left corner: (N, R, C, s, s)."""
    return images[:, 0].unfold(1, side, 1).unfold(2, side, 1)


def warp(images: Tensor, theta: Tensor, canvas: int) -> Tensor:
    """Warp uint8 images (N, 1, H, W) so that theta, of any shape, undoes it: (N, 1, canvas, canvas) uint8."""
    corner = whole_corners(theta, images.shape[-1], canvas)
    if corner is not None:
        return placed(images, corner, canvas)
    grid = grid_back(theta, canvas)
    return sample(images.float(), grid, padding=0.0).round_().to(torch.uint8)  # means of values from 0 to 255


def whole_corners(theta: Tensor, side: int, canvas: int) -> Tensor | None:
    """Find the column and the row (N, 2) of the digits' upper left pixels; None if they are not whole or not inside."""
    upright = (torch.eye(2) * (side / canvas)).expand(len(theta), 2, 2)
    if theta.shape[1:] != (2, 3) or not torch.equal(theta[:, :, :2], upright):
        return None
    exact = ((theta[:, :, 2] + 1) * canvas - side) / 2
    corner = exact.round().long()
    inside = (corner >= 0) & (corner <= canvas - side) & ((exact - corner).abs() < WHOLE)
    return corner if inside.all() else None


def placed(images: Tensor, corner: Tensor, canvas: int) -> Tensor:
    """Copy images (N, 1, H, H) to their places on a black canvas: what `warp` samples for moves by whole pixels."""
    out = images.new_zeros(len(images), 1, canvas, canvas)
    windows(out, images.shape[-1])[torch.arange(len(images)), corner[:, 1], corner[:, 0]] = images[:, 0]
    return out


def grid_back(theta: Tensor, canvas: int) -> Tensor:
    """Compute the position in the frame that each canvas pixel samples, inverting any transform: (N, S, S, 2).

    A spline moves x by d(x); what it moves to y is found as x = y - d(x), with d tabulated at the pixels.
    """
    if theta.shape[1:] == (2, 3):
        return affine_grid(invert(theta), canvas, canvas)
    if theta.shape[1:] == (3, 3):
        return grid_of(torch.linalg.inv(theta), canvas, canvas)
    pixels = grid_of(torch.tensor(CONTROL).expand_as(theta), canvas, canvas)
    moved = (grid_of(theta, canvas, canvas) - pixels).permute(0, 3, 1, 2)
    grid = pixels
    for _ in range(ROUNDS):
        grid = pixels - sample(moved, grid).permute(0, 2, 3, 1)
    return grid


def ink_boxes(images: Tensor) -> Tensor:
    """Compute boxes (N, 4) of the drawn pixels of images (N, 1, H, W), see `Distorted`; the whole image if empty."""
    sides = [extent(images.amax((1, dim)) > INK) for dim in (2, 3)]  # over rows: columns that hold ink, then rows
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom], dim=1).float()


def extent(drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Find the first and one past the last true element of each row of (N, L)."""
    first = drawn.int().argmax(1)
    last = drawn.shape[1] - drawn.flip(1).int().argmax(1)
    return first, last
