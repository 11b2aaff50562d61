"""Small convolutional network for small images, the default backbone of `foveal.compare`.

Four or more 3x3 convolutions with BatchNorm and ReLU, then global max pooling, so it accepts images of any size. Each
has at least 32 channels, enough for a selective kernel of 32 groups.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class ConvBlock(nn.Module):
    """Convolution, BatchNorm, ReLU and an empty slot for attention: (B, C, H, W) to (B, C', H, W)."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU()
        self.attention = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(self.act(self.norm(self.conv(x))))


class SmallCNN(nn.Module):
    """Small convolutional network: images (B, C, H, W) of at least 8 pixels a side to logits (B, num_classes).

    Args:
        num_classes: Number of classes.
        in_chans: Channels C of the images.
        widths: Output channels of the convolutions, four or more.

    Raises:
        ValueError: If there are fewer than four widths.
    """

    def __init__(self, num_classes: int = 10, in_chans: int = 1, widths: Sequence[int] = (32, 32, 64, 64)):
        super().__init__()
        if len(widths) < 4:
            raise ValueError(f"widths={tuple(widths)}: must have four or more entries")
        self.widths = tuple(widths)
        first, second, *_, last = widths
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, first, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.features = nn.Sequential(
            ConvBlock(first, second),
            nn.MaxPool2d(2),
            *(ConvBlock(channels, out_channels) for channels, out_channels in pairwise(widths[1:])),
        )
        self.head = nn.Linear(last, num_classes)
        ends = (0, len(self.features) - 1)
        self.feature_info = tuple({"module": f"features.{end}"} for end in ends)  # the two stages, in timm's format

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(self.stem(x)).amax((2, 3)))
