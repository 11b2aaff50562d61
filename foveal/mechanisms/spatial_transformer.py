"""Spatial transformer (Jaderberg et al., 2015, sec. 3). Spatial domain, soft.

    theta = localisation(U)               where to look: a 2x3 matrix for each image
    grid = theta (x, y, 1)                for every pixel of the output, eq. 1
    V = bilinear sample of U at the grid  eq. 5

Three parts, three modules: `localisation`, `grid`, `sampler`. The last layer of the localisation starts at zero weights
and the identity's bias, so that a transformer starts by showing what it is given; it learns at a tenth of the rate.

Departures: outside the image lies its border, not zeros (see `foveal.geometry.sample`). The localisation net sums up
its feature maps by their moments, so that one net serves every image size.
"""

import torch
from torch import Tensor, nn

from foveal.geometry import IDENTITY, affine_grid, centres, sample
from foveal.record import Facts, Tap


class Localisation(nn.Module):
    """Where to look: two strided convolutions, the moments of their maps, two linear layers; (B, C, H, W) to (B, 2, 3).

    The moments of a map f are the means of f times 1, x, y, x^2, x y and y^2: where its mass lies, how far it spreads
    and which way it leans, for maps of any size.

    Args:
        channels: C, of the input.
        widths: channels of the two convolutions.
        hidden: width between the two linear layers.
    """

    lr_scale = 0.1  # of the network's learning rate, as in the paper's SVHN experiments

    def __init__(self, channels: int, widths: tuple[int, int] = (16, 32), hidden: int = 32):
        super().__init__()
        first, second = widths
        self.features = nn.Sequential(
            nn.Conv2d(channels, first, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(first, second, 5, stride=2, padding=2), nn.ReLU(),
        )  # fmt: skip
        self.regression = nn.Sequential(nn.Linear(6 * second, hidden), nn.ReLU(), nn.Linear(hidden, 6))
        nn.init.zeros_(self.regression[-1].weight)
        with torch.no_grad():
            self.regression[-1].bias.copy_(torch.tensor(IDENTITY).flatten())

    def forward(self, x: Tensor) -> Tensor:
        return self.regression(moments(self.features(x))).unflatten(1, (2, 3))


def moments(maps: Tensor) -> Tensor:
    """The means of each map (B, C, H, W) times 1, x, y, x^2, x y, y^2: (B, 6 C)."""
    x = centres(maps.shape[3], maps).view(1, 1, 1, -1)
    y = centres(maps.shape[2], maps).view(1, 1, -1, 1)
    return torch.cat([(maps * weight).mean((2, 3)) for weight in (torch.ones_like(x), x, y, x * x, x * y, y * y)], dim=1)


class AffineGrid(nn.Module):
    """The grid generator: theta (B, 2, 3) and an output size to a grid (B, H, W, 2)."""

    def forward(self, theta: Tensor, height: int, width: int) -> Tensor:
        return affine_grid(theta, height, width)


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
        padding: "border", or the value that lies outside the image.
        localisation: a module from (B, C, H, W) to theta (B, 2, 3) instead of `Localisation`.

    Raises:
        ValueError: another `padding`, a size below one pixel.

    >>> SpatialTransformer(1, size=28)(torch.rand(8, 1, 42, 42)).shape
    torch.Size([8, 1, 28, 28])
    """

    attaches = "before"
    domain, hard, paper = "spatial", False, "Jaderberg et al., 2015"

    def __init__(self, channels: int, size: int | tuple[int, int] | None = None, *, padding: str | float = "border",
                 localisation: nn.Module | None = None):  # fmt: skip
        super().__init__()
        self.size = (size, size) if isinstance(size, int) else size
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"size={size}: at least one pixel is needed")
        self.localisation = localisation or Localisation(channels)
        self.grid = AffineGrid()
        self.sampler = Sampler(padding)
        facts = Facts(mechanism="spatial_transformer", kind="transform", domain="spatial", axes="B 2 3",
                      within=(-float("inf"), float("inf")), size=self.size)  # fmt: skip
        self.tap = Tap(facts)

    def weigh(self, x: Tensor) -> Tensor:
        theta = self.localisation(x)
        return self.tap(theta.to(torch.promote_types(theta.dtype, torch.float32)))  # (B, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.size or x.shape[2:]
        return self.sampler(x, self.grid(self.weigh(x), height, width))
