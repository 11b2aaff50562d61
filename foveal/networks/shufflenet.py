"""ShuffleNetV2 (Ma et al., 2018) of torchvision, since timm does not have it."""

from torch import nn
from torchvision.models import shufflenetv2


def shufflenet_v2_x1_0(pretrained: bool = False, num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
    """Create torchvision's `shufflenet_v2_x1_0` for any number of classes and of image channels.

    Raises:
        ValueError: If `pretrained` is True and `in_chans` is not 3.
    """
    if pretrained and in_chans != 3:
        raise ValueError(f"in_chans={in_chans}: the pretrained weights need images with 3 channels")
    model = shufflenetv2.shufflenet_v2_x1_0(weights="DEFAULT" if pretrained else None)
    if num_classes != model.fc.out_features:
        model.fc = nn.Linear(model.fc.in_features, num_classes)
    if in_chans != 3:
        model.conv1[0] = nn.Conv2d(in_chans, model.conv1[0].out_channels, 3, stride=2, padding=1, bias=False)
    return model
