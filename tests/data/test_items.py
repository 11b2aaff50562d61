"""Items of the caller's datasets: what is understood, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset

from foveal.data.items import as_label, as_uint8, read_item, read_labels, stated_classes

GREY = torch.arange(6, dtype=torch.uint8).reshape(1, 2, 3)


@pytest.mark.parametrize(
    "image",
    [
        GREY, GREY.numpy(), Image.fromarray(GREY[0].numpy()), GREY / 255, (GREY / 255).numpy(),
        (GREY / 255).double() + 1e-9, (GREY / 255).requires_grad_(),
    ],
    ids=["tensor", "array", "PIL", "float", "float array", "rounded", "gradient"],
)  # fmt: skip
def test_as_uint8_reads_one_image_in_every_form(image):
    found = as_uint8("", image)
    assert found.dtype == torch.uint8
    assert found.tolist() == GREY.tolist()


def test_as_uint8_puts_the_colours_of_a_pil_image_first():
    image = Image.new("RGB", (3, 2), (10, 20, 30))
    found = as_uint8("", image)
    assert found.shape == (3, 2, 3)
    assert found[:, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("RGBA", (3, 2)), "mode RGBA; L or RGB"),
        (torch.zeros(2, 3), r"shape \(2, 3\); \(C, H, W\)"),
        (np.zeros((28, 28, 3), np.uint8), r"shape \(28, 28, 3\); \(C, H, W\)"),
        (torch.zeros(1, 2, 3, dtype=torch.int64), "values of type int64"),
        (torch.full((1, 2, 3), -2.1), "values from -2.1 to -2.1; .* leave out a normalization"),
        (torch.full((1, 2, 3), 255.0), "values from 255 to 255"),
        (torch.full((1, 2, 3), float("nan")), "values from nan"),
        ("cat.png", "a str; a PIL image"),
        (np.array([["a"]]), "a ndarray; a PIL image"),
    ],
)
def test_as_uint8_refuses_other_images(image, message):
    with pytest.raises(ValueError, match=f"^data, image 3: .*{message}"):
        as_uint8("data, image 3", image)


@pytest.mark.parametrize("label", [7, np.int64(7), torch.tensor(7), torch.tensor([7]), np.array([7], np.uint8)])
def test_as_label_reads_whole_numbers(label):
    assert as_label("", label) == 7


@pytest.mark.parametrize("label", [-1, 1.0, torch.tensor(1.0), "7", True, None, torch.tensor([0, 1]), 2**70])
def test_as_label_refuses_others(label):
    with pytest.raises(ValueError, match=r"label .*; a whole number from 0 is needed"):
        as_label("data", label)


def test_read_item_names_the_item():
    for dataset, message in [
        ([{"image": GREY}], "image 0: the item is a dict; a pair"),
        ([(GREY, 0, "extra")], "image 0: the item is a tuple; a pair"),
        ([], "image 0: the dataset fails, IndexError"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_item("data", dataset, 0)


class Stating(list):
    """A dataset that states labels."""


@pytest.mark.parametrize("key", ["targets", "labels"])
@pytest.mark.parametrize("labels", [[1, 0, 2], np.array([[1], [0], [2]]), torch.tensor([1, 0, 2])])
def test_read_labels_takes_those_that_the_dataset_states(key, labels):
    dataset = Stating([None, None, None])  # whose items cannot be read
    setattr(dataset, key, labels)
    assert read_labels("data", dataset).tolist() == [1, 0, 2]
    assert read_labels("data", Subset(dataset, [2, 0])).tolist() == [2, 1]


def test_read_labels_reads_the_items_otherwise():
    assert read_labels("data", [(GREY, 2), (GREY, 0)]).tolist() == [2, 0]


def test_read_labels_refuses_another_number_of_labels():
    dataset = Stating([(GREY, 0)])
    dataset.labels = ["cat", "dog"]
    with pytest.raises(ValueError, match="1 items, and 2 labels"):
        read_labels("data", dataset)


def test_stated_classes_are_different_names():
    dataset = Stating()
    assert stated_classes("data", dataset) is None
    dataset.classes = ["cat", "dog"]
    assert stated_classes("data", Subset(dataset, [])) == ("cat", "dog")
    for wrong in (["cat", "cat"], 10, [0, 1], []):
        dataset.classes = wrong
        with pytest.raises(ValueError, match="a list of different names is needed"):
            stated_classes("data", dataset)
