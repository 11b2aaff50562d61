"""Labels of images: one class, or any number of them."""

import torch

from foveal.data.labels import UNREAD, classes_in, count_by_class, encode, renumber, were_read
from foveal.data.load_data import load_data
from foveal.data.parts import InMemory, relabel

SEVERAL = [frozenset({"a", "c"}), frozenset(), frozenset({"b"}), frozenset({"a"})]
ROWS = [[1.0, 0, 1], [0, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_encode_gives_numbers_of_one_class_and_rows_of_several():
    assert encode(["b", "a"], "abc").tolist() == [1, 0]
    assert encode(["b", "a"], "abc").dtype == torch.int64
    assert encode(SEVERAL, "abc").tolist() == ROWS
    assert encode([frozenset()], "abc").tolist() == [[0, 0, 0]]
    assert classes_in(SEVERAL) == {"a", "b", "c"} == classes_in("cab")


def test_count_by_class_and_were_read_take_both_kinds():
    assert count_by_class(torch.tensor([0, 2, 2]), 4).tolist() == [1, 0, 2, 0]
    assert count_by_class(torch.tensor(ROWS), 3).tolist() == [2, 1, 1]
    assert were_read(torch.tensor([0, UNREAD, 1])).tolist() == [True, False, True]
    rows = torch.tensor(ROWS)
    rows[1] = UNREAD
    assert were_read(rows).tolist() == [True, False, True, True]


def test_renumber_moves_classes():
    assert renumber(torch.tensor([0, 1, 1]), torch.tensor([2, 0]), 4).tolist() == [2, 0, 0]
    moved = renumber(torch.tensor(ROWS), torch.tensor([3, 0, 1]), 5)
    assert moved.tolist() == [[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 1, 0]]


def test_relabel_gives_the_classes_of_a_network_to_images_of_several(tmp_path):
    digits = load_data("digits")
    part = InMemory(digits.train.images[:4], torch.tensor(ROWS), ["0", "1", "2", "3"])
    data = type(digits)("mine", ("a", "b", "c"), part, part, part, digits.preprocessing)
    assert data.multi_label
    assert not digits.multi_label
    assert data.absent("test") == []
    turned = relabel(data, ["c", "x", "b", "a"])
    assert turned.test.labels.tolist() == [[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert turned.absent("test") == ["x"]
    full = InMemory(part.images, torch.ones(4, 2), part.names)
    whole = type(digits)("mine", ("a", "b"), full, full, full, digits.preprocessing)
    assert whole.remarks["test part"] == "all images of a, b"
