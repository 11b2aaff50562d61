"""Coordinate attention: values computed by hand, timm's module."""

import math

import pytest
import torch
from helpers import randomise_norms, zero_norm_eps
from torch import nn

import foveal
from foveal.mechanisms.coordinate import Coordinate

LN3 = math.log(3.0)  # sigmoid(ln 3) = 3/4, sigmoid(2 ln 3) = 9/10


class TestCoordinate:
    def test_coordinate_gate_by_hand(self):
        """Rows of mean 3 and 5, columns of 4 and 4: h_swish(z) is z from 3 on."""
        module = zero_norm_eps(Coordinate(1))
        for name in ("conv.weight", "conv_h.weight", "conv_h.bias", "conv_w.weight", "conv_w.bias"):
            nn.init.zeros_(module.get_parameter(name))
        module.conv.weight.data[0] = 1.0
        module.conv_h.weight.data[0, 0] = LN3 / 3
        module.conv_w.weight.data[0, 0] = LN3 / 2
        x = torch.tensor([[[[2.0, 4.0], [6.0, 4.0]]]])
        rows, columns = module.weigh(x)
        five_thirds = 1 / (1 + 3 ** (-5 / 3))
        torch.testing.assert_close(rows, torch.tensor([[[0.75, five_thirds]]]))
        torch.testing.assert_close(columns, torch.tensor([[[0.9, 0.9]]]))
        torch.testing.assert_close(module(x)[0, 0, 1, 0].item(), 6 * five_thirds * 0.9)

    @pytest.mark.parametrize("training", [True, False])
    def test_coordinate_agrees_with_timm(self, training):
        layers = pytest.importorskip("timm.layers.coord_attn")
        ours, theirs = Coordinate(64), layers.CoordAttn(64, rd_channels=8, bias=True)
        randomise_norms(theirs)
        nn.init.normal_(theirs.conv1.bias)  # which the norm behind it takes away again
        names = {"conv": "conv1", "norm": "bn1", "conv_h": "conv_h", "conv_w": "conv_w"}
        for mine, other in names.items():
            for key, value in ours.get_submodule(mine).state_dict().items():
                value.copy_(theirs.get_submodule(other).state_dict()[key].view_as(value))
        ours.norm.running_mean -= theirs.conv1.bias.detach()
        x = torch.randn(2, 64, 5, 7)
        torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("channels", "width"), [(16, 8), (256, 8), (512, 16), (1024, 32)])
    def test_coordinate_width_is_that_of_the_authors(self, channels, width):
        assert Coordinate(channels).conv.out_channels == width

    def test_coordinate_records_rows_and_columns(self):
        model = nn.Sequential(Coordinate(8))
        with foveal.watch(model) as seen:
            model(torch.rand(2, 8, 5, 6))
        assert seen.paths() == ["0.height", "0.width"]
        assert [tuple(record.values.shape) for record in seen] == [(2, 8, 5), (2, 8, 6)]

    def test_coordinate_trains_on_one_position_of_one_image(self):
        assert Coordinate(8)(torch.rand(1, 8, 1, 1)).isfinite().all()
