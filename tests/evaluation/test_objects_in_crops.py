"""Objects that a hard crop shows whole."""

import pytest
import torch
from torch import nn

import foveal
from foveal.evaluation.objects_in_crops import whole_in_crops
from foveal.mechanisms.hard_crop import HardCrop


def corner_crops():
    """Crop the upper left and the lower right 16x16 of 32x32 pixels."""

    class Corners(nn.Module):
        def forward(self, image):
            scores = image.new_zeros(len(image), 4, 4)
            scores[:, 0, 0] = scores[:, 3, 3] = 1
            return scores

    crop = HardCrop(1, size=16, patches=2)
    crop.scorer = Corners()
    return crop


def test_whole_in_crops_needs_all_of_an_object_in_one_crop():
    """Boxes as large as a crop, within a crop, in both crops by halves, and half a pixel beyond one."""
    boxes = torch.tensor([[0, 0, 16, 16], [20, 18, 30, 32], [10, 10, 20, 20], [0, 0, 16.5, 10]])
    loader = zip(torch.rand(2, 2, 1, 32, 32), torch.zeros(2, 2).long(), boxes.split(2), strict=True)
    (found,) = whole_in_crops(corner_crops(), loader).values()
    assert found.tolist() == [True, True, False, False]


def test_whole_in_crops_refuses_a_model_without_hard_crop():
    model = foveal.create_model("small_cnn+stn", num_classes=2, in_chans=1)
    batch = torch.rand(1, 1, 32, 32), torch.tensor([0]), torch.tensor([[0.0, 0.0, 9.0, 9.0]])
    with pytest.raises(ValueError, match="has no crop of axes 'B K 2 3'"):
        whole_in_crops(model, [batch])
