"""Windows put back on the map: their positions against the networks' own functions, which cut a map of numbers."""

import pytest
import timm
import torch
import torchvision
from helpers import watch_once
from timm.models import maxxvit, swin_transformer

import foveal
from foveal.core.layout import Windows
from foveal.inspection.rollout import rollout

SWIN = {"embed_dim": 12, "num_heads": (3, 3), "num_classes": 2}


def numbers(rows, columns):
    return torch.arange(rows * columns).view(1, rows, columns, 1)


def cut(numbers, side):
    """Positions (N, K) of square windows of a map of numbers."""
    return swin_transformer.window_partition(numbers, (side, side)).reshape(-1, side**2)


def shown(model, *size):
    return watch_once(model.eval(), torch.rand(2, 3, *size))[0]


def check(record, expected, rows, columns):
    assert (record.tokens.keys.rows, record.tokens.keys.columns) == (rows, columns)
    assert torch.equal(record.tokens.keys.positions, expected)
    assert torch.equal(record.tokens.queries.positions, expected)


@pytest.mark.parametrize("version", [1, 2])
def test_watch_shows_shifted_windows_of_timm(version):
    classes = {1: timm.models.SwinTransformer, 2: timm.models.swin_transformer_v2.SwinTransformerV2}
    model = classes[version](img_size=(32, 64), patch_size=4, window_size=4, depths=(2, 2), **SWIN)
    seen = shown(model, 32, 64)
    here = numbers(8, 16)
    check(seen["layers.0.blocks.0.attn"], cut(here, 4), 8, 16)
    check(seen["layers.0.blocks.1.attn"], cut(here.roll((-2, -2), (1, 2)), 4), 8, 16)
    check(seen["layers.1.blocks.0.attn"], cut(numbers(4, 8), 4), 4, 8)


def test_watch_shows_shifted_windows_of_torchvision_and_their_padding():
    model = torchvision.models.SwinTransformer([4, 4], 12, [2], [3], [4, 4], num_classes=2)
    seen = shown(model, 24, 32)
    padded = torch.nn.functional.pad(numbers(6, 8), (0, 0, 0, 0, 0, 2), value=-1)
    paths = seen.paths()
    check(seen[paths[0]], cut(padded, 4), 6, 8)
    check(seen[paths[1]], cut(padded.roll((-2, -2), (1, 2)), 4), 6, 8)


def test_watch_shows_tiles_and_strides_of_maxvit():
    config = maxxvit.MaxxVitCfg(embed_dim=(32,), depths=(1,), block_type=("M",), stem_width=8)
    config.transformer_cfg.window_size = config.transformer_cfg.grid_size = (2, 2)
    model = maxxvit.MaxxVit(config, img_size=64, num_classes=2)
    seen = shown(model, 64, 64)
    here = numbers(16, 16)
    check(seen["stages.0.blocks.0.attn_block.attn"], cut(here, 2), 16, 16)
    check(seen["stages.0.blocks.0.attn_grid.attn"], maxxvit.grid_partition(here, [2, 2]).reshape(-1, 4), 16, 16)


@pytest.mark.parametrize(
    ("name", "options", "path", "side"),
    [
        ("nest_tiny", {"img_size": 64}, "levels.0.transformer_encoder.0.attn", 4),
        ("davit_tiny", {"depths": (1, 1, 1, 1)}, "stages.0.blocks.0.0.attn", 7),
        ("twins_svt_small", {"img_size": 64, "depths": (1, 1, 1, 1)}, "blocks.0.0.attn", 7),
    ],
)
def test_watch_shows_windows_of_other_families(name, options, path, side):
    seen = shown(timm.create_model(name, **options), 64, 64)
    more = -16 % side
    check(seen[path], cut(torch.nn.functional.pad(numbers(16, 16), (0, 0, 0, more, 0, more), value=-1), side), 16, 16)


def test_windows_map_and_joined_follow_the_positions():
    """Two windows of a 2x3 map, of its even and its odd positions; the second has a token of padding."""
    windows = Windows(2, 3, torch.tensor([[0, 2, 4, -1], [5, 3, 1, -1]]))
    weights = torch.tensor([[[1.0, 2, 3, 9], [4, 5, 6, 9]]])
    assert windows.map(weights).tolist() == [[[1, 6, 2], [5, 3, 4]]]
    assert windows.middle == (0, 2)
    full = windows.joined(torch.arange(32.0).view(1, 2, 4, 4))[0]
    assert full[0].tolist() == [0, 0, 1, 0, 2, 0]
    assert full[5].tolist() == [0, 18, 0, 17, 0, 16]
    assert full.count_nonzero() == 17  # of 2 windows of 3 tokens, but for the weight 0


def test_rollout_of_windows_is_that_of_their_joined_matrices():
    model = timm.models.SwinTransformer(img_size=32, patch_size=4, window_size=4, depths=(2,), **SWIN)
    seen = shown(model, 32, 32)
    expected = torch.eye(64).expand(2, 64, 64)
    for record, shift in zip(seen, (0, 2), strict=True):
        positions = cut(numbers(8, 8).roll((-shift, -shift), (1, 2)), 4)
        full = torch.zeros(2, 64, 64)
        for window, at in enumerate(positions):
            full[:, at[:, None], at[None]] = record.values[:, window].mean(1)
        expected = (full / 2 + torch.eye(64) / 2) @ expected
    torch.testing.assert_close(rollout(list(seen)), expected)
    assert (expected[0, 0] > 0).sum() > 16  # through shifted windows more than one window is reached


def test_draw_puts_windows_back(tmp_path):
    model = timm.models.SwinTransformer(img_size=32, patch_size=4, window_size=4, depths=(2,), **SWIN)
    x = torch.rand(2, 3, 32, 32)
    seen, _ = watch_once(model.eval(), x)
    picture = foveal.draw(seen, x)
    titles = [axes.get_title() for part in picture.figure.subfigs for axes in part.get_axes()]
    assert "layers.0.blocks.1.\nattn\ncentre, 4 windows" in titles
    assert "rollout\n2 layers\nmean of queries" in titles
