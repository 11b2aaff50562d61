"""Coordinates and grids, against PyTorch, scipy and by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import affine_transform

from foveal.ops.geometry import IDENTITY, affine_grid, invert, sample, to_pixels, transform
from foveal.ops.warps import outline


@pytest.mark.parametrize(("height", "width"), [(7, 7), (8, 8), (5, 12), (1, 1)])
def test_affine_grid_of_the_identity_keeps_the_input(height, width):
    theta = torch.tensor([IDENTITY], dtype=torch.float64).expand(2, -1, -1)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-7 * max(height, width))):
        image = torch.rand(2, 3, height, width, dtype=dtype)
        out = sample(image, affine_grid(theta.to(dtype), height, width))
        assert (out - image).abs().max() <= tolerance


def test_affine_grid_is_that_of_pytorch():
    theta = torch.randn(3, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(affine_grid(theta, 6, 9), F.affine_grid(theta, (3, 1, 6, 9), align_corners=False))


@pytest.mark.parametrize("degrees", [30, -75])
def test_sample_of_a_rotation_agrees_with_scipy(degrees):
    angle, side = math.radians(degrees), 15
    matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    image = np.random.default_rng(0).random((side, side))
    centre = (side - 1) / 2
    flipped = matrix[::-1, ::-1]  # scipy counts rows before columns
    expected = affine_transform(
        image, flipped, centre - flipped @ [centre, centre], order=1, cval=0.0, mode="grid-constant"
    )
    theta = torch.from_numpy(np.concatenate([matrix, np.zeros((2, 1))], axis=1))[None]
    out = sample(torch.from_numpy(image)[None, None], affine_grid(theta, side, side), padding=0.0)
    np.testing.assert_allclose(out[0, 0].numpy(), expected, atol=1e-12)


def test_outline_of_theta_is_the_region_sampled():
    """Half the size, shifted right and down: the lower right quarter of the image."""
    theta = torch.tensor([[[0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]])
    assert outline(theta, steps=1).tolist() == [[[0, 0], [1, 0], [1, 1], [0, 1]]]
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert sample(image, affine_grid(theta, 2, 2))[0, 0].tolist() == [[10, 11], [14, 15]]


def test_to_pixels_counts_from_the_first_centre():
    assert to_pixels(torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]]), 4, 8).tolist() == [
        [-0.5, -0.5],
        [7.5, 3.5],
        [3.5, 1.5],
    ]


def test_invert_undoes_a_transform():
    theta = torch.randn(4, 2, 3, dtype=torch.float64)
    points = torch.rand(4, 5, 2, dtype=torch.float64)
    torch.testing.assert_close(transform(invert(theta), transform(theta, points)), points)


def test_sample_pads_with_the_border_or_the_background():
    image = torch.full((1, 1, 3, 3), 7.0)
    away = torch.tensor([[[1.0, 0.0, 9.0], [0.0, 1.0, 0.0]]])
    grid = affine_grid(away, 3, 3)
    assert (sample(image, grid) == 7).all()
    assert (sample(image, grid, padding=-0.424) == -0.424).all()


def test_sample_keeps_pixels_in_half_precision():
    """At 2,049 pixels bfloat16 cannot tell neighbouring coordinates apart."""
    image = torch.arange(2049.0).view(1, 1, 1, -1).remainder(7).bfloat16()
    grid = affine_grid(torch.tensor([IDENTITY]), 1, 2049)
    assert (sample(image, grid) - image).abs().max() < 0.01
