"""BoTNet-50 (Srinivas et al., 2021): ResNet-50 with self-attention instead of 3x3 convolutions in its last stage.

In the three blocks of that stage, `foveal.mechanisms.self_attention.RelativeAttention` replaces the 3x3 convolution;
norm and activation stay. Where that convolution has stride 2, attention is followed by average pooling over 2x2 pixels.
The network accepts images of any size; the position tables have the size for images of 224 pixels.

Parameters: 20.85 M. The paper reports 20.8 M, and 25.5 M for ResNet-50, which has 25.56 M: both are truncated, not
rounded.
"""

from collections import OrderedDict

import timm
from torch import nn

from foveal.mechanisms.self_attention import RelativeAttention

SIZE = 14  # side of the first block's attention map for an image of 224 pixels; half of it in the other blocks


def botnet50(**options: object) -> nn.Module:
    """Create timm's `resnet50` with self-attention in its last stage."""
    model = timm.create_model("resnet50", **options)
    for index, block in enumerate(model.layer4):
        block.conv2 = attention_like(block.conv2, SIZE // 2 if index else SIZE)
    return model


def attention_like(conv: nn.Conv2d, size: int) -> nn.Module:
    """Create self-attention with the channels and the stride of a convolution."""
    attention = RelativeAttention(conv.in_channels, conv.out_channels, size=size)
    stride = conv.stride[0]
    if stride == 1:
        return attention
    return nn.Sequential(OrderedDict(attention=attention, pool=nn.AvgPool2d(stride, ceil_mode=True)))
