"""ShuffleNetV2 (Ma et al., 2018) of torchvision, since timm does not have it, as a classifier in timm's form."""

from typing import Any

from torch import Tensor, nn
from torchvision.models import shufflenetv2

from foveal.networks.timm_classifier import TimmClassifier


class ShuffleNetV2(TimmClassifier, shufflenetv2.ShuffleNetV2):
    """torchvision's ShuffleNetV2 with the methods of timm's classifiers."""

    conv1: nn.Module
    maxpool: nn.Module
    stage2: nn.Module
    stage3: nn.Module
    stage4: nn.Module
    conv5: nn.Module

    trunk = ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5")
    can_checkpoint = True

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        blocks = r"^stage(\d+)" if coarse else r"^stage(\d+)\.(\d+)"
        return {"stem": r"^conv1", "blocks": [(blocks, None), (r"^conv5", (99999,))]}

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.conv1(x))
        return self.conv5(self.run_stages([self.stage2, self.stage3, self.stage4], x))


def shufflenet_v2_x1_0(
    pretrained: bool = False,
    num_classes: int = 1000,
    in_chans: int = 3,
    *,
    global_pool: str = "avg",
    drop_rate: float = 0.0,
) -> nn.Module:
    """Create torchvision's `shufflenet_v2_x1_0` for any number of classes and of image channels.

    Raises:
        ValueError: If `pretrained` is True and `in_chans` is not 3.
    """
    if pretrained and in_chans != 3:
        raise ValueError(f"in_chans={in_chans}: the pretrained weights need images with 3 channels")
    model: Any = shufflenetv2.shufflenet_v2_x1_0(weights="DEFAULT" if pretrained else None)
    model.__class__ = ShuffleNetV2
    stem, *widths, last = model._stage_out_channels
    model.set_head(last, num_classes, in_chans, global_pool=global_pool, drop_rate=drop_rate)
    names = ("conv1", "maxpool", "stage2", "stage3", "stage4")
    model.feature_info = [
        {"num_chs": channels, "reduction": 2 << index, "module": name}
        for index, (channels, name) in enumerate(zip((stem, stem, *widths), names, strict=True))
    ]
    if in_chans != 3:
        model.conv1[0] = nn.Conv2d(in_chans, stem, 3, stride=2, padding=1, bias=False)
    return model
