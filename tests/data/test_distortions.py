"""Distorted digits: transforms and boxes against the truth."""

import pytest
import torch

from foveal.data.distortions import DISTORTIONS, distort, grid_back, ink_boxes, uniform, warp, whole_corners
from foveal.ops.geometry import CORNERS, sample
from foveal.ops.warps import CONTROL, grid_of, outline


def digit_images(count: int = 20) -> torch.Tensor:
    """Bars with a foot, of several widths: no rotation or flip leaves them unchanged."""
    images = torch.zeros(count, 1, 28, 28, dtype=torch.uint8)
    for index in range(count):
        images[index, 0, 6:22, 10 : 12 + index % 5] = 255
        images[index, 0, 19:22, 10:20] = 255
    return images


@pytest.mark.parametrize("kind", ["rts", "translated"])
def test_distort_is_undone_by_its_truth(kind):
    images = digit_images()
    truth = distort(images, kind, seed=3)
    back = sample(truth.images.float(), grid_of(truth.theta, 28, 28))
    error = (back - images.float()).abs().mean() / 255
    assert error < {"translated": 0.001}.get(kind, 0.03)  # bilinear sampling, twice


@pytest.mark.parametrize("kind", DISTORTIONS)
def test_distort_is_fixed_by_its_seed(kind):
    images = digit_images()
    first, again, other = (distort(images, kind, seed) for seed in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.theta, again.theta)
    assert not torch.equal(first.images, other.images)


def test_distort_rts_keeps_the_ranges_of_the_paper():
    theta = distort(digit_images(500), "rts", seed=0).theta.double()
    scale = theta[:, :, :2].det().sqrt() * 42 / 28
    angle = torch.rad2deg(torch.atan2(theta[:, 1, 0], theta[:, 0, 0]))
    assert 0.7 <= scale.min() < 0.75 < 1.15 < scale.max() <= 1.2
    assert -45 <= angle.min() < -40
    assert 40 < angle.max() <= 45


def test_distort_r_rotates_about_the_middle_by_up_to_90_degrees():
    theta = distort(digit_images(500), "r", seed=0).theta.double()
    angle = torch.rad2deg(torch.atan2(theta[:, 1, 0], theta[:, 0, 0]))
    assert -90 <= angle.min() < -80
    assert 80 < angle.max() <= 90
    assert theta[:, :, 2].eq(0).all()
    torch.testing.assert_close(theta[:, :, :2].det(), torch.ones(500, dtype=torch.float64))


def test_distort_p_moves_the_image_s_corners_by_about_five_pixels_and_never_folds():
    theta = distort(digit_images(500), "p", seed=0).theta
    scale = uniform(500, 0.75, 1, torch.Generator().manual_seed(0))  # the first numbers that are drawn
    of_image = theta / torch.stack([scale, scale, torch.ones(500)], dim=1)[:, None]
    corners = 21 * outline(of_image, steps=1)  # pixels from the middle of 42
    torch.testing.assert_close(corners.mean(0), 14.0 * torch.tensor(CORNERS), atol=1.0, rtol=0)
    assert 4.5 < corners.std(0).mean() < 5.5
    ahead = corners.roll(-1, 1) - corners
    after = ahead.roll(-1, 1)
    assert (ahead[..., 0] * after[..., 1] > ahead[..., 1] * after[..., 0]).all()


def test_distort_e_moves_control_points_by_about_1_5_pixels():
    theta = distort(digit_images(500), "e", seed=0).theta
    torch.testing.assert_close(theta.mean(0), torch.tensor(CONTROL), atol=0.03, rtol=0)
    assert 14 * theta.std(0).mean() == pytest.approx(1.5, abs=0.03)


def test_ink_boxes_go_from_edge_to_edge():
    image = torch.zeros(2, 1, 9, 9, dtype=torch.uint8)
    image[0, 0, 5, 3] = 255
    image[1, 0, 2:4, 1:8] = 255
    assert ink_boxes(image).tolist() == [[3, 5, 4, 6], [1, 2, 8, 4]]


def test_distort_translated_draws_the_whole_digit_inside_its_box():
    images = digit_images()
    truth = distort(images, "translated", seed=0)
    assert (truth.images.flatten(1).long().sum(1) == images.flatten(1).long().sum(1)).all()
    inside = [
        truth.images[i, 0, int(y0) : int(y1), int(x0) : int(x1)].long().sum()
        for i, (x0, y0, x1, y1) in enumerate(truth.boxes)
    ]
    assert torch.stack(inside).tolist() == images.flatten(1).long().sum(1).tolist()


@pytest.mark.parametrize(
    ("kind", "pieces", "canvas"), [("cluttered", 6, 60), ("cluttered100", 8, 100), ("scene", 40, 256)]
)
def test_distort_clutter_only_adds_and_keeps_the_box(kind, pieces, canvas):
    images = digit_images()
    truth = distort(images, kind, seed=0)
    bare = distort(images, "translated", seed=0) if canvas == 60 else None
    assert truth.images.shape == (20, 1, canvas, canvas)
    ink = (truth.images > 0).flatten(1).sum(1) - (images > 0).flatten(1).sum(1)
    assert (ink > 0).all()
    assert (ink <= pieces * 8 * 8).all()
    if bare is not None:
        assert (truth.images >= bare.images).all()
        assert torch.equal(truth.boxes, bare.boxes)
    back = sample(truth.images.float(), grid_of(truth.theta, 28, 28))
    assert (back >= images.float() - 1).all()


def test_distort_noise_covers_the_whole_image():
    images = digit_images()
    noisy, bare = distort(images, "noise", seed=0), distort(images, "translated", seed=0)
    background = noisy.images[bare.images == 0].double()
    assert abs(background.mean() - 25.5 / (2 * torch.pi) ** 0.5) < 0.2  # half of a normal, the other half at black
    assert torch.equal(noisy.boxes, bare.boxes)


def test_distort_shifted_moves_a_digit_and_cuts_it():
    images = torch.zeros(400, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 13, 9] = 255  # row 13, column 9
    truth = distort(images, "shifted", seed=0)
    left = truth.images.flatten(1).amax(1) > 0
    place = truth.images[left].flatten(1).argmax(1)
    rows, columns = place // 28, place % 28
    assert (rows.min(), rows.max()) == (1, 25)
    assert (columns.min(), columns.max()) == (0, 21)  # from -3, where the pixel has left the canvas
    assert 0.04 < 1 - left.float().mean() < 0.2  # 3 of 25 moves
    moves = 14 * truth.theta[:, :, 2]
    assert (moves.min(), moves.max()) == (-12, 12)


def test_distort_cluttered84_adds_pieces_of_six_pixels():
    """A white source: each piece is a white square of 6x6, and the digit's frame is white."""
    images = torch.full((50, 1, 28, 28), 255, dtype=torch.uint8)
    drawn = distort(images, "cluttered84", seed=0)
    plain = warp(images, drawn.theta, 84)
    assert drawn.images.shape == (50, 1, 84, 84)
    added = (drawn.images > plain).flatten(1).sum(1)
    assert added.max() <= 16 * 36
    assert added.float().mean() > 0.7 * 16 * 36 * (1 - (28 / 84) ** 2)  # less what covers each other and the digit
    assert torch.equal(drawn.boxes, distort(images, "translated84", seed=0).boxes)


@pytest.mark.parametrize("kind", ["translated", "cluttered100", "scene"])
def test_warp_copies_digits_that_move_by_whole_pixels(kind):
    images = torch.randint(256, (40, 1, 28, 28), dtype=torch.uint8)
    draw, canvas = DISTORTIONS[kind].draw, DISTORTIONS[kind].canvas
    theta = draw(40, 28, canvas, torch.Generator().manual_seed(0))
    assert whole_corners(theta, 28, canvas) is not None
    sampled = sample(images.float(), grid_back(theta, canvas), padding=0.0).round().to(torch.uint8)
    assert torch.equal(warp(images, theta, canvas), sampled)


def test_whole_corners_of_an_image_that_is_cut_turned_or_between_pixels_are_none():
    theta = torch.tensor([[[0.5, 0.0, -0.25], [0.0, 0.5, 0.5]]])  # 28 of 56 pixels: column 7, row 28
    assert whole_corners(theta, 28, 56).tolist() == [[7, 28]]
    for row, column, value in [(0, 2, 0.51), (0, 2, 0.75), (1, 2, -0.75), (0, 1, 0.1), (0, 0, 0.6)]:
        other = theta.clone()
        other[0, row, column] = value
        assert whole_corners(other, 28, 56) is None
