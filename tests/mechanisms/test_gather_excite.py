"""Gather-excite: values computed by hand, timm's module, learned gathering."""

import math

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from foveal.mechanisms.gather_excite import GatherExcite, nearest

LN3 = math.log(3.0)  # sigmoid(ln 3) = 3/4, sigmoid(2 ln 3) = 9/10


class TestGatherExcite:
    def test_gather_excite_accepts_sizes_that_timm_refuses(self):
        try:
            timm.layers.create_attn("ge", 64)
        except TypeError:
            x = torch.randn(2, 64, 7, 9)
            assert GatherExcite(64, plus=True)(x).shape == x.shape
        else:
            pytest.skip("timm's default gather-excite can be made by now")

    def test_gather_excite_of_the_whole_map_by_hand(self):
        x = torch.stack([torch.zeros(2, 2), torch.tensor([[0.0, 2.0], [2.0, 0.0]]) * LN3])[None]
        torch.testing.assert_close(GatherExcite(2).weigh(x), torch.tensor([[0.5, 0.75]]))

    def test_gather_excite_of_neighbourhoods_by_hand(self):
        """Extent 2: cells are means of 3x3 around every other position, less at the border; one bright corner."""
        x = torch.zeros(1, 1, 4, 4)
        x[0, 0, 0, 0] = 4 * LN3  # the first cell has four positions inside the map
        expected = torch.full((4, 4), 0.5)
        expected[:2, :2] = 0.75
        torch.testing.assert_close(GatherExcite(1, extent=2).weigh(x)[0, 0], expected)

    @pytest.mark.parametrize("extent", [0, 2, 4, 8])
    @pytest.mark.parametrize("size", [(16, 16), (7, 9), (13, 6), (3, 1)])
    def test_gather_excite_without_weights_agrees_with_timm(self, extent, size):
        theirs = timm.layers.GatherExcite(8, extent=extent, use_mlp=False)
        x = torch.randn(2, 8, *size)
        assert torch.equal(GatherExcite(8, extent=extent or None)(x), theirs(x))

    @pytest.mark.parametrize(("size", "cells"), [(122, 16), (9, 3), (7, 4), (5, 5), (4, 1)])
    def test_nearest_resizes_in_integers(self, size, cells):
        """`F.interpolate` has 7 at row 61 of 122, where 61 * 16 / 122 is 8."""
        resized = nearest(torch.arange(float(cells)).view(1, 1, cells, 1), size, 3)
        assert resized[0, 0].tolist() == [[row * cells // size] * 3 for row in range(size)]

    def test_gather_excite_learned_of_the_whole_map_is_a_convolution_of_its_size(self):
        module = GatherExcite(6, theta=True, size=(5, 7))
        x = torch.randn(2, 6, 5, 7)
        convolved = F.conv2d(x, module.gather[0].weight, groups=6)
        torch.testing.assert_close(module.gather[0](x), convolved)
        torch.testing.assert_close(module.eval().weigh(x), module.gather[1](convolved).sigmoid()[:, :, 0, 0])

    @pytest.mark.parametrize("factor", [2, 3])
    def test_gather_excite_kernel_weighs_as_much_on_a_larger_map(self, factor):
        """A map enlarged pixel by pixel gives the same result: each position counts 1 / factor^2."""
        gather = GatherExcite(4, theta=True, size=6).gather[0]
        nn.init.ones_(gather.weight)
        x = torch.rand(2, 4, 6, 6)
        enlarged = x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        torch.testing.assert_close(gather(enlarged), gather(x), rtol=1e-5, atol=0)

    def test_gather_excite_has_the_weights_of_the_authors(self):
        """The networks of the authors: 56x56 kernels at the first stage, biases in the perceptron alone."""

        def shapes(**options):
            with torch.device("meta"):
                return [tuple(weight.shape) for weight in GatherExcite(256, **options).parameters()]

        norm, kernel = [(256,), (256,)], (256, 1, 3, 3)
        perceptron = [(16, 256, 1, 1), (16,), (256, 16, 1, 1), (256,)]
        assert shapes() == shapes(extent=8) == []
        assert shapes(theta=True, extent=8) == 3 * [kernel, *norm]
        assert shapes(theta=True, size=56) == [(256, 1, 56, 56), *norm]
        assert shapes(theta=True, plus=True, size=56) == [(256, 1, 56, 56), *norm, *perceptron]

    def test_gather_excite_orders_norms_and_relus(self):
        module = GatherExcite(8, extent=4, theta=True, plus=True)
        kinds = [type(part) for part in (*module.gather, *module.excite)]
        gather = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Conv2d, nn.BatchNorm2d]
        assert kinds == [*gather, nn.ReLU, nn.Conv2d, nn.ReLU, nn.Conv2d]

    def test_gather_excite_of_mean_and_perceptron_is_squeeze_excite(self):
        gate, se = GatherExcite(32, plus=True, reduction=4), timm.layers.SqueezeExcite(32, rd_channels=8)
        for ours, theirs in ((gate.excite[0], se.fc1), (gate.excite[2], se.fc2)):
            theirs.load_state_dict(ours.state_dict())
        x = torch.randn(2, 32, 5, 7)
        torch.testing.assert_close(gate(x), se(x))

    @pytest.mark.parametrize(
        "options",
        [{"reduction": 4}, {"size": 7}, {"theta": True, "extent": 4, "size": 7}, {"plus": True, "reduction": 0}],
    )
    def test_gather_excite_refuses_options_that_would_do_nothing(self, options):
        with pytest.raises(ValueError, match=rf"{[*options][-1]}={[*options.values()][-1]}: "):
            GatherExcite(8, **options)

    @pytest.mark.parametrize("options", [{"size": 4}, {"extent": 4}])
    def test_gather_excite_refuses_a_training_batch_of_one_number_a_channel(self, options):
        module = GatherExcite(8, theta=True, **options)
        with pytest.raises(ValueError, match="gather excite: a training batch of 1 image"):
            module(torch.rand(1, 8, 4, 4))
        assert module(torch.rand(2, 8, 4, 4)).shape == (2, 8, 4, 4)
        assert module.eval()(torch.rand(1, 8, 4, 4)).shape == (1, 8, 4, 4)

    def test_gather_excite_trains_on_several_neighbourhoods_of_one_image(self):
        assert GatherExcite(8, extent=4, theta=True)(torch.rand(1, 8, 5, 4)).shape == (1, 8, 5, 4)
