"""Self-attention over positions, and what it shares with non-local attention: identity at birth, rows, memory."""

import pytest
import torch
from helpers import randomise_norms
from timm.layers.bottleneck_attn import BottleneckAttn
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import foveal
from foveal.mechanisms.non_local import NonLocal
from foveal.mechanisms.self_attention import RelativeAttention, SelfAttention, displacements


class Largest(TorchDispatchMode):
    """Record the size of the largest tensor."""

    values = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        sizes = [each.numel() for each in tree_leaves(out) if isinstance(each, Tensor)]
        self.values = max([self.values, *sizes])
        return out


@pytest.mark.parametrize("module", [NonLocal(8), SelfAttention(8, reduction=1)], ids=["nl", "mhsa"])
def test_affinity_exists_only_while_watched(module):
    side = 24
    x = torch.randn(1, 8, side, side)
    module.eval()
    with torch.no_grad(), Largest() as alone:
        module(x)
    with torch.no_grad(), foveal.watch(module), Largest() as watched:
        module(x)
    assert watched.values >= side**4
    assert watched.values > 8 * alone.values


@pytest.mark.parametrize("module", [NonLocal(8), SelfAttention(8, identity=True)], ids=["nl", "mhsa"])
@pytest.mark.parametrize("training", [True, False])
def test_affinity_mechanisms_keep_the_map_bitwise_at_birth(module, training):
    x = torch.randn(3, 8, 6, 5)
    assert torch.equal(module.train(training)(x).view(torch.int32), x.view(torch.int32))


@pytest.mark.parametrize("module", [NonLocal(8), SelfAttention(8)], ids=["nl", "mhsa"])
def test_affinity_rows_sum_to_one_and_replaced_weights_take_effect(module):
    module = randomise_norms(module).eval()
    for weight in module.parameters():
        nn.init.normal_(weight)
    x = torch.randn(2, 8, 4, 6)
    with foveal.watch(module) as seen:
        plain = module(x)
    (record,) = seen
    torch.testing.assert_close(record.values.sum((-2, -1)), torch.ones(record.values.shape[:-2]))
    (tap,) = (each for each in module.modules() if isinstance(each, foveal.Tap))
    with tap.register_forward_hook(lambda _, __, weights: torch.full_like(weights, 1 / 24)):
        uniform = module(x) - x
    torch.testing.assert_close(uniform, uniform[:, :, :1, :1].expand_as(uniform), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(uniform + x, plain, atol=1e-6)


@pytest.mark.slow
def test_watch_records_a_compiled_self_attention():
    model = nn.Sequential(SelfAttention(8))
    x = torch.randn(2, 8, 5, 6)
    compiled = torch.compile(model, backend="aot_eager")
    plain = compiled(x)
    with foveal.watch(compiled) as seen:
        torch.testing.assert_close(compiled(x), plain)
    assert seen["0"].values.shape == (2, 4, 5, 6, 5, 6)
    torch.testing.assert_close(compiled(x), plain)


class TestSelfAttention:
    @pytest.mark.parametrize("watched", [True, False])
    def test_relative_attention_agrees_with_timm_at_its_size(self, watched):
        theirs = BottleneckAttn(12, 16, feat_size=(5, 7), num_heads=2, scale_pos_embed=True).double()
        ours = RelativeAttention(12, 16, heads=2, size=(5, 7)).double()
        names = {"qkv.weight": "qkv.weight", "rows": "pos_embed.height_rel", "columns": "pos_embed.width_rel"}
        ours.load_state_dict({name: theirs.state_dict()[other] for name, other in names.items()})
        x = torch.randn(3, 12, 5, 7, dtype=torch.float64)
        if watched:
            with foveal.watch(ours):
                answer = ours(x)
        else:
            answer = ours(x)
        torch.testing.assert_close(answer, theirs(x))

    def test_displacements_by_hand(self):
        """A table that holds its displacements: its own at its size; in proportion at another, zero in the middle."""
        table = torch.arange(-6.0, 7.0)[:, None]
        steps = torch.arange(7.0)
        assert torch.equal(displacements(table, 7)[:, :, 0], steps - steps[:, None])
        steps = torch.arange(4.0)
        torch.testing.assert_close(displacements(table, 4)[:, :, 0], (steps - steps[:, None]) * 13 / 7)

    def test_relative_attention_on_a_constant_map_depends_on_displacement_alone(self):
        module = RelativeAttention(4, 4, heads=1, size=3)
        with foveal.watch(module) as seen:
            module(torch.ones(1, 4, 3, 3))
        logits = next(iter(seen)).values[0, 0].log()  # (H, W, Y, X), up to a constant for each query
        for down, right in ((0, 1), (1, 0), (1, 1)):
            moved = logits[1, 1, 1 + down, 1 + right] - logits[1, 1, 1, 1]
            torch.testing.assert_close(logits[0, 0, down, right] - logits[0, 0, 0, 0], moved, atol=1e-5, rtol=1e-5)
        assert (logits[1, 1, 1, 2] - logits[1, 1, 1, 0]).abs() > 1e-3

    @pytest.mark.parametrize(("channels", "width"), [(256, 64), (100, 24), (8, 4)])
    def test_self_attention_width_is_a_quarter_in_whole_heads(self, channels, width):
        assert SelfAttention(channels).attention.qkv.out_channels == 3 * width

    def test_relative_attention_refuses_heads_that_do_not_divide(self):
        with pytest.raises(ValueError, match="heads=3 does not divide the width, 16"):
            RelativeAttention(8, 16, heads=3)

    def test_watch_records_self_attention_under_its_path(self):
        model = foveal.create_model("small_cnn", in_chans=1)
        foveal.attach(model, "mhsa", at="features.2")
        with foveal.watch(model) as seen:
            model(torch.rand(2, 1, 32, 32))
        assert seen["features.2.attention"].values.shape == (2, 4, 4, 4, 4, 4)
