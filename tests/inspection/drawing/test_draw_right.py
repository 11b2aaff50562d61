"""Predictions of a drawing: one for each image, or refused in one line."""

import numpy as np
import pytest
import torch

import foveal
from foveal.core.record import Record

IMAGES = torch.rand(3, 1, 8, 8)
MASK = Record(
    mechanism="m", kind="mask", domain="spatial", axes="B H W", value_range=(0, 1), path="p", values=torch.rand(3, 4, 4)
)
LOGITS = torch.tensor([[0.0, 1.0], [2.0, 1.0], [0.0, 3.0]])


@pytest.mark.parametrize(
    ("predictions", "words"),
    [
        (["cat", "dog", "cat"], "cat, dog, cat"),
        (("0", "", "2"), "0, , 2"),
        (LOGITS.argmax(1), "1, 0, 1"),
        (LOGITS.argmax(1).tolist(), "1, 0, 1"),
        (LOGITS.argmax(1).numpy(), "1, 0, 1"),
        (np.array(["cat", "dog", "cat"]), "cat, dog, cat"),
        ([torch.tensor(1), np.int64(0), 1], "1, 0, 1"),
    ],
)
def test_predictions_that_are_one_for_each_image(predictions, words):
    assert foveal.draw([MASK], IMAGES, predictions).alt_text.endswith(f"; predicted: {words}")


def test_predictions_of_the_images_shown_alone():
    assert foveal.draw([MASK], IMAGES, ["a", "b", "c"], most=2).alt_text.endswith("; predicted: a, b")
    assert "predicted" not in foveal.draw([MASK], IMAGES).alt_text


@pytest.mark.parametrize(
    ("predictions", "error", "message"),
    [
        (["cat", "dog"], ValueError, r"predictions of shape \(2,\): one for each of 3 images is needed, its class"),
        (["cat"] * 4, ValueError, r"predictions of shape \(4,\)"),
        ([], ValueError, r"predictions of shape \(0,\)"),
        (LOGITS, ValueError, r"predictions of shape \(3, 2\)"),
        (torch.tensor(1), ValueError, r"predictions of shape \(\)"),
        (LOGITS[:, :1], ValueError, r"predictions of shape \(3, 1\)"),  # one logit for each image
        (LOGITS[:, 0], TypeError, "predictions: 0.0; a text or a class's number is needed for each image"),
        ("cat", TypeError, "predictions='cat': a list"),  # three letters, for three images
        (1, TypeError, "predictions=1: a list"),
        ([None] * 3, TypeError, "predictions: None; a text"),
    ],
)
def test_predictions_that_are_not_one_class_for_each_image(predictions, error, message):
    with pytest.raises(error, match=message) as raised:
        foveal.draw([MASK], IMAGES, predictions)
    assert "\n" not in str(raised.value)
