"""ShuffleNetV2 (Ma et al., 2018), torchvision's, which timm has not."""

from torch import nn
from torchvision.models import shufflenetv2


def shufflenet_v2_x1_0(pretrained: bool = False, num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
    """torchvision's `shufflenet_v2_x1_0`, for any number of classes and of channels of the images.

    Raises:
        ValueError: pretrained weights for images that are not of 3 channels.
    """
    if pretrained and in_chans != 3:
        raise ValueError(f"in_chans={in_chans}: the pretrained weights are for images of 3 channels")
    model = shufflenetv2.shufflenet_v2_x1_0(weights="DEFAULT" if pretrained else None)
    if num_classes != model.fc.out_features:
        model.fc = nn.Linear(model.fc.in_features, num_classes)
    if in_chans != 3:
        model.conv1[0] = nn.Conv2d(in_chans, model.conv1[0].out_channels, 3, stride=2, padding=1, bias=False)
    return model
