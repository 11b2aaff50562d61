"""Several spatial transformers on the same input (Jaderberg et al., 2015, secs. 3.4, 4.3 and A.1).

Each may look at another object; what they give out is concatenated over channels. They must start at different places,
or they learn the same: as in the paper's experiments on birds they are attention transformers, which show half the
height and half the width of the input, and start as tiles of it. Departure: the scale is learned as well, from 0.5.

Seen on pairs of 3,000 digits drawn anew each epoch (24 epochs of 6,000, one seed): two transformers start 1.00
apart and end 0.96 apart, the x of each following that of another digit (correlations 0.83 and 0.77), but the small
network after them errs no less (63 %) than after one affine transformer (58 %) or none (56 %).

Since the number of channels changes this is a part of networks, and nothing to attach.
"""

import math

import torch
from torch import Tensor, nn

from foveal.mechanisms.spatial_transformer import Localisation, SpatialTransformer

SCALE = 0.5


def tiles(count: int) -> list[tuple[float, float]]:
    """The centres of so many tiles of the plane, row by row, normalised: two stand side by side."""
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    places = [(column, row) for row in range(rows) for column in range(columns)]
    return [((2 * column + 1) / columns - 1, (2 * row + 1) / rows - 1) for column, row in places[:count]]


class ParallelTransformers(nn.Module):
    """Parts of an image, a transformer each: (B, C, H, W) to (B, N C, H', W').

    Args:
        channels: C, of the input.
        count: N, transformers.
        size: height and width of each part; the input's own if left out.

    >>> ParallelTransformers(2, count=2, size=21)(torch.rand(8, 2, 42, 42)).shape
    torch.Size([8, 4, 21, 21])
    """

    def __init__(self, channels: int, count: int = 2, size: int | tuple[int, int] | None = None):
        super().__init__()
        if count < 1:
            raise ValueError(f"count={count}: at least one transformer is needed")
        self.transformers = nn.ModuleList(
            SpatialTransformer(
                channels, size, family="attention", localisation=Localisation(channels, (math.log(SCALE), *tile))
            )
            for tile in tiles(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([transformer(x) for transformer in self.transformers], dim=1)
