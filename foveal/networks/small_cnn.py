"""Small convolutional network for small images, the default backbone of `foveal.compare`.

Four or more 3x3 convolutions with BatchNorm and ReLU, then global max pooling, so it accepts images of any size. Each
has at least 32 channels, enough for a selective kernel of 32 groups.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from foveal.networks.timm_classifier import TimmClassifier


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


class SmallCNN(TimmClassifier):
    """Small convolutional network: images (B, C, H, W) of at least 8 pixels a side to logits (B, num_classes).

    Args:
        num_classes: Number of classes.
        in_chans: Channels C of the images.
        widths: Output channels of the convolutions, four or more.
        global_pool: "max", "avg", or "" for none.
        drop_rate: Dropout before the last layer.

    Raises:
        ValueError: If there are fewer than four widths, or another `global_pool`.
    """

    classifier = "head"
    trunk: tuple[str, ...] = ("stem", "features")

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 1,
        widths: Sequence[int] = (32, 32, 64, 64),
        *,
        global_pool: str = "max",
        drop_rate: float = 0.0,
    ):
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
        self.set_head(last, num_classes, in_chans, global_pool=global_pool, drop_rate=drop_rate)
        self.feature_info = [
            {"num_chs": first, "reduction": 2, "module": "stem.2"},
            {"num_chs": second, "reduction": 4, "module": "features.0"},
            {"num_chs": last, "reduction": 8, "module": f"features.{len(self.features) - 1}"},
        ]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {"stem": r"^stem", "blocks": r"^features\.(\d+)"}

    def forward_features(self, x: Tensor) -> Tensor:
        return self.features(self.stem(x))
