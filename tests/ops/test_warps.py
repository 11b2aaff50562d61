"""Families of transforms, against scipy and by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.interpolate import RBFInterpolator
from scipy.ndimage import affine_transform, map_coordinates

from foveal.ops.geometry import sample
from foveal.ops.warps import CONTROL, FAMILIES, HORIZON, grid_of, outline

families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def values_of(name: str, *numbers: float, size: tuple[int, int] = (8, 8)) -> torch.Tensor:
    return FAMILIES[name].values(torch.tensor([numbers], dtype=torch.float64), *size)


def seen_by_scipy(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear samples of an image (H, W) at normalised x and y, zeros outside."""
    height, width = image.shape
    rows, columns = ((y + 1) * height - 1) / 2, ((x + 1) * width - 1) / 2
    return map_coordinates(image, [rows, columns], order=1, mode="grid-constant", cval=0.0)


def normalised_pixels(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:height, :width]
    return (2 * x + 1) / width - 1, (2 * y + 1) / height - 1


@families
@pytest.mark.parametrize(("height", "width"), [(7, 7), (8, 8), (5, 12), (33, 20), (1, 1)])
def test_grid_of_the_identity_keeps_the_input(family, height, width):
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-7 * max(height, width))):
        image = torch.rand(2, 3, height, width, dtype=dtype)
        numbers = torch.tensor(family.identity, dtype=dtype).expand(2, -1)
        out = sample(image, grid_of(family.values(numbers, height, width), height, width))
        assert (out - image).abs().max() <= tolerance


@families
def test_grid_of_gradients_agree_with_finite_differences(family):
    numbers = torch.tensor(family.identity, dtype=torch.float64).expand(2, -1)
    numbers = (numbers + 0.1 * torch.randn(numbers.shape)).requires_grad_()
    assert torch.autograd.gradcheck(lambda given: grid_of(family.values(given, 4, 7), 3, 5), numbers)


@pytest.mark.parametrize(("height", "width"), [(15, 15), (9, 20)])
def test_similarity_rotates_pixels_in_any_proportions(height, width):
    """scipy turns and scales pixels about the middle; in normalised coordinates of 9x20 that would shear."""
    angle, scale = math.radians(35), 0.8
    turn = scale * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])  # rows first
    image, centre = np.random.default_rng(0).random((height, width)), np.array([height - 1, width - 1]) / 2
    expected = affine_transform(image, turn, centre - turn @ centre, order=1, cval=0.0, mode="grid-constant")
    values = values_of("similarity", angle, math.log(scale), 0.0, 0.0, size=(height, width))
    out = sample(torch.from_numpy(image)[None, None], grid_of(values, height, width), padding=0.0)
    np.testing.assert_allclose(out[0, 0].numpy(), expected, atol=1e-12)
    alone = values_of("rotation", angle, size=(height, width))
    torch.testing.assert_close(scale * alone, values)


def test_homography_agrees_with_scipy():
    height, width = 11, 14
    image = np.random.default_rng(0).random((height, width))
    values = values_of("projective", 0.9, 0.2, 0.1, -0.1, 0.8, -0.2, math.atanh(0.5), math.atanh(-0.25))
    matrix = np.array([[0.9, 0.2, 0.1], [-0.1, 0.8, -0.2], [0.5 * HORIZON, -0.25 * HORIZON, 1.0]])
    np.testing.assert_allclose(values[0].numpy(), matrix)
    x, y = normalised_pixels(height, width)
    u, v, w = np.einsum("ij,jhw->ihw", matrix, np.stack([x, y, np.ones_like(x)]))
    out = sample(torch.from_numpy(image)[None, None], grid_of(values, height, width), padding=0.0)
    np.testing.assert_allclose(out[0, 0].numpy(), seen_by_scipy(image, u / w, v / w), atol=1e-12)


def test_spline_agrees_with_scipy():
    height, width = 11, 14
    image = np.random.default_rng(0).random((height, width))
    control = torch.tensor(CONTROL, dtype=torch.float64) + 0.2 * torch.randn(16, 2, dtype=torch.float64)
    x, y = normalised_pixels(height, width)
    spline = RBFInterpolator(np.array(CONTROL), control.numpy(), kernel="thin_plate_spline")
    path = spline(np.stack([x.ravel(), y.ravel()], axis=1)).reshape(height, width, 2)
    grid = grid_of(control[None], height, width)
    np.testing.assert_allclose(grid[0].numpy(), path, atol=1e-10)
    out = sample(torch.from_numpy(image)[None, None], grid, padding=0.0)
    np.testing.assert_allclose(out[0, 0].numpy(), seen_by_scipy(image, path[..., 0], path[..., 1]), atol=1e-10)


def test_spline_of_a_common_shift_is_affine():
    theta = torch.tensor([[[0.5, 0.2, 0.1], [-0.3, 0.7, -0.2]]], dtype=torch.float64)
    control = torch.tensor(CONTROL, dtype=torch.float64) @ theta[0, :, :2].mT + theta[0, :, 2]
    torch.testing.assert_close(grid_of(control[None], 6, 9), grid_of(theta, 6, 9))
    torch.testing.assert_close(outline(control[None]), outline(theta))


def test_outline_of_attention_is_a_quarter():
    """Half the scale, in the middle of the right half: from x 0 to 1 and y -0.5 to 0.5."""
    values = values_of("attention", math.log(0.5), 0.5, 0.0)
    corners = torch.tensor([[[0.0, -0.5], [1, -0.5], [1, 0.5], [0, 0.5]]], dtype=torch.float64)
    torch.testing.assert_close(outline(values, steps=1), corners)


def test_warp_parameters_never_flip_the_image_or_show_the_horizon():
    numbers = 20 * torch.randn(1000, 8, dtype=torch.float64)
    assert (FAMILIES["attention"].values(numbers[:, :3], 8, 8)[:, :, :2].det() > 0).all()
    assert (FAMILIES["similarity"].values(numbers[:, :4], 8, 5)[:, :, :2].det() > 0).all()
    last = FAMILIES["projective"].values(numbers, 8, 8)[:, 2]
    assert (last[:, :2].abs().sum(1) <= 2 * HORIZON).all()
    assert last[:, 2].eq(1).all()


def test_outline_runs_clockwise_along_straight_lines():
    values = values_of("projective", 0.9, 0.2, 0.1, -0.1, 0.8, -0.2, 0.5, -0.25)
    edge = outline(values, steps=4)[0].unflatten(0, (4, 4))
    for side, start, end in zip(edge, edge[:, 0], edge.roll(-1, 0)[:, 0], strict=True):
        along, beside = side - start, end - start
        torch.testing.assert_close(along[:, 0] * beside[1], along[:, 1] * beside[0])
    area = edge[:, 0, 0] * edge.roll(-1, 0)[:, 0, 1] - edge[:, 0, 1] * edge.roll(-1, 0)[:, 0, 0]
    assert area.sum() > 0  # clockwise where y points down


def test_spline_is_precise_under_autocast():
    control = torch.tensor(CONTROL)[None] + 0.2 * torch.randn(1, 16, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = grid_of(control, 9, 9)
    assert torch.equal(under_autocast, grid_of(control, 9, 9))
