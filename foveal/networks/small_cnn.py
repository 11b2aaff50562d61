"""A small convolutional net for small images: the backbone of the main job.

Four 3x3 convolutions with BatchNorm and ReLU and a maximum over all positions, so that it takes any image size. Wide
enough (32 channels and more) for a selective kernel to stand in it.
"""

from torch import Tensor, nn


class ConvBlock(nn.Module):
    """Convolution, BatchNorm, ReLU, and a free slot for attention: (B, C, H, W) to (B, C', H, W)."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU()
        self.attention = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(self.act(self.norm(self.conv(x))))


class SmallCNN(nn.Module):
    """Images (B, C, H, W) of 8 pixels and more to logits (B, num_classes).

    Args:
        num_classes: of the answer.
        in_chans: C, of the images.
        widths: channels of the four convolutions.
    """

    feature_info = ({"module": "features.0"}, {"module": "features.3"})  # where its two stages end, as timm says it

    def __init__(self, num_classes: int = 10, in_chans: int = 1, widths: tuple[int, int, int, int] = (32, 64, 64, 128)):
        super().__init__()
        first, second, third, fourth = widths
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, first, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.features = nn.Sequential(
            ConvBlock(first, second),
            nn.MaxPool2d(2),
            ConvBlock(second, third),
            ConvBlock(third, fourth),
        )
        self.head = nn.Linear(fourth, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(self.stem(x)).amax((2, 3)))
