"""Every form of batches and labels gives the papers' analyses the same figures, or is refused in one line."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

import foveal
from foveal.core.record import Facts, Tap

LEVELS = torch.tensor([0.25, 0.75, 0.5, 1.0])
IMAGES = LEVELS.view(4, 1, 1, 1).expand(4, 1, 8, 8).clone()
LABELS = torch.tensor([0, 2, 0, 2])
NAMES = ["dark", "none", "bright"]
BOXES = torch.tensor([[0.0, 0, 4, 4], [2, 2, 6, 6], [4, 4, 8, 8], [0, 0, 8, 8]])


class Weights(nn.Module):
    """Gates, shares or transforms that are computed from the images; the answer is one logit, of a binary model."""

    def __init__(self, weigh, kind, axes):
        super().__init__()
        self.weigh = weigh
        facts = Facts(mechanism="test", kind=kind, domain="channel", axes=axes, value_range=(0, 1))
        self.tap, self.scale = Tap(facts), nn.Conv2d(1, 1, 1)

    def forward(self, x):
        self.tap(self.weigh(x))
        return self.scale(x).mean((1, 2, 3))


def model_of(weigh, kind, axes):
    return nn.Sequential(OrderedDict(place=Weights(weigh, kind, axes)))


GATES = model_of(lambda x: x.mean((2, 3)), "gate", "B C")
SHARES = model_of(lambda x: torch.stack([1 - x.mean((2, 3)), x.mean((2, 3))], 1), "selection", "B K C")
ZOOM = model_of(lambda x: torch.eye(2, 3)[None].expand(len(x), 2, 3) / 2, "transform", "B 2 3")


@pytest.mark.parametrize(
    "batch",
    [
        (IMAGES, LABELS),
        [IMAGES, LABELS[:, None].to(torch.uint8), BOXES],
        (IMAGES.numpy(), LABELS.numpy().astype("int16")),
        {"image": IMAGES, "label": LABELS},
        {"pixel_values": IMAGES.double().numpy(), "labels": nn.functional.one_hot(LABELS, 3).float()},
    ],
)
def test_excitation_by_class_of_every_form(batch):
    found = foveal.excitation_by_class(GATES, [batch], NAMES)
    assert found.counts.tolist() == [2, 0, 2]
    assert found.means["place"][[0, 2]].flatten().tolist() == pytest.approx([0.375, 0.875])
    assert found.deviations["place"][[0, 2]].flatten().tolist() == pytest.approx([0.125, 0.125])


def test_excitation_by_class_has_groups_of_its_own_whatever_the_model_answers():
    """The model has one output; three names are three groups, and one name is one group."""
    assert foveal.excitation_by_class(GATES, [(IMAGES, LABELS * 0)], ["all"]).means["place"].tolist() == [[0.625]]
    two = foveal.excitation_by_class(GATES, [(IMAGES, LABELS == 2)], ["dark", "bright"])
    assert two.means["place"].flatten().tolist() == pytest.approx([0.375, 0.875])


@pytest.mark.parametrize(
    ("labels", "names", "error", "message"),
    [
        (LABELS + 1, NAMES, ValueError, "labels from 1 to 3; 0 to 2 are possible, as classes has 3 names"),
        (LABELS - 1, NAMES, ValueError, "labels from -1 to 1"),
        (LABELS, ["all"], ValueError, "labels from 0 to 2; 0 alone is possible, as classes has 1 name$"),
        (LABELS.float(), NAMES, ValueError, "type float32; integers"),
        (LABELS.float() / 2, ["all"], ValueError, "type float32; integers"),
        (LABELS == 2, NAMES, ValueError, "type bool; integers"),
        (torch.full((4, 3), 1 / 3), NAMES, ValueError, "rows that are not one-hot"),
        (nn.functional.one_hot(LABELS, 4), NAMES, ValueError, r"labels of shape \(4, 4\)"),
        (LABELS[:3], NAMES, ValueError, "a batch of 4 images, 3 labels"),
        (LABELS.tolist(), NAMES, TypeError, "images and labels are needed"),
        (LABELS, [], ValueError, "classes: the list is empty"),
    ],
)
def test_excitation_by_class_refuses_labels_that_are_not_one_name(labels, names, error, message):
    with pytest.raises(error, match=message) as raised:
        foveal.excitation_by_class(GATES, [(IMAGES, labels)], names)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "images", [IMAGES, IMAGES.numpy(), [IMAGES], [(IMAGES, "anything")], [{"images": IMAGES.double().numpy()}]]
)
def test_selection_by_size_of_every_form(images):
    found = foveal.selection_by_size(SHARES, images, (1.0, 2.0))
    assert found.shares["place"].flatten().tolist() == pytest.approx([0.375, 0.625, 0.375, 0.625])


@pytest.mark.parametrize(
    "batch",
    [
        (IMAGES, LABELS, BOXES),
        (IMAGES.numpy(), None, BOXES.numpy().astype("int32")),
        {"image": IMAGES, "label": LABELS, "boxes": BOXES.double()},
    ],
)
def test_pose_before_and_after_of_every_form(batch):
    found = foveal.pose_before_and_after(ZOOM, [batch])
    assert found.before[:, 2].tolist() == pytest.approx([0.5, 0.5, 0.5, 1.0])
    assert found.after["place"][:, 2].tolist() == pytest.approx([1.0, 1.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("analyse", "error", "message"),
    [
        (lambda: foveal.selection_by_size(SHARES, IMAGES[0]), ValueError, r"images of shape \(1, 8, 8\)"),
        (lambda: foveal.selection_by_size(SHARES, ["cat"]), TypeError, "first element must be images"),
        (lambda: foveal.selection_by_size("resnet18", IMAGES), TypeError, "model: 'resnet18'; a torch.nn.Module"),
        (
            lambda: foveal.selection_by_size(SHARES, IMAGES.expand(4, 3, 8, 8)),
            ValueError,
            r"the model fails on images of shape \(4, 3, 8, 8\) and type float32",
        ),
        (
            lambda: foveal.excitation_by_class(GATES, [((IMAGES * 255).byte(), LABELS)], NAMES),
            ValueError,
            r"type uint8: ",
        ),
        (lambda: foveal.excitation_by_class(GATES, (IMAGES, LABELS), NAMES), TypeError, "a batch is a Tensor"),
        (
            lambda: foveal.pose_before_and_after(ZOOM, [(IMAGES, LABELS, BOXES[:3])]),
            ValueError,
            r"boxes of shape \(3, 4\): \(4, 4\)",
        ),
        (lambda: foveal.pose_before_and_after(ZOOM, [(IMAGES, LABELS, BOXES + 1)]), ValueError, "within an image"),
        (lambda: foveal.pose_before_and_after(ZOOM, [()]), ValueError, "must have three parts"),
    ],
)
def test_analyses_refuse_what_they_cannot_read(analyse, error, message):
    with pytest.raises(error, match=message) as raised:
        analyse()
    assert "\n" not in str(raised.value)


def test_images_of_another_shape_or_type_are_refused_by_score_too():
    for images in (torch.rand(4, 3, 8, 8), (IMAGES * 255).byte(), np.zeros((4, 1, 8, 8), "int64")):
        with pytest.raises(ValueError, match="the model fails on images of shape") as raised:
            foveal.score(GATES, [(images, LABELS // 2)])
        assert "\n" not in str(raised.value)
