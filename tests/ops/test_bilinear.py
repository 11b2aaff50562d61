"""Bilinear gathering of rows against grid_sample."""

import pytest
import torch
from helpers import operators
from torch.nn import functional as F

import foveal
from foveal.ops.bilinear import CHANNELS, NUMBERS, grid_sample_rows, suits_gathering
from foveal.ops.geometry import affine_grid, sample

BORDER = pytest.mark.parametrize("padding", ["border", "zeros"])


def theta_for(batch: int, spread: float = 0.6) -> torch.Tensor:
    return torch.eye(2, 3, dtype=torch.float64) + spread * torch.randn(batch, 2, 3, dtype=torch.float64)


def theirs(x, grid, padding):
    return F.grid_sample(x, grid, padding_mode=padding, align_corners=False)


@BORDER
@pytest.mark.parametrize("spread", [0.1, 0.6, 5.0])
@pytest.mark.parametrize("size", [(2, 2), (7, 5), (2, 9)])
def test_grid_sample_rows_agrees_with_grid_sample(padding, spread, size):
    x = torch.randn(3, 4, *size, dtype=torch.float64, requires_grad=True)
    theta = theta_for(3, spread).requires_grad_()
    grid = affine_grid(theta, 6, 8)
    ours, expected = grid_sample_rows(x, grid, padding == "border"), theirs(x, grid, padding)
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=0)
    weights = torch.randn_like(expected)
    for mine, other in zip(
        torch.autograd.grad((ours * weights).sum(), (x, theta), retain_graph=True),
        torch.autograd.grad((expected * weights).sum(), (x, theta)),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, atol=1e-10, rtol=0)


@BORDER
def test_grid_sample_rows_slopes_at_pixel_centres_agree_with_grid_sample(padding):
    """Where every coordinate is a whole pixel, as at the identity, weights have kinks. 4 pixels are exact in binary."""
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    pixels = torch.arange(4, dtype=torch.float64)
    centres = (2 * pixels + 1) / 4 - 1
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1)[None].requires_grad_()
    weights = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    mine, other = (
        torch.autograd.grad((out * weights).sum(), grid)[0]
        for out in (grid_sample_rows(x, grid, padding == "border"), theirs(x, grid, padding))
    )
    torch.testing.assert_close(mine, other, atol=1e-12, rtol=0)


def test_grid_sample_rows_by_hand():
    """Halfway between the four corners of a 2x2 map is their mean; a pixel beyond the left edge is zero."""
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 2)
    grid = torch.tensor([[0.0, 0.0], [-2.0, 0.0]]).view(1, 1, 2, 2)
    assert grid_sample_rows(x, grid, border=False).flatten().tolist() == [2.5, 0.0]
    assert grid_sample_rows(x, grid, border=True).flatten().tolist() == [2.5, 2.0]


@pytest.mark.parametrize("border", [True, False])
def test_grid_sample_rows_stays_within_the_map_at_nan_and_inf(border):
    grid = torch.tensor([[float("nan"), 0.0], [float("inf"), 0.0], [1e30, -1e30]]).view(1, 1, 3, 2)
    out = grid_sample_rows(torch.rand(1, 2, 4, 4), grid, border)
    assert out[..., 0].isnan().all()
    assert not out[..., 2].isnan().any()


def deep(**options) -> torch.Tensor:
    side = int((NUMBERS / CHANNELS) ** 0.5) + 1
    return torch.rand(1, CHANNELS, side, side, **options).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("padding", ["border", 0.5])
def test_sample_gathers_from_a_deep_channels_last_map(padding):
    x = deep()
    grid = affine_grid(theta_for(1).float(), 9, 11)
    assert "aten::embedding_bag" in operators(lambda: sample(x, grid, padding))
    assert "aten::embedding_bag" not in operators(lambda: sample(x.contiguous(), grid, padding))
    with foveal.no_fast_path():
        assert "aten::embedding_bag" not in operators(lambda: sample(x, grid, padding))
        plain = sample(x, grid, padding)
    fast = sample(x, grid, padding)
    torch.testing.assert_close(fast, plain, atol=1e-4, rtol=0)
    assert fast.is_contiguous(memory_format=torch.channels_last)


def test_sample_leaves_shallow_small_and_half_precision_maps_to_grid_sample():
    assert suits_gathering(deep())
    assert not suits_gathering(deep()[:, : CHANNELS - 1])
    assert not suits_gathering(deep()[:, :, :1])
    assert not suits_gathering(deep().contiguous())
    assert not suits_gathering(torch.rand(1, CHANNELS, 4, 4).to(memory_format=torch.channels_last))
    x, grid = deep().bfloat16(), affine_grid(theta_for(1).float(), 9, 11)
    assert "aten::embedding_bag" not in operators(lambda: sample(x, grid))


def test_sample_exports_as_its_definition():
    class Sampling(torch.nn.Module):
        def forward(self, x, theta):
            return sample(x, affine_grid(theta, *x.shape[2:]))

    exported = torch.export.export(Sampling(), (deep(), theta_for(1).float()))
    names = [str(node.target) for node in exported.graph.nodes]
    assert any("grid_sampler" in name for name in names)
    assert not any("embedding_bag" in name for name in names)
