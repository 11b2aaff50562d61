"""Attention over positions and the soft mask branch: values by thought, other implementations, what is not held."""

import math

import pytest
import timm.layers
import torch
from conftest import randomise_norms
from test_drawing import axes_of
from timm.layers.bottleneck_attn import BottleneckAttn
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import foveal
from foveal.mechanisms.non_local import NonLocal
from foveal.mechanisms.residual_mask import ResidualMask
from foveal.mechanisms.self_attention import RelativeAttention, SelfAttention, displacements


class Largest(TorchDispatchMode):
    """The number of values in the largest tensor that is made."""

    values = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        sizes = [each.numel() for each in tree_leaves(out) if isinstance(each, Tensor)]
        self.values = max([self.values, *sizes])
        return out


def neutral(norm: nn.BatchNorm2d) -> None:
    """In evaluation the norm changes nothing."""
    nn.init.ones_(norm.weight)
    norm.eps = 0.0


@pytest.mark.parametrize("module", [NonLocal(8), SelfAttention(8, reduction=1)], ids=["nl", "mhsa"])
def test_the_affinity_exists_only_while_it_is_watched(module):
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
def test_at_birth_every_bit_is_the_maps(module, training):
    x = torch.randn(3, 8, 6, 5)
    assert torch.equal(module.train(training)(x).view(torch.int32), x.view(torch.int32))


@pytest.mark.parametrize("module", [NonLocal(8), SelfAttention(8)], ids=["nl", "mhsa"])
def test_rows_are_one_in_sum_and_weights_that_are_replaced_take_effect(module):
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
def test_a_compiled_model_is_watched_too():
    model = nn.Sequential(SelfAttention(8))
    x = torch.randn(2, 8, 5, 6)
    compiled = torch.compile(model, backend="aot_eager")
    plain = compiled(x)
    with foveal.watch(compiled) as seen:
        torch.testing.assert_close(compiled(x), plain)
    assert seen["0"].values.shape == (2, 4, 5, 6, 5, 6)
    torch.testing.assert_close(compiled(x), plain)


class TestNonLocal:
    def test_an_affinity_by_thought(self):
        """theta is 1 and phi is x: each position weighs the values 0 and ln 3 by 1/4 and 3/4."""
        module = NonLocal(1).eval()
        neutral(module.norm)
        for conv, weight, bias in ((module.theta, 0, 1), (module.phi, 1, 0), (module.g, 1, 0)):
            nn.init.constant_(conv.weight, weight)
            nn.init.constant_(conv.bias, bias)
        nn.init.ones_(module.out.weight)
        x = torch.tensor([0.0, math.log(3)]).view(1, 1, 1, 2)
        torch.testing.assert_close(module(x), x + 0.75 * math.log(3))
        with foveal.watch(module) as seen:
            module(x)
        torch.testing.assert_close(next(iter(seen)).values.flatten(3)[0, 0], torch.tensor([[0.25, 0.75]] * 2))

    def test_is_that_of_timm(self):
        theirs = timm.layers.NonLocalAttn(16, use_scale=False, rd_ratio=1 / 2)
        ours = NonLocal(16)
        nn.init.zeros_(theirs.z.bias)  # which the norm after it takes away
        names = {"t": "theta", "p": "phi", "g": "g", "z": "out", "norm": "norm"}
        with torch.no_grad():
            for module in (theirs.norm, theirs.t, theirs.p, theirs.g, theirs.z):
                module.weight.normal_()
        state = {f"{names[key.split('.')[0]]}.{key.split('.')[1]}": v for key, v in theirs.state_dict().items()}
        del state["out.bias"]
        ours.load_state_dict(state)
        x = torch.randn(2, 16, 5, 7)
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))

    def test_subsampled_keys_are_the_pooled_maps_and_count_the_last_odd_row(self):
        module = NonLocal(1, subsample=True)
        x = torch.arange(15.0).view(1, 1, 3, 5)
        assert module.pool(x).tolist() == [[[[6.0, 8.0, 9.0], [11.0, 13.0, 14.0]]]]


class TestSelfAttention:
    @pytest.mark.parametrize("watched", [True, False])
    def test_at_its_tables_size_it_is_timms_bottleneck_attention(self, watched):
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

    def test_displacements_by_thought(self):
        """A table that holds its displacements: its own at its size; in proportion at another, zero in the middle."""
        table = torch.arange(-6.0, 7.0)[:, None]
        steps = torch.arange(7.0)
        assert torch.equal(displacements(table, 7)[:, :, 0], steps - steps[:, None])
        steps = torch.arange(4.0)
        torch.testing.assert_close(displacements(table, 4)[:, :, 0], (steps - steps[:, None]) * 13 / 7)

    def test_on_a_plain_map_weights_depend_on_the_displacement_alone(self):
        module = RelativeAttention(4, 4, heads=1, size=3)
        with foveal.watch(module) as seen:
            module(torch.ones(1, 4, 3, 3))
        logits = next(iter(seen)).values[0, 0].log()  # (H, W, Y, X), up to a constant for each query
        for down, right in ((0, 1), (1, 0), (1, 1)):
            moved = logits[1, 1, 1 + down, 1 + right] - logits[1, 1, 1, 1]
            torch.testing.assert_close(logits[0, 0, down, right] - logits[0, 0, 0, 0], moved, atol=1e-5, rtol=1e-5)
        assert (logits[1, 1, 1, 2] - logits[1, 1, 1, 0]).abs() > 1e-3

    @pytest.mark.parametrize(("channels", "width"), [(256, 64), (100, 24), (8, 4)])
    def test_the_width_is_a_quarter_in_whole_heads(self, channels, width):
        assert SelfAttention(channels).attention.qkv.out_channels == 3 * width

    def test_heads_that_do_not_divide_are_named(self):
        with pytest.raises(ValueError, match="heads=3 does not divide the width, 16"):
            RelativeAttention(8, 16, heads=3)

    def test_its_record_is_found_under_its_own_path(self):
        model = foveal.create_model("small_cnn", in_chans=1)
        foveal.attach(model, "mhsa", at="features.2")
        with foveal.watch(model) as seen:
            model(torch.rand(2, 1, 32, 32))
        assert seen["features.2.attention"].values.shape == (2, 4, 4, 4, 4, 4)


class TestResidualMask:
    def test_a_mask_by_thought(self):
        """A last layer of zeros: M is 1/2 everywhere, whatever the trunk."""
        module = ResidualMask(4)
        nn.init.zeros_(module.conv2.weight)
        x, trunk = torch.randn(2, 4, 6, 6), torch.randn(2, 4, 6, 6)
        torch.testing.assert_close(module(x), 1.5 * x)
        torch.testing.assert_close(module(x, trunk), 1.5 * trunk)

    @pytest.mark.parametrize("depth", [1, 3])
    @pytest.mark.parametrize("size", [(1, 1), (9, 5)])
    def test_any_depth_at_any_size(self, depth, size):
        module = randomise_norms(ResidualMask(8, depth)).eval()
        mask = module.weigh(torch.randn(2, 8, *size))
        assert mask.shape == (2, 8, *size)
        assert mask.min() > 1
        assert mask.max() < 2

    def test_it_sees_as_far_as_it_halves(self):
        """The upper left of the mask depends on the lower right of the map."""
        module = randomise_norms(ResidualMask(8, 3)).double().eval()
        x = torch.randn(1, 8, 24, 24, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(module.weigh(x)[0, :, 0, 0].sum(), x)
        assert gradient[0, :, 20:, 20:].abs().sum() > 0


class TestDrawing:
    images = torch.zeros(2, 1, 12, 24)

    def record(self) -> foveal.Record:
        """Two heads on a map of 3x6 positions; the centre, row 1, column 3, reads key 0, 5 with 3/4 and 1/4."""
        values = torch.zeros(2, 2, 3, 6, 3, 6)
        values[:, 0, 1, 3, 0, 5] = values[:, 1, 1, 3, 2, 0] = 1.0
        values[:, 1, 1, 3, 0, 5], values[:, 1, 1, 3, 2, 0] = 0.5, 0.5
        facts = {"mechanism": "test", "kind": "affinity", "domain": "spatial", "value_range": (0.0, 1.0)}
        return foveal.Record(path="layer1.mhsa", axes="B G H W Y X", values=values, **facts)

    def test_the_centres_weights_and_its_frame(self):
        axes = axes_of(foveal.draw([self.record()], self.images))
        drawn = axes[1].images[0]
        weights = drawn.get_array()
        assert weights.shape == (3, 6)
        assert (weights[0, 5], weights[2, 0], weights.sum()) == (0.75, 0.25, 1.0)
        assert drawn.get_clim() == (0.0, 0.75)
        for axis in axes[:2]:
            (frame,) = axis.patches
            assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((11.5, 3.5), 4.0, 4.0)
        assert axes[1].get_title().endswith("centre")
