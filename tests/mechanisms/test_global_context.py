"""Global context: values computed by hand, timm's module."""

import math

import pytest
import timm
import torch
from helpers import fill
from torch import nn

from foveal.mechanisms.global_context import GlobalContext

LN3 = math.log(3.0)  # sigmoid(ln 3) = 3/4, sigmoid(2 ln 3) = 9/10


class TestGlobalContext:
    def test_global_context_attends_by_hand(self):
        """Logits of ln 3 against 0: three quarters here, a quarter there."""
        module = GlobalContext(2)
        module.attention.weight.data = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
        x = torch.tensor([[LN3, 0.0], [8.0, 4.0]]).view(1, 2, 1, 2)
        torch.testing.assert_close(module.weigh(x), torch.tensor([[[0.75, 0.25]]]))

    def test_global_context_adds_by_hand(self):
        """A context of 3, 3, 1, 1 is normalised to 1, 1, -1, -1, of which a ReLU leaves the first two."""
        module = GlobalContext(4)
        nn.init.zeros_(module.attention.weight)
        for layer, scale in ((module.fc1, 1.0), (module.fc2, 5.0)):
            layer.weight.data = scale * torch.eye(4)
        fill(module, fc1__bias=0.0)
        x = torch.tensor([3.0, 3.0, 1.0, 1.0]).view(1, 4, 1, 1) * torch.tensor([[0.5, 1.5]])
        added = (module(x) - x)[0, :, 0]
        torch.testing.assert_close(added, torch.tensor([5.0, 5, 0, 0])[:, None].expand(4, 2), rtol=1e-4, atol=1e-6)

    def test_global_context_agrees_with_timm(self):
        """The bias of timm's attention changes nothing: a softmax is invariant to it."""
        theirs = timm.layers.GlobalContext(64, fuse_add=True, fuse_scale=False, rd_ratio=1 / 16)
        ours = GlobalContext(64)
        for mine, other in (
            (ours.attention.weight, theirs.conv_attn.weight),
            *((ours.fc1.get_parameter(kind), theirs.mlp_add.fc1.get_parameter(kind)) for kind in ("weight", "bias")),
            *((ours.norm.get_parameter(kind), theirs.mlp_add.norm.get_parameter(kind)) for kind in ("weight", "bias")),
            *((ours.fc2.get_parameter(kind), theirs.mlp_add.fc2.get_parameter(kind)) for kind in ("weight", "bias")),
        ):
            other.data.normal_()
            mine.data.copy_(other.data.view_as(mine))
        with torch.no_grad():
            ours.norm.eps = theirs.mlp_add.norm.eps
            theirs.conv_attn.bias.fill_(3.0)
            x = torch.randn(2, 64, 5, 7, dtype=torch.float64)
            torch.testing.assert_close(ours.double()(x), theirs.double()(x))

    def test_global_context_shares_sum_to_one(self):
        module = GlobalContext(8)
        mask = module.weigh(100 * torch.randn(3, 8, 6, 5))
        assert mask.isfinite().all()
        torch.testing.assert_close(mask.sum((1, 2)), torch.ones(3))

    @pytest.mark.parametrize("channels", [1, 8, 16])
    def test_global_context_of_few_channels_depends_on_its_input(self, channels):
        """A hidden width of one, C / 16 at 16 channels, would be normalised to nothing."""
        module = GlobalContext(channels)
        nn.init.normal_(module.fc2.weight)
        added = [(module(x) - x)[0, :, 0, 0] for x in (torch.randn(1, channels, 4, 4), torch.randn(1, channels, 4, 4))]
        assert (added[0] - added[1]).abs().max() > 1e-3
