"""Several spatial transformers on the same input (Jaderberg et al., 2015, secs. 3.4, 4.3 and A.1).

Each transformer can attend to a different object; the outputs are concatenated over channels. As in the paper's
experiments on birds, they are by default attention transformers (scale and translation) that show half the height and
half the width of the input, and start as tiles of it. Those of other families start at the identity; they learn
different transforms since their localisation nets start from different random weights.

Departure: the scale of attention transformers is learned as well, starting from 0.5.

Two attention transformers before the small convolutional network (`two_stn_cnn`) were no better than none on pairs of
3,000 digits that are drawn anew in each epoch (24 epochs of 6,000, one seed: 63 % error; 58 % after one affine
transformer, 56 % after none), although they end 0.96 apart, and the x of each follows that of a different digit
(correlations 0.83 and 0.77). Two affine transformers, which start at the identity, before fully connected layers
without dropout (`jaderberg_fcn:transformers=2`) are far better on pairs of MNIST's 50,000 digits: 39 against 88 % of
the validation pairs are wrong after four epochs (one seed). There the x and the y of each transformer follow those of
one digit with a correlation of 0.99. Which of the differences matters was not tried.

The number of channels changes, so this is a part of networks and cannot be attached.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from foveal.core.names import lookup
from foveal.mechanisms.spatial_transformer import Localisation, SpatialTransformer
from foveal.ops.warps import FAMILIES

SCALE = 0.5


def tiles(count: int) -> list[tuple[float, float]]:
    """Return the centres of `count` tiles of the image, row by row, in normalised coordinates; two are side by side."""
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    places = [(column, row) for row in range(rows) for column in range(columns)]
    return [((2 * column + 1) / columns - 1, (2 * row + 1) / rows - 1) for column, row in places[:count]]


def starts(family: str, count: int) -> list[tuple[float, ...]]:
    """Return the numbers at initialization of each of `count` transformers of a family."""
    if family == "attention":
        return [(math.log(SCALE), *tile) for tile in tiles(count)]
    return [lookup("family", family, FAMILIES).identity] * count


class ParallelTransformers(nn.Module):
    """Several spatial transformers on the same input: (B, C, H, W) to (B, N C, H', W').

    Args:
        channels: Channels C of the input.
        count: Number N of transformers.
        size: Height and width of each output; None keeps those of the input.
        family: As for `SpatialTransformer`; those of attention start as tiles, all others at the identity.
        padding: As for `SpatialTransformer`.
        localisation: Function from C and a transformer's numbers at initialization to its localisation net.

    Raises:
        ValueError: If `count` is below 1.

    Examples:
        >>> import torch
        >>> from foveal.networks.parallel_transformers import ParallelTransformers
        >>> ParallelTransformers(2, count=2, size=21)(torch.rand(8, 2, 42, 42)).shape
        torch.Size([8, 4, 21, 21])
    """

    def __init__(
        self,
        channels: int,
        count: int = 2,
        size: int | tuple[int, int] | None = None,
        family: str = "attention",
        *,
        padding: str | float = "border",
        localisation: Callable[[int, tuple[float, ...]], nn.Module] = Localisation,
    ):
        super().__init__()
        if count < 1:
            raise ValueError(f"count={count}: at least one transformer is needed")
        self.transformers = nn.ModuleList(
            SpatialTransformer(
                channels,
                size,
                family,
                padding=padding,
                localisation=localisation(channels, start),
            )
            for start in starts(family, count)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([transformer(x) for transformer in self.transformers], dim=1)
