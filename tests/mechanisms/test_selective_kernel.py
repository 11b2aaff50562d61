"""Selective kernels: topology, widths, values computed by hand, timm's module."""

import pytest
import timm.layers
import torch
from helpers import fill
from torch import nn

import foveal
from foveal.mechanisms.selective_kernel import SelectiveKernel


class TestSelectiveKernel:
    def test_selective_kernel_has_the_topology_of_the_authors(self):
        module = SelectiveKernel(512)
        first, second = (branch.conv for branch in module.branches)
        assert (first.kernel_size, first.dilation, first.padding, first.groups) == ((3, 3), (1, 1), (1, 1), 32)
        assert (second.kernel_size, second.dilation, second.padding, second.groups) == ((3, 3), (2, 2), (2, 2), 32)
        assert [type(part) for part in module.branches[1]] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
        assert module.fc1.bias is None
        assert module.fc2.bias is None

    @pytest.mark.parametrize(("channels", "width"), [(128, 32), (256, 32), (512, 32), (1024, 64)])
    def test_selective_kernel_fused_width_has_a_floor(self, channels, width):
        assert SelectiveKernel(channels).fc1.out_features == width

    def test_selective_kernel_shares_sum_to_one_in_each_channel(self):
        module = SelectiveKernel(8, groups=2, dilations=(1, 2, 3)).eval()
        with foveal.watch(module) as seen:
            module(torch.randn(4, 8, 6, 6))
        selection = next(iter(seen)).values
        assert selection.shape == (4, 3, 8)
        torch.testing.assert_close(selection.sum(1), torch.ones(4, 8))
        assert (selection[:, :, 0] - selection[:, :, 1]).abs().max() > 1e-6

    def test_selective_kernel_selection_by_hand(self):
        """Logits of ln 3 against 0 choose three quarters of the first branch's map."""
        module = SelectiveKernel(2, groups=1).eval()
        fill(module, norm__bias=1.0, norm__weight=0.0)  # z is 1 in each of its 32 entries
        module.fc2.weight.data.zero_()
        module.fc2.weight.data[:2] = torch.log(torch.tensor(3.0)) / 32
        x = torch.randn(1, 2, 5, 5)
        first, second = (branch(x) for branch in module.branches)
        torch.testing.assert_close(module(x), 0.75 * first + 0.25 * second)

    def test_selective_kernel_agrees_with_timm(self):
        theirs = timm.layers.SelectiveKernel(
            64, 64, stride=2, groups=32, rd_ratio=1 / 16, rd_divisor=32, split_input=False
        )
        ours = SelectiveKernel(64, stride=2)
        pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
        for mine, other in pairs:
            mine.copy_(torch.rand_like(mine) if mine.is_floating_point() else mine)
            other.copy_(mine.view_as(other))
        x = torch.randn(2, 64, 9, 9, dtype=torch.float64)
        torch.testing.assert_close(ours.double().eval()(x), theirs.double().eval()(x))

    def test_selective_kernel_refuses_a_training_batch_of_one(self):
        module = SelectiveKernel(8, groups=2)
        with pytest.raises(ValueError, match="a training batch of 1 image"):
            module(torch.rand(1, 8, 4, 4))
        assert module.eval()(torch.rand(1, 8, 4, 4)).shape == (1, 8, 4, 4)
