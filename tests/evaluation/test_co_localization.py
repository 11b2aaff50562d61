"""Overlap of the region that a transformer shows with the object's box."""

import pytest
import torch
from torch import nn

import foveal
from foveal.data.distortions import distort
from foveal.evaluation.co_localization import Localization, localization_of_objects, shown_boxes
from foveal.mechanisms.spatial_transformer import SpatialTransformer


def fixed_crop(side, corner, canvas):
    """Transformer that shows a square of `side` pixels with its upper left corner at x, y, of a square image."""
    scale = side / canvas
    x, y = ((2 * start + side) / canvas - 1 for start in corner)

    class Constant(nn.Module):
        def forward(self, image):
            return image.new_tensor([scale, 0, x, 0, scale, y]).expand(len(image), 6)

    return SpatialTransformer(1, side, localisation=Constant())


def test_shown_boxes_are_in_pixels():
    theta = torch.tensor([[[0.5, 0.0, -0.5], [0.0, 0.25, 0.0]]])
    assert shown_boxes(theta, 40, 20).tolist() == [[0, 15, 10, 25]]


def test_shown_boxes_surround_a_rotated_region():
    turned = torch.tensor([[[0.0, -0.5, 0.0], [0.25, 0.0, 0.0]]])  # by a right angle
    torch.testing.assert_close(shown_boxes(turned, 40, 40), torch.tensor([[10.0, 15.0, 30.0, 25.0]]))


def test_shown_boxes_of_a_translated_digit_are_its_frame():
    digits = torch.zeros(30, 1, 28, 28, dtype=torch.uint8)
    digits[:, :, 0, 0] = digits[:, :, -1, -1] = 255  # two opposite corners of the frame
    truth = distort(digits, "translated", seed=0)
    torch.testing.assert_close(shown_boxes(truth.theta, 60, 60), truth.boxes)


def test_localization_of_objects_is_intersection_over_union():
    """A square of 10 pixels against itself, itself 5 pixels to the right, a half of it, and one far away."""
    boxes = torch.tensor([[10, 10, 20, 20], [15, 10, 25, 20], [10, 10, 20, 15], [0, 0, 5, 5]]).float()
    loader = zip(torch.rand(2, 2, 1, 40, 40), torch.tensor([[3, 4], [3, 4]]), boxes.split(2), strict=True)
    (found,) = localization_of_objects(fixed_crop(10, (10, 10), 40), loader).values()
    torch.testing.assert_close(found.ious, torch.tensor([1, 1 / 3, 0.5, 0]))
    assert found.labels.tolist() == [3, 4, 3, 4]
    assert found.share() == 0.25
    assert found.share(0.4) == 0.5
    assert found.share_by_class(0.4) == {3: 1.0, 4: 0.0}


def test_localization_is_a_share_above_the_threshold():
    found = Localization(torch.tensor([0.5, 0.51]), torch.tensor([0, 0]))
    assert found.share() == 0.5


def test_localization_of_objects_refuses_a_model_without_transformer():
    model = foveal.create_model("small_cnn+se", num_classes=2, in_chans=1)
    batch = torch.rand(2, 1, 32, 32), torch.zeros(2), torch.tensor([[0.0, 0, 4, 4]] * 2)
    with pytest.raises(ValueError, match="SmallCNN has no transform of axes"):
        localization_of_objects(model, [batch])
