"""Rows, columns and prefix tokens as a pass shows them, against those that the model's arguments imply."""

import pytest
import timm
import torch
from helpers import watch_once
from torch import nn

import foveal
from foveal.core.layout import Layout, Tokens, Windows
from foveal.inspection.finding.find import LAID_OUT

TINY = {"embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}


def vit(**options):
    return timm.models.VisionTransformer(**TINY, **options).eval()


def keys_of(model, *size):
    seen, _ = watch_once(model, torch.rand(2, 3, *size))
    assert len({record.tokens for record in seen}) == 1
    return seen[0].tokens.keys, seen


CLASS = ("class token",)
REGISTERS = tuple(f"register {turn}" for turn in (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("options", "size", "expected"),
    [
        ({"img_size": (32, 128), "patch_size": (4, 16)}, (32, 128), Layout(1, 8, 8, CLASS)),
        ({"img_size": 28, "patch_size": 14, "reg_tokens": 4}, (28, 28), Layout(5, 2, 2, (*CLASS, *REGISTERS))),
        ({"img_size": 28, "patch_size": 14, "reg_tokens": 1, "class_token": False, "global_pool": "avg"}, (28, 28),
         Layout(1, 2, 2, ("register 1",))),
        ({"img_size": 70, "patch_size": 14, "dynamic_img_size": True}, (56, 84), Layout(1, 4, 6, CLASS)),
        ({"img_size": 70, "patch_size": 14}, (70, 70), Layout(1, 5, 5, CLASS)),
        ({"img_size": 32, "patch_size": 8, "dynamic_img_size": True, "dynamic_img_pad": True}, (30, 45),
         Layout(1, 4, 6, CLASS)),
        ({"img_size": (8, 48), "patch_size": 8}, (8, 48), Layout(1, 1, 6, CLASS)),  # one row
    ],
)  # fmt: skip
def test_watch_shows_the_layout_of_tokens(options, size, expected):
    keys, seen = keys_of(vit(**options), *size)
    assert keys == expected
    assert seen[0].tokens.queries == expected
    foveal.draw(seen, torch.rand(2, 3, *size))


def test_draw_names_a_class_token_and_no_register():
    size = (28, 28)
    for options, query in (({"reg_tokens": 4}, "class token"), ({"reg_tokens": 1, "class_token": False}, "centre")):
        model = vit(img_size=28, patch_size=14, global_pool="avg", **options)
        picture = foveal.draw(keys_of(model, *size)[1], torch.rand(2, 3, *size))
        titles = [axes.get_title() for part in picture.figure.subfigs for axes in part.get_axes()]
        assert f"blocks.0.attn\n{query}" in titles


def test_watch_of_reduced_keys_shows_both_layouts():
    """PVT reduces the map of the keys by a convolution."""
    model = timm.models.PyramidVisionTransformerV2(
        depths=(1, 1, 1, 1), embed_dims=(8, 16, 16, 16), num_heads=(1, 2, 2, 2), num_classes=3
    ).eval()
    seen, _ = watch_once(model, torch.rand(1, 3, 64, 96))
    tokens = seen["stages.0.blocks.0.attn"].tokens
    assert (tokens.queries, tokens.keys) == (Layout(0, 16, 24, ()), Layout(0, 2, 3, ()))


class Appends(nn.Module):
    """Tokens after those of the map, or in another order: no layout can be known."""

    def __init__(self, shuffles):
        super().__init__()
        self.patches, self.more, self.shuffles = nn.Conv2d(3, 8, 8, 8), nn.Parameter(torch.rand(1, 2, 8)), shuffles

    def forward(self, x):
        x = self.patches(x).flatten(2).mT
        if self.shuffles:
            x = x.gather(1, torch.arange(x.shape[1] - 1, -1, -1, device=x.device)[None, :, None].expand_as(x))
        else:
            x = torch.cat([x, self.more.expand(len(x), -1, -1)], 1)
        return ((x @ x.mT).softmax(-1) @ x).mean(1)


@pytest.mark.parametrize(("shuffles", "why"), [(False, "tokens follow those of its 2x3 map"), (True, "reordered by")])
def test_draw_refuses_tokens_without_a_layout(shuffles, why):
    seen, _ = watch_once(Appends(shuffles).eval(), torch.rand(2, 3, 16, 24))
    assert seen[0].tokens.keys is None
    with pytest.raises(ValueError, match=f"keys are no map of the image: .*{why}"):
        foveal.draw(seen, torch.rand(2, 3, 16, 24))


class Sequence(nn.Module):
    """A transformer that is given its patches: no map is seen."""

    def __init__(self):
        super().__init__()
        self.attention = timm.layers.Attention(16, num_heads=2)

    def forward(self, patches):
        return self.attention(patches)


def test_watch_takes_a_grid_where_the_pass_shows_none():
    model, patches = nn.Sequential(Sequence()).eval(), torch.rand(2, 7, 16)
    with foveal.watch(model) as seen:
        model(patches)
    assert seen[0].tokens.keys is None
    with foveal.watch(model, grid=(2, 3)) as seen:
        model(patches)
    assert seen[0].tokens == Tokens(*2 * [Layout(1, 2, 3, ("token 1",))])
    foveal.draw(seen, torch.rand(2, 3, 20, 30))
    with foveal.watch(model, grid=(4, 2)) as seen:
        model(patches)
    assert seen[0].tokens.keys is None
    with pytest.raises(ValueError, match=r"its 7 tokens are fewer than the 8 of grid=\(4, 2\)"):
        foveal.draw(seen, torch.rand(2, 3, 20, 30))


def test_watch_keeps_the_layout_that_the_pass_shows():
    model, x = vit(img_size=(32, 64), patch_size=8), torch.rand(2, 3, 32, 64)
    with foveal.watch(model, grid=(2, 16)) as seen:
        model(x)
    assert seen[0].tokens.keys == Layout(1, 4, 8, CLASS)


@pytest.mark.parametrize("grid", [7, (2,), (2, 0), (2.0, 3), "ab", (True, 2)])
def test_watch_refuses_what_is_no_grid(grid):
    with pytest.raises(ValueError, match="rows and columns of the map of tokens are needed"):
        foveal.watch(vit(img_size=32, patch_size=8), grid=grid)


class Scaled(nn.Module):
    """A transformer whose second argument may be as long as the batch, and is not one."""

    def __init__(self):
        super().__init__()
        self.vit = vit(img_size=32, patch_size=8, global_pool="avg", class_token=False)

    def forward(self, x, scale):
        return self.vit(x) * scale


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_watch_shows_the_layout_whatever_the_batch(batch):
    model = Scaled()
    with foveal.watch(model) as seen, torch.no_grad():
        model(torch.rand(batch, 3, 32, 32), torch.rand(3))  # a scale for each of three classes
    assert {record.tokens.keys for record in seen} == {Layout(0, 4, 4, ())}


def test_watch_tries_one_pass_for_all_batch_sizes():
    model = vit(img_size=32, patch_size=8)
    for batch in (2, 7, 3):
        with foveal.watch(model) as seen:
            model(torch.rand(batch, 3, 32, 32))
        assert {record.tokens.keys for record in seen} == {Layout(1, 4, 4, CLASS)}
    assert len(LAID_OUT[model]) == 1


@pytest.mark.parametrize("grid", [None, (4, 4)])
@pytest.mark.parametrize("keep", ["values", "statistics"])
def test_watch_joins_no_passes_of_several_layouts(keep, grid):
    """As many tokens on another map: their positions are others."""
    model = vit(img_size=64, patch_size=8, dynamic_img_size=True, class_token=False, global_pool="avg")
    with torch.no_grad(), foveal.watch(model, keep, grid=grid) as seen:
        for batch in (2, 1):
            model(torch.rand(batch, 3, 16, 64))
    assert seen[0].tokens.keys == Layout(0, 2, 8, ())
    why = r"'blocks.0.attn': images of several sizes, with tokens of 2x8 and 8x2, cannot be joined; watch each size al"
    with pytest.raises(ValueError, match=why), torch.no_grad(), foveal.watch(model, keep) as seen:  # noqa: PT012
        model(torch.rand(2, 3, 16, 64))
        model(torch.rand(2, 3, 64, 16))
        seen[0]


def test_windows_are_equal_by_their_positions():
    one, same, other = (Windows(2, 2, torch.tensor([order])) for order in ([0, 1, 2, 3], [0, 1, 2, 3], [0, 2, 1, 3]))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != Layout(0, 2, 2)
