"""Replaced weights: own and third-party mechanisms."""

import pytest
import torch
from helpers import count_hooks, vary_weights, watch_once
from timm import layers
from timm.layers import coord_attn
from torch import nn

import foveal
from foveal.mechanisms import registry as mechanisms

CHANNELS = 16


def replaceable() -> dict:
    ours = mechanisms
    return {
        "se": (ours.SqueezeExcite(CHANNELS, 4), (CHANNELS, 5, 7)),
        "cbam": (ours.CBAM(CHANNELS, 4), (CHANNELS, 9, 9)),
        "sk": (ours.SelectiveKernel(CHANNELS, groups=4), (CHANNELS, 5, 7)),
        "stn": (ours.SpatialTransformer(CHANNELS), (CHANNELS, 12, 12)),
        "timm se": (layers.SEModule(CHANNELS), (CHANNELS, 5, 7)),
        "timm eca": (layers.EcaModule(CHANNELS), (CHANNELS, 5, 7)),
        "timm cbam": (layers.cbam.CbamModule(CHANNELS), (CHANNELS, 9, 9)),
        "timm gc": (layers.GlobalContext(CHANNELS), (CHANNELS, 5, 7)),
        "timm sk": (layers.SelectiveKernel(CHANNELS, rd_channels=16), (CHANNELS, 5, 7)),
        "timm split": (layers.SplitAttn(CHANNELS), (CHANNELS, 5, 7)),
        "timm coord": (coord_attn.CoordAttn(CHANNELS), (CHANNELS, 5, 7)),
        "timm attention": (layers.Attention(CHANNELS, num_heads=2), (5, CHANNELS)),
        "timm bottleneck": (
            layers.bottleneck_attn.BottleneckAttn(CHANNELS, feat_size=(4, 4), num_heads=2, dim_head=8),
            (CHANNELS, 4, 4),
        ),
        "timm halo": (
            layers.halo_attn.HaloAttn(CHANNELS, num_heads=2, dim_head=8, block_size=4, halo_size=1),
            (CHANNELS, 8, 8),
        ),
        "timm light cbam": (layers.cbam.LightCbamModule(CHANNELS), (CHANNELS, 9, 9)),
        "timm non-local": (layers.NonLocalAttn(CHANNELS), (CHANNELS, 4, 4)),
        "timm attention of maps": (layers.Attention2d(CHANNELS, num_heads=2), (CHANNELS, 4, 4)),
        "timm many queries": (layers.MultiQueryAttention2d(CHANNELS, num_heads=2), (CHANNELS, 4, 4)),
        "timm latent pool": (layers.AttentionPoolLatent(CHANNELS, num_heads=2), (5, CHANNELS)),
        "timm patch pool": (layers.AttentionPoolPrr(CHANNELS, num_heads=2), (5, CHANNELS)),
        "timm rotary pool": (layers.RotAttentionPool2d(CHANNELS, num_heads=2, ref_feat_size=4), (CHANNELS, 4, 4)),
        "timm sim pool": (layers.other_pool.SimPool2d(CHANNELS, num_heads=2), (CHANNELS, 4, 4)),
        "timm rotary": (layers.AttentionRope(CHANNELS, num_heads=2), (5, CHANNELS)),
        "timm pool": (layers.AttentionPool2d(CHANNELS, feat_size=4, num_heads=2), (CHANNELS, 4, 4)),
    }


@pytest.mark.parametrize("name", replaceable())
def test_replace_with_own_weights_keeps_the_output_and_others_change_it(name):
    """Own weights keep the output, weights of another image change it, and an outer watch records the new ones."""
    module, shape = replaceable()[name]
    model, x = nn.Sequential(vary_weights(module)), torch.randn(3, *shape)
    seen, plain = watch_once(model, x)
    own = {path: seen[path].values for path in seen.paths()}
    with foveal.replace(model, own):
        torch.testing.assert_close(model(x), plain)
    others = {path: lambda values: values.roll(1, 0) for path in own}
    with torch.no_grad(), foveal.watch(model) as shown, foveal.replace(model, others):
        assert not torch.equal(model(x), plain)
    if len(own) == 1:
        (path,) = own
        torch.testing.assert_close(shown[path].values, own[path].roll(1, 0))
    assert count_hooks(model) == 0
    with torch.no_grad():
        assert torch.equal(model(x), plain)


def test_replace_broadcasts_a_mean_over_images():
    model, x = nn.Sequential(layers.SEModule(CHANNELS)).eval(), torch.rand(4, CHANNELS, 3, 3)
    mean = torch.rand(CHANNELS)
    with foveal.replace(model, {"0": mean}):
        torch.testing.assert_close(model(x), x * mean[:, None, None])


def test_replace_that_fails_leaves_no_hooks():
    model, x = nn.Sequential(layers.SEModule(CHANNELS)).eval(), torch.rand(4, CHANNELS, 3, 3)
    with (
        pytest.raises(ValueError, match=r"'0': new weights of shape \(3,\) where B C is \(4, 16\)"),
        foveal.replace(model, {"0": torch.rand(3)}),
    ):
        model(x)
    assert count_hooks(model) == 0
    with pytest.raises(ValueError, match=r"unknown place 'layer1'; there are: 0"):
        foveal.replace(model, {"layer1": 1.0})
