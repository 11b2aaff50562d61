"""Scores of networks whose attention is known to look, and to be needed, or not."""

import pytest
import torch
from torch import nn

import foveal
from foveal.record import Facts, Tap

SIDE = 8
QUARTERS = ((0, 0), (0, 4), (4, 0), (4, 4))  # upper left corners, by class


class Mask(nn.Module):
    """Weighs bright positions 1 and others 0."""

    def __init__(self):
        super().__init__()
        self.tap = Tap(Facts(mechanism="mask", kind="mask", domain="spatial", axes="B H W", within=(0, 1)))

    def forward(self, x):
        return x * self.tap((x[:, 0] > 0.7).float())[:, None]


class Brightest(nn.Module):
    """Which quarter of an image is brightest, once attention has put out the rest."""

    def __init__(self):
        super().__init__()
        self.mask = Mask()

    def forward(self, x):
        x = self.mask(x)
        return torch.stack([x[:, 0, y : y + 4, x0 : x0 + 4].sum((1, 2)) for y, x0 in QUARTERS], dim=1)


def bright_squares(count: int = 80) -> list[tuple[torch.Tensor, ...]]:
    """A bright 2x2 square in one quarter; the first quarter is full of dim light that outweighs it, if let through."""
    labels = torch.arange(count) % 4
    images, boxes = torch.zeros(count, 1, SIDE, SIDE), torch.zeros(count, 4)
    images[:, :, :4, :4] = 0.6
    for index, label in enumerate(labels.tolist()):
        y, x = QUARTERS[label][0] + 1, QUARTERS[label][1] + 1
        images[index, 0, y : y + 2, x : x + 2] = 1
        boxes[index] = torch.tensor([x, y, x + 2, y + 2])
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    parts = (part[order].split(20) for part in (images, labels, boxes))
    return list(zip(*parts, strict=True))


def test_attention_that_looks_at_the_object_and_is_needed():
    found = foveal.score(Brightest(), bright_squares())
    assert (found.accuracy, found.images) == (1.0, 80)
    by_metric = {each.metric: each for each in found.located}
    assert {name: each.attention.mean for name, each in by_metric.items()} == {"pointing": 1, "energy": 1, "iou": 1}
    assert all(each.beats_both for each in found.located)
    lost = {each.instead: each.lost.mean for each in found.needed}
    assert lost["none"] == 0.75  # every image is said to be of the first class
    assert 0.45 < lost["another"] < 0.68  # 9/16: not of the first class, nor alike
    assert found.needed[0].where == "mask"


def test_attention_that_looks_nowhere_is_no_better_than_chance():
    torch.manual_seed(0)
    model = foveal.create_model("small_cnn+stn", num_classes=4, in_chans=1)
    found = foveal.score(model, bright_squares())
    assert not any(each.beats_both for each in found.located)
    assert {each.lost.mean for each in found.needed} == {0.0}
    assert "not better than chance" in str(found)


def test_the_threshold_is_chosen_on_other_images():
    """A mask of 0.6 at the object and 0.5 around it: only a threshold above 0.5 of its range finds the object."""

    class Soft(Brightest):
        def __init__(self):
            super().__init__()
            self.mask = SoftMask()

    class SoftMask(Mask):
        def forward(self, x):
            return x * self.tap(x[:, 0])[:, None]

    first = bright_squares()
    found = {each.metric: each.attention.mean for each in foveal.score(Soft(), first, first[:1]).located}
    assert found["iou"] == 1.0
    assert found["pointing"] == 1.0


def test_a_place_that_is_called_twice_is_replaced_at_each_call():
    class Twice(Brightest):
        def forward(self, x):
            return super().forward(self.mask(x))

    found = foveal.score(Twice(), bright_squares())
    assert [(each.where, each.instead) for each in found.needed] == [("mask", "another")]


def test_a_network_is_left_as_it_was():
    model = Brightest().train()
    foveal.score(model, bright_squares()[:1])
    assert model.training
    assert not model.mask.tap._forward_hooks


@pytest.mark.parametrize(
    ("model", "loader", "says"),
    [
        (nn.Flatten(), bright_squares()[:1], "no attention to watch"),
        (Brightest(), [], "gave no images"),
        (Brightest(), [(torch.rand(1, 1, 8, 8), torch.zeros(1).long(), torch.tensor([[2, 2, 9, 4]]))], "9.0, 4.0"),
    ],
)
def test_bad_input_is_one_line(model, loader, says):
    with pytest.raises(ValueError, match=says):
        foveal.score(model, loader)
