"""Residual networks for images of 32x32 pixels (He et al., 2016, sec. 4.2; Xie et al., 2017, sec. 5.3).

A 3x3 convolution, three stages (the second and the third halve the height and width of the feature map), global
average pooling and a linear classifier. The blocks are timm's, so that attention can be attached in them.

Departure from He et al.: where the width changes, the shortcut is a 1x1 convolution with BatchNorm, as in most code for
these images, not zero padding.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn


class CifarResNet(nn.Module):
    """Residual network for small images: (B, C, H, W) with sides of at least 8 pixels to logits (B, num_classes).

    Args:
        block: timm's `BasicBlock` or `Bottleneck`.
        blocks: Number of blocks in each of the three stages.
        widths: Width of the blocks in each stage.
        stem: Output channels of the first convolution.
        num_classes: Number of classes.
        in_chans: Channels C of the images.
        options: Arguments of the blocks, such as `cardinality=16, base_width=32`.
    """

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        blocks: Sequence[int],
        widths: Sequence[int],
        stem: int,
        num_classes: int = 10,
        in_chans: int = 3,
        **options: Any,
    ):
        super().__init__()
        self.widths = tuple(widths)
        self.conv1 = nn.Conv2d(in_chans, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.act1 = nn.ReLU()
        first, second, third = (width * block.expansion for width in widths)
        self.layer1 = stage(block, blocks[0], stem, widths[0], stride=1, **options)
        self.layer2 = stage(block, blocks[1], first, widths[1], stride=2, **options)
        self.layer3 = stage(block, blocks[2], second, widths[2], stride=2, **options)
        self.fc = nn.Linear(third, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def stage(
    block: type[BasicBlock | Bottleneck], blocks: int, channels: int, width: int, stride: int, **options: Any
) -> nn.Sequential:
    """Create one stage: a block with the given stride and channel change, then blocks of stride 1."""
    out_channels = width * block.expansion
    first = block(channels, width, stride, shortcut(channels, out_channels, stride), **options)
    return nn.Sequential(first, *(block(out_channels, width, **options) for _ in range(blocks - 1)))


def shortcut(channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """Create the projection shortcut of a stage; None if its input and output have the same shape."""
    if channels == out_channels and stride == 1:
        return None
    return nn.Sequential(nn.Conv2d(channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


def resnet(depth: int) -> Callable[..., nn.Module]:
    """Return the constructor of ResNet-20, 32, 56 or 110, of depth 6 n + 2."""
    return partial(CifarResNet, BasicBlock, blocks=((depth - 2) // 6,) * 3, widths=(16, 32, 64), stem=16)


def resnext29_16x32d(**options: Any) -> nn.Module:
    """Create ResNeXt-29, 16x32d: three bottlenecks in each stage, with 16 groups of at least 32 channels."""
    plain = {"blocks": (3, 3, 3), "widths": (64, 128, 256), "stem": 64}
    return CifarResNet(Bottleneck, cardinality=16, base_width=32, **{**plain, **options})
