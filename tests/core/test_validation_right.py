"""Labels, answers and batches: read exactly, or refused in one line. Expected values are written by hand."""

from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from foveal.core.answers import read_answers
from foveal.core.batches import parts_of, read_labels
from foveal.core.validation import as_model_input, iter_images, iter_labelled

CLASSES = [2, 0, 1]
INTEGERS = [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64]
ROWS = [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
Pair = namedtuple("Pair", "features logits")


@pytest.mark.parametrize("dtype", [*INTEGERS, torch.float16, torch.float32, torch.float64, torch.bool])
def test_one_hot_rows_of_any_type_are_read(dtype):
    assert read_labels(torch.tensor(ROWS).to(dtype), 3, "loader").tolist() == CLASSES


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_of_any_type_are_read(dtype):
    for labels in (torch.tensor(CLASSES).to(dtype), torch.tensor(CLASSES).to(dtype)[:, None]):
        found = read_labels(labels, 3, "loader")
        assert (found.tolist(), found.dtype) == (CLASSES, torch.int64)


def test_labels_of_a_binary_model():
    for labels in ([0, 1, 1], [0.0, 1.0, 1.0], [False, True, True]):
        assert read_labels(torch.tensor(labels), 1, "loader").tolist() == [0, 1, 1]
        assert read_labels(torch.tensor(labels)[:, None], 1, "loader").tolist() == [0, 1, 1]
    assert read_labels(torch.tensor([False, True]), 2, "loader").tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "outputs", "message"),
    [
        ([2, 0, 3], 3, "x: batch 4: labels from 0 to 3; 0 to 2 are possible, as the model has 3 outputs"),
        ([-1, 0, 2], 3, "labels from -1 to 2"),
        ([[2], [0], [3]], 3, "labels from 0 to 3"),
        ([0, 1, 2], 1, "labels from 0 to 2; 0 to 1 are possible, as the model has one output for two classes"),
        ([2.0, 0.0, 1.0], 3, r"labels of shape \(3,\) and type float32; integers \(B,\) from 0 to 2"),
        ([0.0, 1.0, 1.0], 3, "type float32"),
        ([0.0, 0.9, 1.0], 1, r"type float32; integers \(B,\) from 0 to 1 are needed"),
        ([0.0, float("nan"), 1.0], 1, "type float32"),
        ([True, False, True], 3, "type bool"),
        ([1j, 0, 1], 3, "type complex64"),
        ([[0.9, 0.05, 0.05]] * 3, 3, r"labels of shape \(3, 3\) and type float32, rows that are not one-hot"),
        ([[0.5, 0.5, 0.0]] * 3, 3, "rows that are not one-hot"),
        ([[float("nan"), 1.0, 0.0]] * 3, 3, "rows that are not one-hot"),
        ([[1, 1, 0]] * 3, 3, "rows that are not one-hot"),
        ([[0, 0, 0]] * 3, 3, "rows that are not one-hot"),
        ([[2, -1, 0]] * 3, 3, "rows that are not one-hot"),
        ([[0, 1]] * 3, 3, r"labels of shape \(3, 2\)"),
        ([[1, 0]] * 3, 1, r"labels of shape \(3, 2\)"),
        ([[[0]], [[1]], [[2]]], 3, r"labels of shape \(3, 1, 1\)"),
    ],
)
def test_labels_that_are_not_one_class_an_image(labels, outputs, message):
    with pytest.raises(ValueError, match=message) as error:
        read_labels(torch.tensor(labels), outputs, "x: batch 4")
    assert "\n" not in str(error.value)


Z = torch.tensor([[1.0, 2.0, 0.0], [3.0, -1.0, 2.0]])


@pytest.mark.parametrize(
    "out",
    [
        Z,
        {"logits": Z, "loss": torch.tensor(3.0)},
        OrderedDict(loss=None, logits=Z),
        SimpleNamespace(logits=Z),
        Pair(torch.zeros(2, 3), Z),
        (Z,),
        [Z, torch.zeros(2, 4, 5, 5)],
        (Z, torch.tensor(3.0), None),
    ],
)
def test_logits_are_found(out):
    answers = read_answers(out, 2)
    assert answers.classes().tolist() == [1, 0]
    assert answers.logits_of(torch.tensor([2, 2])).tolist() == [0.0, 2.0]
    e = np.exp
    expected = [1 / (e(1) + e(2) + 1), e(2) / (e(3) + e(-1) + e(2))]
    assert answers.probabilities_of(torch.tensor([2, 2])).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(3, 1), (3,)])
def test_one_logit_is_two_classes(shape):
    answers = read_answers(torch.tensor([-2.0, 0.0, 3.0]).view(shape), 3)
    assert (answers.classes().tolist(), answers.outputs) == ([0, 0, 1], 1)
    assert answers.logits_of(torch.tensor([0, 1, 0])).tolist() == [2.0, 0.0, -3.0]
    sure = 1 / (1 + np.exp(-2))
    assert answers.probabilities_of(torch.tensor([0, 1, 1])).tolist() == pytest.approx(
        [sure, 0.5, 1 / (1 + np.exp(-3))]
    )


def test_the_answer_for_one_image_may_lack_its_dimension():
    assert read_answers(torch.tensor(4.0), 1).classes().tolist() == [1]
    assert read_answers(torch.tensor([4.0, 5.0, 1.0]), 1).classes().tolist() == [1]


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (
            torch.zeros(2, 3, 1, 1),
            r"it answers \(2, 3, 1, 1\), not logits \(B, K\), or \(B,\) of two classes, of 2 images",
        ),
        (torch.zeros(3, 2), r"it answers \(3, 2\)"),
        (torch.zeros(2, 0), r"it answers \(2, 0\)"),
        (torch.tensor([1, 0]), r"it answers \(2,\) of int64"),
        (torch.tensor(3.0), r"it answers \(\)"),
        ({"out": Z}, r"it answers a dict with 'out': \(2, 3\)"),
        ((Z, Z), r"it answers a tuple of \(2, 3\), \(2, 3\)"),
        ((Z, torch.zeros(2, 512)), r"it answers a tuple of \(2, 3\), \(2, 512\)"),
        ((torch.tensor(0.3), Z), r"it answers a tuple of \(\), \(2, 3\)"),
        ([], "it answers a list of nothing"),
        (None, "it answers a NoneType"),
        (torch.tensor([[0.0, 1.0], [float("nan"), 0.0]]), "answer for image 1 of a batch of 2 is not finite: nan, 0"),
        (torch.tensor([0.0, -float("inf")]), "answer for image 1 of a batch of 2 is not finite: -inf"),
    ],
)
def test_answers_that_are_not_logits(out, message):
    with pytest.raises(ValueError, match=message) as error:
        read_answers(out, 2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("end", [lambda z: z.sigmoid(), lambda z: z.softmax(1), lambda z: z.sigmoid()[:, 0].squeeze()])
def test_probabilities_are_no_logits(end):
    z = torch.randn(2, 3, requires_grad=True)
    with pytest.raises(ValueError, match="it ends with a sigmoid or softmax"):
        read_answers(end(z), 2)
    assert read_answers(z.sigmoid() * 4, 2).outputs == 3
    assert read_answers(z.log_softmax(1), 2).outputs == 3


IMAGES, LABELS = torch.rand(3, 1, 4, 4), torch.tensor(CLASSES)


@pytest.mark.parametrize(
    "batch",
    [
        (IMAGES, LABELS),
        {"image": IMAGES, "label": LABELS},
        {"labels": LABELS, "images": IMAGES},
        OrderedDict(pixel_values=IMAGES, labels=LABELS, name=["a", "b", "c"]),
        (IMAGES.numpy(), LABELS.numpy()),
        [IMAGES.double().numpy(), LABELS.numpy().astype("uint16")[:, None]],
        {"image": IMAGES.numpy()[:, :, ::-1][:, :, ::-1], "label": np.eye(3)[CLASSES]},
    ],
)
def test_batches_with_labels(batch):
    ((images, labels),) = iter_labelled([batch], nn.Conv2d(1, 1, 1), 3)
    assert (labels.tolist(), images.dtype) == (CLASSES, torch.float32)
    torch.testing.assert_close(images, IMAGES)
    ((images),) = iter_images([batch], nn.Conv2d(1, 1, 1))
    torch.testing.assert_close(images, IMAGES)


def test_boxes_are_kept():
    boxes = torch.arange(12.0).view(3, 4)
    for batch in ((IMAGES, LABELS, boxes, "more"), {"image": IMAGES, "label": LABELS, "boxes": boxes.numpy()}):
        assert torch.equal(next(iter_labelled([batch], nn.Flatten(), 3))[2], boxes)


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (
            {"foo": IMAGES},
            TypeError,
            "a batch is a dict with 'foo'; images need the key 'images', 'image' or 'pixel_val",
        ),
        ({}, TypeError, "a dict with no keys"),
        ({"image": IMAGES, "images": IMAGES}, TypeError, "give images by one key, 'images' or 'image'"),
        ({"image": IMAGES}, TypeError, "a batch is a dict; images and labels are needed"),
        ({"image": IMAGES, "label": None}, TypeError, "a batch is a dict; images and labels are needed"),
        ((IMAGES, np.array(["a", "b", "c"])), TypeError, "a batch is a tuple of Tensor, ndarray"),
        ((IMAGES, torch.tensor(1)), ValueError, r"a batch of 3 images, a scalar for labels \(batch 1\)"),
        ((IMAGES, LABELS[:2]), ValueError, r"a batch of 3 images, 2 labels \(batch 1\)"),
        ((IMAGES[0], LABELS[:1]), ValueError, r"batch 1: images of shape \(1, 4, 4\)"),
        ((IMAGES[:0], LABELS[:0]), ValueError, r"batch 1: images of shape \(0, 1, 4, 4\)"),
        ((IMAGES, LABELS + 1), ValueError, "loader: batch 1: labels from 1 to 3"),
    ],
)
def test_batches_that_are_refused(batch, error, message):
    with pytest.raises(error, match=message):
        list(iter_labelled([(IMAGES, LABELS), batch], nn.Flatten(), 3))


def test_an_array_is_no_loader():
    with pytest.raises(TypeError, match="loader: ndarray given; batches are needed"):
        list(iter_images(IMAGES.numpy(), nn.Flatten()))
    assert parts_of(IMAGES, "loader") == [IMAGES]


def test_images_for_a_model():
    for images in (IMAGES, IMAGES.numpy(), list(IMAGES), tuple(IMAGES.numpy())):
        assert torch.equal(as_model_input(images), IMAGES)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (Image.new("RGB", (4, 4)), TypeError, "images: Image given; normalize them"),
        ([Image.new("RGB", (4, 4))], TypeError, "images: list of Image given"),
        ((IMAGES * 255).byte(), TypeError, "images of type uint8: normalize them as the model expects"),
        ([(each * 255).byte().numpy() for each in IMAGES], TypeError, "images of type uint8"),
        (IMAGES.long(), TypeError, "images of type int64"),
        ([], TypeError, "images: list of nothing given"),
        ("cat.png", TypeError, "images: str given"),
        (IMAGES[0], ValueError, r"images of shape \(1, 4, 4\): .* images\[None\] makes a batch of one image"),
        ([IMAGES[0], IMAGES[0, :, 1:]], ValueError, r"images of several shapes, \(1, 4, 4\) and \(1, 3, 4\)"),
    ],
)
def test_images_that_no_model_can_be_given(images, error, message):
    with pytest.raises(error, match=message):
        as_model_input(images)
