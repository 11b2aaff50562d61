"""The soft mask branch: a mask computed by hand, sizes, receptive field."""

import pytest
import torch
from helpers import randomise_norms
from torch import nn

from foveal.mechanisms.residual_mask import ResidualMask


class TestResidualMask:
    def test_residual_mask_by_hand(self):
        """A last layer of zeros: M is 1/2 everywhere, whatever the trunk."""
        module = ResidualMask(4)
        nn.init.zeros_(module.conv2.weight)
        x, trunk = torch.randn(2, 4, 6, 6), torch.randn(2, 4, 6, 6)
        torch.testing.assert_close(module(x), 1.5 * x)
        torch.testing.assert_close(module(x, trunk), 1.5 * trunk)

    @pytest.mark.parametrize("depth", [1, 3])
    @pytest.mark.parametrize("size", [(1, 1), (9, 5)])
    def test_residual_mask_of_any_depth_and_size(self, depth, size):
        module = randomise_norms(ResidualMask(8, depth)).eval()
        mask = module.weigh(torch.randn(2, 8, *size))
        assert mask.shape == (2, 8, *size)
        assert mask.min() > 1
        assert mask.max() < 2

    def test_residual_mask_has_the_receptive_field_of_its_depth(self):
        """The upper left of the mask depends on the lower right of the map."""
        module = randomise_norms(ResidualMask(8, 3)).double().eval()
        x = torch.randn(1, 8, 24, 24, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(module.weigh(x)[0, :, 0, 0].sum(), x)
        assert gradient[0, :, 20:, 20:].abs().sum() > 0
