"""Squeeze-and-excitation: values computed by hand, hidden width, timm's layer."""

import pytest
import timm.layers
import torch
from helpers import fill
from torch import nn

import foveal
from foveal.mechanisms.squeeze_excite import SqueezeExcite, hidden_width


class TestSqueezeExcite:
    def test_squeeze_excite_gate_by_hand(self):
        """Means 1 and 3, a hidden sum of 4, gates sigmoid(4 w): w = 0 gives 1/2, w = ln(3) / 4 gives 3/4."""
        module = SqueezeExcite(2, reduction=2, bias=False)
        module.fc1.weight.data = torch.tensor([[1.0, 1.0]])
        module.fc2.weight.data = torch.tensor([[0.0], [torch.log(torch.tensor(3.0)) / 4]])
        x = torch.stack([torch.full((2, 2), 1.0), torch.tensor([[0.0, 6.0], [2.0, 4.0]])])[None]
        torch.testing.assert_close(module.weigh(x), torch.tensor([[0.5, 0.75]]))
        torch.testing.assert_close(module(x)[0, 1], 0.75 * x[0, 1])

    @pytest.mark.parametrize(("channels", "hidden"), [(8, 1), (16, 1), (24, 1), (64, 4), (128, 8), (2048, 128)])
    def test_hidden_width_of_the_paper_is_never_zero(self, channels, hidden):
        assert hidden_width(channels, 16) == hidden

    @pytest.mark.parametrize("channels", [8, 24, 64, 72, 128, 200, 256, 672, 2048])
    def test_hidden_width_rounds_as_timm(self, channels):
        assert hidden_width(channels, 16, divisor=8) == timm.layers.SqueezeExcite(channels).fc1.out_channels

    def test_squeeze_excite_of_few_channels_depends_on_its_input(self):
        """`SELayer(8)` of a popular repository has no hidden unit and gives x / 2 whatever x is."""
        module = SqueezeExcite(8)
        nn.init.constant_(module.fc1.weight, 1.0)
        first, second = module.weigh(torch.rand(1, 8, 4, 4)), module.weigh(5 + torch.rand(1, 8, 4, 4))
        assert (first - second).abs().max() > 1e-3

    def test_load_weights_accepts_timm_squeeze_excite(self):
        theirs, ours = timm.layers.SqueezeExcite(64), SqueezeExcite(64, divisor=8)
        foveal.load_weights(ours, theirs.state_dict())  # 1x1 convolutions there, linear layers here
        x = torch.randn(2, 64, 5, 7)
        torch.testing.assert_close(ours(x), theirs(x))

    def test_squeeze_excite_passes_nan_on(self):
        module = SqueezeExcite(4, identity=True)
        fill(module, fc2__bias=float("nan"))
        assert module(torch.rand(1, 4, 2, 2)).isnan().all()
