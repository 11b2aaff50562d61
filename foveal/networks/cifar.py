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

from foveal.networks.timm_classifier import TimmClassifier, check_stages


class CifarResNet(TimmClassifier):
    """Residual network for small images: (B, C, H, W) with sides of at least 8 pixels to logits (B, num_classes).

    Args:
        block: timm's `BasicBlock` or `Bottleneck`.
        blocks: Number of blocks in each of the three stages, 1 or more.
        widths: Width of the blocks in each of the three stages; the first convolution has that of the first stage.
        num_classes: Number of classes.
        in_chans: Channels C of the images.
        global_pool: "avg", "max", or "" for none.
        drop_rate: Dropout before the last layer.
        options: Arguments of the blocks, such as `cardinality=16, base_width=32`.

    Raises:
        ValueError: If `blocks` or `widths` is not three whole numbers of 1 or more; another `global_pool`.
    """

    trunk = ("conv1", "bn1", "act1", "layer1", "layer2", "layer3")
    can_checkpoint = True

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        blocks: Sequence[int],
        widths: Sequence[int],
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        **options: Any,
    ):
        super().__init__()
        check_stages("blocks", blocks)
        check_stages("widths", widths)
        self.widths = tuple(widths)
        stem = widths[0]
        self.conv1 = nn.Conv2d(in_chans, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.act1 = nn.ReLU()
        first, second, third = (width * block.expansion for width in widths)
        self.layer1 = stage(block, blocks[0], stem, widths[0], stride=1, **options)
        self.layer2 = stage(block, blocks[1], first, widths[1], stride=2, **options)
        self.layer3 = stage(block, blocks[2], second, widths[2], stride=2, **options)
        self.set_head(third, num_classes, in_chans, global_pool=global_pool, drop_rate=drop_rate)
        self.feature_info = [
            {"num_chs": stem, "reduction": 1, "module": "act1"},
            {"num_chs": first, "reduction": 1, "module": "layer1"},
            {"num_chs": second, "reduction": 2, "module": "layer2"},
            {"num_chs": third, "reduction": 4, "module": "layer3"},
        ]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {"stem": r"^conv1|bn1", "blocks": r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)"}

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        return self.run_stages([self.layer1, self.layer2, self.layer3], x)


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
    return partial(CifarResNet, BasicBlock, blocks=((depth - 2) // 6,) * 3, widths=(16, 32, 64))


def resnext29_16x32d(**options: Any) -> nn.Module:
    """Create ResNeXt-29, 16x32d: three bottlenecks in each stage, with 16 groups of at least 32 channels."""
    plain = {"blocks": (3, 3, 3), "widths": (64, 128, 256)}
    return CifarResNet(Bottleneck, cardinality=16, base_width=32, **{**plain, **options})
