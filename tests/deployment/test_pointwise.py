"""1x1 convolutions as matrix products."""

import torch
from helpers import operators
from torch import nn

from foveal.deployment.pointwise import multiply_pointwise


def test_multiply_pointwise_is_a_product_for_channels_last():
    conv = nn.Conv2d(5, 7, 1)
    x = torch.randn(2, 5, 3, 4).to(memory_format=torch.channels_last)
    expected = conv(x)
    assert multiply_pointwise(nn.Sequential(conv, nn.Conv2d(7, 7, 1, stride=2), nn.Conv2d(7, 7, 3))) == 1
    out = conv(x)
    torch.testing.assert_close(out, expected)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert "aten::linear" in operators(lambda: conv(x))
    assert "aten::linear" not in operators(lambda: conv(x.contiguous()))
    assert torch.equal(conv(x.contiguous()), nn.functional.conv2d(x.contiguous(), conv.weight, conv.bias))
