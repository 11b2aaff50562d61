"""BoTNet-50 (Srinivas et al., 2021): ResNet-50 whose last stage attends instead of convolving.

In its three blocks `foveal.mechanisms.self_attention.RelativeAttention` stands instead of the 3x3 convolution; norm and
activation stay. Where that convolution had stride 2, the map is averaged over 2x2 pixels after the attention. The
network takes images of any size; the position tables are those of 224 pixels.

Parameters: 20.85 M. The paper says 20.8 M beside 25.5 M for ResNet-50, which has 25.56 M: both cut, not rounded.
"""

from collections import OrderedDict

import timm
from torch import nn

from foveal.mechanisms.self_attention import RelativeAttention

SIZE = 14  # of the map on which the first block attends, for an image of 224 pixels; the others on half of it


def botnet50(**options: object) -> nn.Module:
    """timm's `resnet50` with attention in its last stage."""
    model = timm.create_model("resnet50", **options)
    for index, block in enumerate(model.layer4):
        block.conv2 = attention_like(block.conv2, SIZE // 2 if index else SIZE)
    return model


def attention_like(conv: nn.Conv2d, size: int) -> nn.Module:
    """Attention with the channels and the stride of a convolution."""
    attention = RelativeAttention(conv.in_channels, conv.out_channels, size=size)
    stride = conv.stride[0]
    if stride == 1:
        return attention
    return nn.Sequential(OrderedDict(attention=attention, pool=nn.AvgPool2d(stride, ceil_mode=True)))
