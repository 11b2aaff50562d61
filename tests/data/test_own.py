"""Data of the caller's function: parts, labels, statistics; what is refused."""

import pytest
import torch
from own_functions import Halves, halves
from torch.utils.data import IterableDataset, TensorDataset

import foveal
from foveal.data.own import load_own


def pairs(*labels, value=0):
    """A dataset of one-pixel-high images with these labels."""
    return [(torch.full((1, 1, 2), value, dtype=torch.uint8), label) for label in labels]


def returning(value):
    def data():
        return value

    return data


def test_load_own_splits_one_dataset_in_proportion():
    data = load_own(halves)
    assert data.name == "own_functions:halves"
    assert data.classes == ("left", "right")
    assert data.shape == (1, 12, 12)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [56, 12, 12]
    assert sorted(int(name) for names in data.split.values() for name in names) == list(range(80))
    assert data.train.labels.sum() == 28
    images, labels = data.test.__getitems__([0, 3])
    assert labels.tolist() == [int(data.test.names[index]) % 2 for index in (0, 3)]
    source = Halves()[int(data.test.names[3])][0]
    assert torch.equal(images[1], (255 * source).round().to(torch.uint8))


def test_load_own_takes_three_datasets_as_they_are():
    data = load_own(returning((pairs(0, 1, 2), pairs(2, 1), pairs(0))))
    assert data.classes == ("0", "1", "2")
    assert data.split == {"train": ["0", "1", "2"], "validation": ["0", "1"], "test": ["0"]}
    assert data.validation.labels.tolist() == [2, 1]
    listed = load_own(returning([TensorDataset(torch.zeros(2, 1, 3, 3), torch.tensor([0, 1])) for _ in range(3)]))
    assert len(listed.test) == 2


def test_load_own_measures_the_training_images():
    """Half the pixels are 0 and half 255: mean 1/2; the deviation of n such values is 1/2 sqrt(n / (n - 1))."""
    black, white = pairs(0, 1), pairs(0, 1, value=255)
    data = load_own(returning((black + white, pairs(0, 1, value=9), pairs(0, 1, value=9))))
    assert data.preprocessing.mean == pytest.approx((0.5,))
    assert data.preprocessing.std == pytest.approx((0.5 * (8 / 7) ** 0.5,))


class Stream(IterableDataset):
    """A dataset without a length."""

    def __iter__(self):
        yield from pairs(0, 1)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (Stream(), "a Stream; a map-style Dataset"),
        (None, "a NoneType; a map-style Dataset"),
        ({"train": pairs(0, 1)}, "a dict; a map-style Dataset"),
        (torch.zeros(4, 1, 8, 8), "a Tensor; a map-style Dataset"),
        ((pairs(0, 1), pairs(0, 1)), "2 objects; one Dataset is needed, or three"),
        ((pairs(0, 1), [], pairs(0, 1)), "validation: no image in it"),
        (pairs(0, 1), "no image in the part"),
        (pairs(*[0] * 9), r"one class alone, \[0\]"),
        (pairs(*[1, 2] * 9), "labels to 2, and no image of 0; number the classes from 0"),
        ((pairs(0, 1), pairs(0, 1), pairs(0, 1, 2)), "no training image of 2"),
        (pairs(*[0, 0.5] * 9), "image 1: label 0.5; a whole number"),
        ((pairs(0, 1), pairs(0, -1), pairs(0, 1)), "validation, image 1: label -1"),
    ],
)
def test_load_own_refuses_in_one_line(returned, message):
    with pytest.raises(ValueError, match=f"^data '.*:data'.*{message}"):
        load_own(returning(returned))


def test_load_own_refuses_labels_beyond_the_classes_and_classes_that_differ():
    data = Halves()
    data.targets[5] = 2
    with pytest.raises(ValueError, match="label 2, and there are 2 classes: left, right"):
        load_own(returning(data))
    other = Halves()
    other.classes = ("right", "left")
    with pytest.raises(ValueError, match="one part has the classes left, right, another one right, left"):
        load_own(returning((Halves(), Halves(), other)))


def test_load_own_refuses_other_sizes_and_labels_when_an_image_is_read():
    odd = pairs(0, 1)
    odd[1] = (torch.zeros(1, 2, 2), 1)
    data = load_own(returning((pairs(0, 1), pairs(0, 1), odd)))
    with pytest.raises(ValueError, match=r"test, image 1: shape \(1, 2, 2\), and others have \(1, 1, 2\)"):
        data.test.__getitems__([1])
    wrong = Halves()
    wrong.targets = [0, 1] * 40
    data = load_own(returning(wrong))
    wrong.targets = [1, 0] * 40
    with pytest.raises(ValueError, match=r"label 1, and the dataset states 0 for it|label 0, and the dataset states 1"):
        data.test.__getitems__([1])


def test_load_own_names_a_function_that_fails():
    def data():
        raise KeyError("path")

    with pytest.raises(ValueError, match=r"data '.*:data': the function fails, KeyError: 'path'"):
        load_own(data)


def test_load_data_takes_a_function_or_its_name():
    assert foveal.load_data(halves).split == foveal.load_data("own_functions:halves").split
    with pytest.raises(ValueError, match=r"groups='g\.csv': 'own_functions:halves' is no data of image files"):
        foveal.load_data(halves, groups="g.csv")
