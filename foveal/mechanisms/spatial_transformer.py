"""Spatial transformer (Jaderberg et al., 2015, sec. 3). Spatial domain, soft.

    theta = localisation(U)               where to look: the transform of each image
    grid = theta (x, y, 1)                for every pixel of the output, eq. 1
    V = bilinear sample of U at the grid  eq. 5

The three parts are three modules: `localisation`, `grid`, `sampler`. Transforms come in families (`foveal.ops.warps`):
a matrix of six numbers, fewer for a narrower family, more for a homography or a thin-plate spline. The last layer of
the localisation is initialized to zero weights and the identity's bias, so that a transformer starts as the identity;
it learns at a lower rate than the network.

Departures: outside the image the value is that of its border, not zero (see `foveal.ops.geometry.sample`). The
localisation net reads the moments of its feature maps, so that one small net serves every image size; the paper's nets
for digits (A.4), "convolutional" and "linear", are options, and interpolate images to 42x42 pixels first. In the
narrower families scales are regressed as logarithms, which cannot flip an image, and a homography's last row is
bounded.
"""

from collections.abc import Callable

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.core.names import lookup
from foveal.core.record import Facts, Tap
from foveal.ops.geometry import centres, full_precision, sample, single_precision
from foveal.ops.warps import FAMILIES, grid_of

for arithmetic_of_sizes in ("central_moments", "grid_of", "sample", "single_precision"):
    torch.fx.wrap(arithmetic_of_sizes)  # one operation in a traced graph

EMPTY = 1e-3  # added to the mass of a map, so that an empty map has a centre
SIDE = 42  # pixels, of the images that the paper's localisation nets take: the canvas of its `rts`
COLOURS = 4  # most channels of an image; a map with more channels is a deep one


class Localisation(nn.Module):
    """Localisation net, from the moments of a few feature maps: (B, C, H, W) to a family's numbers (B, N).

    One strided convolution computes feature maps; the mass, centre and spread of each map (`central_moments`) pass
    through one linear layer to the numbers. Translation is linear in the centres, scale and rotation nearly so in the
    spreads, so little has to be learned, and the net works for images of any size. (Convolutions, pooling and two
    linear layers with as many weights did not learn the scale and the rotation of distorted digits in eight epochs.)

    An image needs a kernel as large as the strokes to be found, 9 pixels, at every fourth pixel: moments need no finer
    map. A cell of a deep map already has that receptive field, and the map is small: there the kernel is 3 cells wide,
    with a ninth of the weights, at every second cell.

    Args:
        channels: C, number of input channels.
        start: the N numbers returned at initialization for every input; by default theta's identity.
        width: number of feature maps.
    """

    lr_scale = 0.1  # of the network's learning rate, as in the paper's experiments on house numbers

    def __init__(self, channels: int, start: tuple[float, ...] = FAMILIES["affine"].identity, width: int = 32):
        super().__init__()
        kernel_size, stride = (9, 4) if channels <= COLOURS else (3, 2)
        self.features = nn.Conv2d(channels, width, kernel_size, stride=stride, padding=kernel_size // 2)
        self.regression = constant(6 * width, start)

    def forward(self, x: Tensor) -> Tensor:
        maps = F.relu(self.features(x))
        with full_precision(x):
            moments = central_moments(maps)
            return self.regression(moments.to(dtype_of(self.regression, moments)))


class PaperLocalisation(nn.Module):
    """A localisation net of the paper (A.4): (B, C, H, W), interpolated to 42x42 pixels, to a family's numbers (B, N).

    Args:
        features: layers from (B, C, 42, 42) to (B, width).
        width: number of units of the last of them.
        start: the N numbers returned at initialization for every input.
    """

    lr_scale = Localisation.lr_scale

    def __init__(self, features: nn.Sequential, width: int, start: tuple[float, ...]):
        super().__init__()
        self.features = features
        self.regression = constant(width, start)

    def forward(self, x: Tensor) -> Tensor:
        return self.regression(self.features(F.interpolate(x, (SIDE, SIDE), mode="bilinear")))


def convolutional(channels: int, start: tuple[float, ...]) -> PaperLocalisation:
    """Build the localisation net of the paper's convolutional networks, for C channels and N numbers.

    The image is halved by averages; two 5x5 convolutions of 20 filters with 2x2 max pooling between them, a linear
    layer of 20 units and the regression follow.
    """
    features = nn.Sequential(
        nn.AvgPool2d(2),  # (B, C, 21, 21)
        nn.Conv2d(channels, 20, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),  # (B, 20, 8, 8)
        nn.Conv2d(20, 20, 5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(20 * 4 * 4, 20),
        nn.ReLU(),
    )
    return PaperLocalisation(features, 20, start)


def linear(channels: int, start: tuple[float, ...]) -> PaperLocalisation:
    """Build that of the fully connected networks: two linear layers of 32 units, and the regression."""
    pixels = channels * SIDE**2
    features = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
    return PaperLocalisation(features, 32, start)


LOCALISATIONS: dict[str, Callable[[int, tuple[float, ...]], nn.Module]] = {
    "moments": Localisation,
    "convolutional": convolutional,
    "linear": linear,
}


def constant(features: int, start: tuple[float, ...]) -> nn.Linear:
    """Return a linear layer (B, features) to (B, N) that at initialization returns N numbers for every input."""
    layer = nn.Linear(features, len(start))
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor(start))
    return layer


def dtype_of(layer: nn.Module, x: Tensor) -> torch.dtype:
    """Return the dtype of a layer's weights, a constant while torch.fx traces; of x for a layer of packed integers.

    A replica of DataParallel has no parameters; its weights are plain attributes.
    """
    weight = next(layer.parameters(), None)
    return (vars(layer).get("weight", x) if weight is None else weight).dtype


def central_moments(maps: Tensor) -> Tensor:
    """Return mass, centre and spread of each map (B, C, H, W) of values from 0: (B, 6 C).

    The mass is the mean of a map f. Its centre (cx, cy) is the mean of f (x, y) over the mass. Its spread is four times
    the means of f (x - cx)^2, f (y - cy)^2 and f (x - cx) (y - cy) over the mass, so that a spread is the square of a
    width (of two standard deviations) and about as large as a centre. Coordinates are normalised.
    """
    maps = single_precision(maps)
    height, width = maps.shape[2:]
    x = centres(width, maps).expand(height, width).flatten()
    y = centres(height, maps).view(-1, 1).expand(height, width).flatten()
    weights = torch.stack([torch.ones_like(x), x, y, x * x, y * y, x * y], dim=1) / x.shape[0]
    mass, *sums = (maps.flatten(2) @ weights).to(maps.dtype).unbind(2)  # six tensors (B, C)
    cx, cy, xx, yy, xy = (each / (mass + EMPTY) for each in sums)
    spread = xx - cx * cx, yy - cy * cy, xy - cx * cy
    return torch.cat([mass, cx, cy, *(4 * each for each in spread)], dim=1)


class Grid(nn.Module):
    """Grid generator: transforms of any family and an output size to a grid (B, H, W, 2)."""

    def forward(self, theta: Tensor, height: int, width: int) -> Tensor:
        return grid_of(theta, height, width)


class Sampler(nn.Module):
    """Bilinear sampler of (B, C, H, W) at a grid (B, H', W', 2): (B, C, H', W').

    Args:
        padding: "border", or the value outside the image.

    Raises:
        ValueError: another string.
    """

    def __init__(self, padding: str | float = "border"):
        super().__init__()
        if isinstance(padding, str) and padding != "border":
            raise ValueError(f"padding={padding!r}: 'border' or a number, the value of the background, is needed")
        self.padding = padding

    def forward(self, x: Tensor, grid: Tensor) -> Tensor:
        return sample(x, grid, self.padding)

    def extra_repr(self) -> str:
        return f"padding={self.padding!r}"


class SpatialTransformer(nn.Module):
    """Spatial transformer: sample the learned region of an image or feature map, upright and centred.

    An output smaller than the region that it shows is sampled, not averaged: pool after it where that matters.

    Args:
        channels (int): C, number of input channels.
        size (int or tuple[int, int], optional): height and width of the output, or one number for both; by default
            those of the input.
        family (str): family of the transforms: "affine", "attention" (scale and translation), "rotation", "similarity"
            (all three), "projective" or "tps" (thin-plate spline).
        padding (str or float): "border", or the value outside the image.
        localisation (str or nn.Module): localisation net: "moments", or one of the paper's, "convolutional" or
            "linear"; or a module from (B, C, H, W) to the family's numbers. For "affine" those are theta (B, 2, 3), or
            (B, 6).

    Shape:
        Input: (B, C, H, W).
        Output: (B, C, H', W'), of `size`.

    Raises:
        ValueError: an unknown `family`, `padding` or `localisation`; a `size` below one pixel.

    >>> import torch
    >>> from foveal.mechanisms.spatial_transformer import SpatialTransformer
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
        localisation: str | nn.Module = "moments",
    ):
        super().__init__()
        self.size = (size, size) if isinstance(size, int) else size
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"size={size}: at least one pixel is needed")
        self.family = lookup("family", family, FAMILIES)
        if isinstance(localisation, str):
            localisation = lookup("localisation", localisation, LOCALISATIONS)(channels, self.family.identity)
        self.localisation = localisation
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
        """Return the transforms (B, 2, 3), (B, 3, 3) or (B, P, 2) for x (B, C, H, W)."""
        numbers = self.localisation(x).flatten(1)  # (B, N)
        height, width = x.shape[2:]
        return self.tap(
            self.family.values(single_precision(numbers), height, width)
        )  # (B, 2, 3), (B, 3, 3) or (B, P, 2)

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.size or x.shape[2:]
        return self.sampler(x, self.grid(self.weigh(x), height, width))
