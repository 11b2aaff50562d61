"""Images whose object is in the centre."""

import pytest
import torch
from torch import nn

from foveal.evaluation.central_objects import iter_central

IMAGES = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 8, 16)
BOXES = torch.tensor([[4.0, 2, 12, 6], [3, 2, 12, 6], [5, 3, 6, 7], [0, 0, 16, 8]])  # the crop of 2 is 4 2 12 6
LABELS = torch.zeros(4).long()


@pytest.mark.parametrize(("scale", "kept"), [(1.0, [0, 1, 2, 3]), (4 / 3, [0, 1, 2]), (1.6, [0, 1]), (2.0, [0])])
def test_iter_central_keeps_objects_within_the_crop(scale, kept):
    loader = [(IMAGES[:2], LABELS[:2], BOXES[:2]), (IMAGES[2:], LABELS[2:], BOXES[2:])]
    found = torch.cat(list(iter_central(loader, nn.Flatten(), scale)))
    assert found[:, 0, 0, 0].tolist() == kept


def mask(x0, y0, x1, y1):
    found = torch.zeros(8, 16, dtype=torch.bool)
    found[y0:y1, x0:x1] = True
    return found


@pytest.mark.parametrize(
    ("objects", "kept"),
    [
        (torch.stack([mask(*row) for row in BOXES.long().tolist()]), [0]),
        ([BOXES[:1], BOXES[:2], torch.zeros(0, 4), BOXES[[0, 0]]], [0, 3]),  # no object is not a central one
    ],
)
def test_iter_central_reads_masks_and_several_objects(objects, kept):
    found = torch.cat(list(iter_central([(IMAGES, LABELS, objects)], nn.Flatten(), 2.0)))
    assert found[:, 0, 0, 0].tolist() == kept


def test_iter_central_refuses_a_loader_without_central_objects_or_boxes():
    with pytest.raises(ValueError, match="no image has its objects whole in the centre, enlarged 2 times"):
        list(iter_central([(IMAGES[1:], LABELS[1:], BOXES[1:])], nn.Flatten(), 2.0))
    with pytest.raises(ValueError, match="batch 0 must have three parts: images, labels and objects"):
        list(iter_central([(IMAGES, LABELS)], nn.Flatten(), 2.0))
