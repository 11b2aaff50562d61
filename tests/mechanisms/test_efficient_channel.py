"""Efficient channel attention: values computed by hand, the paper's kernel, timm's module."""

import math

import pytest
import timm
import torch

from foveal.mechanisms.efficient_channel import EfficientChannel

LN3 = math.log(3.0)  # sigmoid(ln 3) = 3/4, sigmoid(2 ln 3) = 9/10


class TestEfficientChannel:
    def test_efficient_channel_gate_by_hand(self):
        """A kernel that reads the left neighbour alone: means 1, 2, 3 give logits of ln 3 times 0, 1, 2."""
        module = EfficientChannel(3, kernel_size=3)
        module.conv.weight.data = torch.tensor([[[LN3, 0.0, 0.0]]])
        x = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1) * torch.tensor([[0.5, 1.5], [1.0, 1.0]])
        torch.testing.assert_close(module.weigh(x), torch.tensor([[0.5, 0.75, 0.9]]))
        torch.testing.assert_close(module(x)[0, 2], 0.9 * x[0, 2])

    @pytest.mark.parametrize(
        ("channels", "k"), [(1, 1), (4, 1), (8, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)]
    )
    def test_efficient_channel_kernel_is_that_of_the_paper(self, channels, k):
        """(log2 C + 1) / 2 is 3.5 at 64, 4 at 128, 5.5 at 1024, 6 at 2048. A popular copy has 3 everywhere."""
        assert EfficientChannel(channels).conv.kernel_size == (k,)

    def test_efficient_channel_has_no_weight_but_its_kernel(self):
        """No bias; a popular copy has one."""
        assert [tuple(weight.shape) for weight in EfficientChannel(256).parameters()] == [(1, 1, 5)]

    @pytest.mark.parametrize("channels", [8, 24, 64, 200, 512, 2048])
    def test_efficient_channel_agrees_with_timm(self, channels):
        ours, theirs = EfficientChannel(channels), timm.layers.EcaModule(channels)
        theirs.conv.load_state_dict(ours.conv.state_dict())
        x = torch.randn(2, channels, 5, 7)
        assert torch.equal(ours(x), theirs(x))
