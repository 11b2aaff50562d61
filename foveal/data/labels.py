"""Labels of images, in words and as tensors: one class for each image, or any number of classes.

    one class       its name             labels (N,) int64
    multi-label     a frozenset of names labels (N, K) float32, 1 for each class of the image, else 0

Axes: N images, K classes.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

Label = str | frozenset[str]
SEPARATOR = "|"  # between the names of several classes in one cell
UNREAD = -1  # label of an image that could not be read, or each number of it; its pixels say nothing


def classes_in(labels: Iterable[Label]) -> set[str]:
    """Return the names of all classes in some labels."""
    return {name for label in labels for name in ([label] if isinstance(label, str) else label)}


def encode(labels: Sequence[Label], classes: Sequence[str]) -> Tensor:
    """Convert labels of one kind, by the names of classes, to a tensor: (N,), or (N, K) of several classes."""
    numbers = {name: number for number, name in enumerate(classes)}
    if all(isinstance(label, str) for label in labels):
        return torch.tensor([numbers[str(label)] for label in labels], dtype=torch.int64)
    places = [(row, numbers[name]) for row, label in enumerate(labels) for name in label]
    encoded = torch.zeros(len(labels), len(classes))
    rows, columns = torch.tensor(places, dtype=torch.int64).reshape(-1, 2).unbind(1)
    encoded[rows, columns] = 1
    return encoded


def is_multi_label(labels: Tensor) -> bool:
    """Return True for labels (N, K), False for labels (N,)."""
    return labels.ndim == 2


def were_read(labels: Tensor) -> Tensor:
    """Return which images of a batch were read, by their labels: (B,) of bool."""
    return (labels != UNREAD).reshape(len(labels), -1).all(1)


def count_by_class(labels: Tensor, classes: int) -> Tensor:
    """Count the images of each class: (K,) int64. An image of several classes counts for each."""
    if is_multi_label(labels):
        return labels.sum(0).long()
    return labels.bincount(minlength=classes)


def renumber(labels: Tensor, index: Tensor, classes: int) -> Tensor:
    """Convert labels to other numbers of the classes: class k becomes class `index[k]` of so many."""
    if is_multi_label(labels):
        return torch.zeros(len(labels), classes).index_copy_(1, index, labels)
    return index[labels]
