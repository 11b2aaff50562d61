"""BAM: branches computed by hand, the paper's form and the released one."""

import math

import pytest
import torch
from helpers import fill, randomise_norms, zero_norm_eps
from torch import nn

from foveal.mechanisms.bam import BAM

LN3 = math.log(3.0)  # sigmoid(ln 3) = 3/4, sigmoid(2 ln 3) = 9/10


def silenced(module: BAM) -> BAM:
    """Make the last norms output their biases, zero."""
    for branch in (module.channel, module.spatial):
        nn.init.zeros_(branch[-1].weight)
    return module.eval()


class TestBAM:
    def test_bam_branches_add_by_hand(self):
        """Mc = ln 3 and Ms = ln 3 give M = 9/10, and 1.9 x comes out."""
        module = silenced(BAM(4))
        assert torch.equal(module.weigh(torch.rand(1, 4, 3, 5)), torch.full((1, 4, 3, 5), 1.5))
        fill(module.channel[-1], bias=LN3)
        fill(module.spatial[-1], bias=LN3)
        x = torch.randn(2, 4, 3, 5)
        torch.testing.assert_close(module(x), 1.9 * x)

    def test_bam_released_branches_multiply_by_hand(self):
        module = silenced(BAM(4, released=True))
        fill(module.channel[-1], bias=LN3)
        fill(module.spatial[-1], bias=2.0)
        x = torch.randn(2, 4, 3, 5)
        torch.testing.assert_close(module(x), 1.9 * x)

    def test_bam_joins_channels_and_positions_by_hand(self):
        """Channel 0 at ln 3 more than channel 1, position 1 at ln 3 more than position 0."""
        module = zero_norm_eps(silenced(BAM(2, reduction=1)))
        module.channel[-1].bias.data = torch.tensor([LN3, 0.0])
        first, *dilated, last = (part for part in module.spatial if isinstance(part, nn.Conv2d))
        for conv in (first, *dilated, last):
            nn.init.zeros_(conv.weight)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        for conv in (first, *dilated):
            nn.init.eye_(conv.weight.data[:, :, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2])
        nn.init.constant_(last.weight, 0.5)
        nn.init.ones_(module.spatial[-1].weight)
        x = torch.tensor([0.0, LN3]).expand(1, 2, 1, 2)  # which comes through as it is
        torch.testing.assert_close(module.weigh(x)[0, :, 0], 1 + torch.tensor([[0.75, 0.9], [0.5, 0.75]]))

    def test_bam_has_the_form_of_the_paper(self):
        module, relu = BAM(64), nn.ReLU
        assert [type(part) for part in module.channel] == [nn.Linear, relu, nn.Linear, nn.BatchNorm1d]
        assert [type(part) for part in module.spatial] == 3 * [nn.Conv2d, relu] + [nn.Conv2d, nn.BatchNorm2d]
        assert [conv.out_channels for conv in module.spatial if isinstance(conv, nn.Conv2d)] == [4, 4, 4, 1]

    def test_bam_released_has_the_form_of_the_release(self):
        module, relu = BAM(64, released=True), nn.ReLU
        assert [type(part) for part in module.channel] == [nn.Linear, nn.BatchNorm1d, relu, nn.Linear]
        assert [type(part) for part in module.spatial] == 3 * [nn.Conv2d, nn.BatchNorm2d, relu] + [nn.Conv2d]

    def test_bam_position_reads_a_grid_of_four_by_four_pixels(self):
        """Two 3x3 convolutions of dilation 4: positions at -8, -4, 0, 4 and 8, all within a map that is kept whole."""
        spatial = randomise_norms(BAM(16, reduction=1)).eval().spatial
        x = torch.randn(1, 16, 19, 19, requires_grad=True)
        spatial(x)[0, 0, 9, 9].backward()
        rows, columns = x.grad.abs().sum((0, 1)).nonzero().unbind(1)
        assert set(rows.tolist()) == set(columns.tolist()) == {1, 5, 9, 13, 17}

    @pytest.mark.parametrize("released", [False, True])
    @pytest.mark.parametrize("size", [(7, 7), (8, 8), (14, 9), (1, 1)])
    def test_bam_keeps_the_size_of_small_maps(self, size, released):
        """A popular copy pads by 1 what is dilated by 2: 7x7 becomes 1x1 in silence, and 8x8 raises."""
        module = randomise_norms(BAM(16, reduction=2, released=released)).eval()
        x = torch.randn(1, 16, *size)
        assert module.spatial(x).shape == (1, 1, *size)
        weights = module.weigh(x)
        assert weights.shape == x.shape
        assert size == (1, 1) or weights[0, 0].std() > 0

    def test_bam_averages_the_whole_of_a_map_that_is_not_square(self):
        """The authors' code pools by the height twice."""
        module = BAM(2, reduction=1).eval()
        nn.init.zeros_(module.spatial[-1].weight)
        x = torch.rand(1, 2, 4, 9)
        torch.testing.assert_close(module.weigh(x), module.weigh(x.mT).mT)

    def test_bam_refuses_a_training_batch_of_one(self):
        module = BAM(8)
        with pytest.raises(ValueError, match="bam: a training batch of 1 image"):
            module(torch.rand(1, 8, 4, 4))
        for norm in (part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)):
            norm.eval()
        assert module(torch.rand(1, 8, 4, 4)).shape == (1, 8, 4, 4)
