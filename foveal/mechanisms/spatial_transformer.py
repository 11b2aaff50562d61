"""Spatial transformer (Jaderberg et al., 2015, sec. 3). Spatial domain, soft.

    theta = localisation(U)               where to look: the transform of each image
    grid = theta (x, y, 1)                for every pixel of the output, eq. 1
    V = bilinear sample of U at the grid  eq. 5

Three parts, three modules: `localisation`, `grid`, `sampler`. Transforms come in families (`foveal.ops.warps`): a
matrix of six numbers, fewer for a narrower family, more for a homography or a thin-plate spline. The last layer of the
localisation starts at zero weights and the identity's bias, so that a transformer starts by showing what it is given;
it learns at a lower rate than the network.

Departures: outside the image lies its border, not zeros (see `foveal.ops.geometry.sample`). The localisation net reads
the moments of its feature maps, so that one small net serves every image size. In the narrower families scales are
regressed as logarithms, which cannot flip an image, and a homography's last row is bounded.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.core.names import lookup
from foveal.core.record import Facts, Tap
from foveal.ops.geometry import centres, full_precision, sample
from foveal.ops.warps import FAMILIES, grid_of

EMPTY = 1e-3  # added to the mass of a map, so that an empty one has a centre
COLOURS = 4  # channels that an image has at most; more are those of a deep map


class Localisation(nn.Module):
    """Where to look, out of the moments of a few feature maps: (B, C, H, W) to a family's numbers (B, N).

    One strided convolution makes maps of something worth finding; where each map's mass lies, how far it spreads and
    which way it leans (`central_moments`) goes through one linear layer to the numbers. Translation is linear in the
    centres, scale and rotation nearly so in the spreads, so that little has to be learned; and it holds for images of
    any size. (Convolutions, pooling and two linear layers in its place, with as many weights, did not find the scale
    and the rotation of distorted digits in eight epochs.)

    An image needs a kernel as large as the strokes that it looks for, 9 pixels. A cell of a deep map has already seen
    that much, and the map is small: 3 cells there, with a ninth of the weights.

    Args:
        channels: C, of the input.
        start: the N numbers that it begins with, whatever it is shown; theta's identity if left out.
        width: number of feature maps.
    """

    lr_scale = 0.1  # of the network's learning rate, as in the paper's experiments on house numbers

    def __init__(self, channels: int, start: tuple[float, ...] = FAMILIES["affine"].identity, width: int = 32):
        super().__init__()
        kernel_size = 9 if channels <= COLOURS else 3
        self.features = nn.Conv2d(channels, width, kernel_size, stride=2, padding=kernel_size // 2)
        self.regression = nn.Linear(6 * width, len(start))
        nn.init.zeros_(self.regression.weight)
        with torch.no_grad():
            self.regression.bias.copy_(torch.tensor(start))

    def forward(self, x: Tensor) -> Tensor:
        maps = F.relu(self.features(x))
        with full_precision(x):
            return self.regression(central_moments(maps).to(self.regression.weight.dtype))


def central_moments(maps: Tensor) -> Tensor:
    """Mass, centre and spread of each map (B, C, H, W) of values from 0: (B, 6 C).

    The mass is the mean of a map f; its centre (cx, cy) the mean of f (x, y) over the mass; its spread, four times the
    means of f (x - cx)^2, f (y - cy)^2 and f (x - cx) (y - cy) over the mass, so that a spread is the square of a width
    (of two standard deviations) and about as large as a centre. Coordinates are normalised.
    """
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    height, width = maps.shape[2:]
    x = centres(width, maps).expand(height, width).flatten()
    y = centres(height, maps).view(-1, 1).expand(height, width).flatten()
    weights = torch.stack([torch.ones_like(x), x, y, x * x, y * y, x * y], dim=1) / x.shape[0]
    mass, *sums = (maps.flatten(2) @ weights).to(maps.dtype).unbind(2)  # six times (B, C)
    cx, cy, xx, yy, xy = (each / (mass + EMPTY) for each in sums)
    spread = xx - cx * cx, yy - cy * cy, xy - cx * cy
    return torch.cat([mass, cx, cy, *(4 * each for each in spread)], dim=1)


class Grid(nn.Module):
    """The grid generator: transforms of any family and an output size to a grid (B, H, W, 2)."""

    def forward(self, theta: Tensor, height: int, width: int) -> Tensor:
        return grid_of(theta, height, width)


class Sampler(nn.Module):
    """Bilinear samples of (B, C, H, W) at a grid (B, H', W', 2): (B, C, H', W').

    Args:
        padding: "border", or the value that lies outside the image.
    """

    def __init__(self, padding: str | float = "border"):
        super().__init__()
        if isinstance(padding, str) and padding != "border":
            raise ValueError(f"padding={padding!r}: 'border' or a number, the background's value")
        self.padding = padding

    def forward(self, x: Tensor, grid: Tensor) -> Tensor:
        return sample(x, grid, self.padding)

    def extra_repr(self) -> str:
        return f"padding={self.padding!r}"


class SpatialTransformer(nn.Module):
    """Show the part of an image or feature map that the network wants to see, upright and in the middle.

    A result smaller than the region that it shows is sampled, not averaged: pool after it where that matters.

    Args:
        channels: C, of the input.
        size: height and width of the output, one number for both; the input's own if left out.
        family: of the transforms: "affine", "attention" (scale and translation), "rotation", "similarity" (all three),
            "projective" or "tps" (thin-plate spline).
        padding: "border", or the value that lies outside the image.
        localisation: a module from (B, C, H, W) to the family's numbers, instead of `Localisation`; for "affine" those
            are theta (B, 2, 3), or (B, 6).

    Raises:
        ValueError: another `family` or `padding`, a size below one pixel.

    >>> SpatialTransformer(1, size=28)(torch.rand(8, 1, 42, 42)).shape
    torch.Size([8, 1, 28, 28])
    """

    attaches = "before"
    starts_as_identity = True
    domain, hard, paper = "spatial", False, "Jaderberg et al., 2015"
    arxiv = "1506.02025"

    def __init__(
        self,
        channels: int,
        size: int | tuple[int, int] | None = None,
        family: str = "affine",
        *,
        padding: str | float = "border",
        localisation: nn.Module | None = None,
    ):
        super().__init__()
        self.size = (size, size) if isinstance(size, int) else size
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"size={size}: at least one pixel is needed")
        self.family = lookup("family", family, FAMILIES)
        self.localisation = localisation or Localisation(channels, self.family.identity)
        self.grid = Grid()
        self.sampler = Sampler(padding)
        facts = Facts(
            mechanism="spatial_transformer",
            kind="transform",
            domain="spatial",
            axes=self.family.axes,
            value_range=(-float("inf"), float("inf")),
            size=self.size,
        )
        self.tap = Tap(facts)

    def weigh(self, x: Tensor) -> Tensor:
        numbers = self.localisation(x).flatten(1)  # (B, N)
        numbers = numbers.to(torch.promote_types(numbers.dtype, torch.float32))
        return self.tap(self.family.values(numbers, *x.shape[2:]))  # (B, 2, 3), (B, 3, 3) or (B, P, 2)

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.size or x.shape[2:]
        return self.sampler(x, self.grid(self.weigh(x), height, width))
