"""Objects of images in every form that a loader may give them, and what is refused."""

import numpy as np
import pytest
import torch
from torchvision.tv_tensors import BoundingBoxes

from foveal.evaluation.objects import one_box_each, read_objects

IMAGES = torch.zeros(2, 3, 20, 30)
FIRST, SECOND = [1.0, 2, 10, 8], [20.0, 10, 30, 20]
BOXES = torch.tensor([FIRST, SECOND])
NONE = torch.zeros(0, 4)


def mask(box):
    x0, y0, x1, y1 = map(int, box)
    found = torch.zeros(20, 30, dtype=torch.bool)
    found[y0:y1, x0:x1] = True
    return found


TWO = torch.stack([mask(FIRST), mask(SECOND)])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (BOXES, [BOXES[:1], BOXES[1:]]),
        (BOXES.int(), [BOXES[:1], BOXES[1:]]),
        (torch.stack([BOXES, BOXES.flip(0)]), [BOXES, BOXES.flip(0)]),
        (torch.tensor([[FIRST, SECOND, [0] * 4], [[-1] * 4] * 3]), [BOXES, NONE]),
        ([BOXES, NONE], [BOXES, NONE]),
        ((BOXES.numpy(), []), [BOXES, NONE]),
        ([[FIRST, SECOND], [SECOND]], [BOXES, BOXES[1:]]),
        ([{"boxes": BOXES, "labels": torch.tensor([1, 2])}, {"boxes": NONE}], [BOXES, NONE]),
        ([{"boxes": BOXES[:1], "masks": TWO}, {"boxes": NONE, "masks": TWO[:0]}], [TWO, NONE]),
        ([{"boxes": BOXES, "masks": None}, {"boxes": NONE}], [BOXES, NONE]),
        (TWO, [TWO[:1], TWO[1:]]),
        (TWO.to(torch.uint8), [TWO[:1], TWO[1:]]),
        (torch.stack([mask(FIRST), mask(FIRST) & False]).float(), [TWO[:1], TWO[:0]]),
        (torch.stack([TWO, TWO & torch.tensor([1, 0], dtype=torch.bool)[:, None, None]]), [TWO, TWO[:1]]),
        ([TWO, TWO[:1].numpy()], [TWO, TWO[:1]]),
    ],
)
def test_read_objects_of_every_form(given, expected):
    found = read_objects(given, IMAGES)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("form", ["XYXY", "XYWH", "CXCYWH"])
def test_read_objects_of_torchvision_boxes_in_each_of_its_formats(form):
    given = {"XYXY": FIRST, "XYWH": [1.0, 2, 9, 6], "CXCYWH": [5.5, 5, 9, 6]}[form]
    boxes = BoundingBoxes([given], format=form, canvas_size=(20, 30))
    first, second = read_objects([{"boxes": boxes}, {"boxes": boxes}], IMAGES)
    assert first.tolist() == second.tolist() == [FIRST]
    with pytest.raises(ValueError, match="on a canvas of 9x8 pixels; the image has 30x20"):
        read_objects([BoundingBoxes([given], format=form, canvas_size=(8, 9))] * 2, IMAGES)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (torch.zeros(2), ValueError, r"shape \(2,\): \(2, 4\), \(2, N, 4\) or masks \(2, 20, 30\) are needed"),
        (torch.zeros(2, 5), ValueError, r"shape \(2, 5\)"),
        (torch.zeros(3, 4), ValueError, r"shape \(3, 4\)"),
        (torch.zeros(2, 3, 5), ValueError, r"shape \(2, 3, 5\)"),
        (torch.zeros(2, 30, 20), ValueError, r"shape \(2, 30, 20\)"),
        (torch.zeros(4, 2, 20, 30), ValueError, r"shape \(4, 2, 20, 30\)"),
        (BOXES.new_zeros(2, 4), ValueError, r"box \[0.0, 0.0, 0.0, 0.0\]: x0, y0, x1, y1 within an image of 30x20"),
        (BOXES + 5, ValueError, "within an image of 30x20 pixels"),
        (BOXES[:, [2, 3, 0, 1]], ValueError, "within an image"),
        (BOXES * float("nan"), ValueError, "within an image"),
        (torch.stack([BOXES, BOXES - 3]), ValueError, "within an image"),  # no padding: not all of -1
        (BOXES / 30, ValueError, "shares of the image as it seems; pixels are needed"),
        ([BOXES], ValueError, "a list of 1 for 2 images"),
        ([BOXES[0], BOXES[1]], ValueError, r"shape \(4,\) for an image: \(N, 4\), or masks \('N', 20, 30\)"),
        ([BOXES, torch.zeros(0, 5)], ValueError, r"shape \(0, 5\) for an image"),
        ([BOXES, ["a.jpg"]], ValueError, "a list of str"),
        (["a.jpg", "b.jpg"], TypeError, "a str for an image"),
        ("ab", TypeError, "str given"),
        ([{"labels": 1}, {}], ValueError, "a target with 'labels'; it needs 'boxes'"),
        (TWO * 3, ValueError, "masks of values 0 to 3; 0 and 1 are needed"),
        (TWO * 0.5, ValueError, "masks of values 0 to 0.5"),
        (BOXES * 1j, ValueError, "boxes of type torch.complex64"),
    ],
)
def test_read_objects_refuses(given, error, message):
    with pytest.raises(error, match=message) as refused:
        read_objects(given, IMAGES)
    assert "\n" not in str(refused.value)


def test_read_objects_refuses_what_may_be_boxes_or_masks():
    images = torch.zeros(2, 1, 5, 4)
    with pytest.raises(ValueError, match="may be masks too; give masks as bool, or boxes as a list"):
        read_objects(torch.ones(2, 5, 4), images)
    assert [len(each) for each in read_objects(torch.ones(2, 5, 4).bool(), images)] == [1, 1]


def test_one_box_each_refuses_several():
    assert one_box_each(BOXES, IMAGES).tolist() == [FIRST, SECOND]
    with pytest.raises(ValueError, match=r"boxes of shape \(2, 1, 4\): \(2, 4\) is needed"):
        one_box_each(BOXES[:, None], IMAGES)
    with pytest.raises(ValueError, match="boxes in a list"):
        one_box_each([BOXES, BOXES], IMAGES)


def test_boxes_of_numpy_are_not_changed():
    given = np.array([[FIRST], [SECOND]])
    read_objects([given[0], given[1]], IMAGES)
    assert given.tolist() == [[FIRST], [SECOND]]
