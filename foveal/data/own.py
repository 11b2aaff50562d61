"""Data of the caller: a function, called without arguments, that returns one map-style Dataset or three.

Three are used as the training, validation and test part; one is split 70/15/15, stratified. See `foveal.data.items` for
the images and labels. All images have one size. Images are read each time that they are used, so that a dataset may
augment its training images at random. Labels and class names are the dataset's `targets` or `labels` and its `classes`,
where it has them; otherwise those of the items, read once, and the numbers from 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from foveal.core.functions import Function, name_of
from foveal.core.names import one_line
from foveal.data.digits import mean_and_std_of
from foveal.data.items import read_item, read_labels, stated_classes
from foveal.data.parts import PARTS, Data, listed
from foveal.data.preprocessing import Preprocessing
from foveal.data.splits import FRACTIONS, stratified

MEASURED = 2000  # training images at most, evenly spaced, for mean and standard deviation


@dataclass(frozen=True)
class Items:
    """A part whose images are items of the caller's dataset."""

    place: str  # for messages
    dataset: Any
    indices: Sequence[int]
    stated: Tensor  # (N,) int64: labels of the dataset
    labels: Tensor  # (N,) int64: labels that are returned
    shape: tuple[int, int, int]  # C, H, W

    @property
    def names(self) -> list[str]:
        return [str(index) for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        return torch.stack([self.image(index) for index in indices]), self.labels[torch.as_tensor(indices)]

    def image(self, index: int) -> Tensor:
        """Read an image (C, H, W) uint8; ValueError for another shape or label than is known."""
        source = self.indices[index]
        image, label = read_item(self.place, self.dataset, source)
        if image.shape != self.shape:
            raise ValueError(
                f"{self.place}, image {source}: shape {tuple(image.shape)}, and others have {self.shape}; all need one"
            )
        if label != self.stated[index]:
            raise ValueError(
                f"{self.place}, image {source}: label {label}, and the dataset states {int(self.stated[index])} for it"
            )
        return image


def load_own(function: Function, seed: int = 0) -> Data:
    """Call a function and load the data that it returns; a single dataset is split from the seed.

    Raises:
        ValueError: the function fails; another object than one map-style Dataset or three; images or labels that are
            not understood; fewer than two classes; a class without a training image; an empty part.
    """
    name = name_of(function)
    try:
        returned = function()
    except Exception as error:  # any exception: it is the caller's function
        raise ValueError(f"data {name!r}: the function fails, {type(error).__name__}: {one_line(error)}") from error
    sources = sources_of(f"data {name!r}", returned)
    labels = [read_labels(*each) for each in sources]
    classes = classes_of(f"data {name!r}", [stated_classes(*each) for each in sources], labels)
    channels, height, width = read_item(*sources[0], 0)[0].shape
    chosen: list[Any] = [np.arange(len(each)) for each in labels]
    if len(sources) == 1:
        chosen = stratified(labels[0].tolist(), FRACTIONS, seed)
        sources, labels = sources * len(PARTS), labels * len(PARTS)
    train, validation, test = (
        Items(*source, index.tolist(), own[index], own[index], (channels, height, width))
        for source, index, own in zip(sources, chosen, labels, strict=True)
    )
    check_parts(f"data {name!r}", classes, {"train": train, "validation": validation, "test": test})
    mean, std = zip(*map(mean_and_std_of, count_levels(train)), strict=True)
    preprocessing = Preprocessing((channels, height, width), mean, std)
    return Data(name, classes, train, validation, test, preprocessing)


def sources_of(place: str, returned: Any) -> list[tuple[str, Any]]:
    """Return the datasets that a function returned, one or three, each after its words for messages.

    Raises:
        ValueError: another number of them, one that is no map-style dataset, or an empty one.
    """
    several = isinstance(returned, tuple) or (
        isinstance(returned, list) and any(isinstance(each, Dataset) for each in returned)
    )
    if several and len(returned) != len(PARTS):
        raise ValueError(f"{place}: {len(returned)} objects; one Dataset is needed, or three: {', '.join(PARTS)}")
    sources = [(f"{place}, {part}", each) for part, each in zip(PARTS, returned, strict=True)] if several else []
    sources = sources or [(place, returned)]
    for part, each in sources:
        read = all(hasattr(each, method) for method in ("__len__", "__getitem__"))
        if not read or isinstance(each, IterableDataset | Mapping | str | Tensor | np.ndarray):
            raise ValueError(
                f"{part}: a {type(each).__name__}; a map-style Dataset, with __len__ and __getitem__, is needed"
            )
        if not len(each):
            raise ValueError(f"{part}: no image in it")
    return sources


def classes_of(place: str, stated: Sequence[tuple[str, ...] | None], labels: Sequence[Tensor]) -> tuple[str, ...]:
    """Return the class names that the datasets state, else the numbers from 0 to the largest label.

    Raises:
        ValueError: datasets that state other names; a label beyond the names; a number without any image; one class.
    """
    names = next((each for each in stated if each is not None), None)
    other = next((each for each in stated if each not in (None, names)), None)
    if names and other:
        raise ValueError(f"{place}: one part has the classes {listed(names)}, another one {listed(other)}")
    numbers = torch.cat(list(labels)).unique()
    count = len(names) if names else len(numbers)
    beyond = next((each for each in numbers.tolist() if each >= count), None)
    if beyond is not None and names:
        raise ValueError(f"{place}: label {beyond}, and there are {count} classes: {listed(names)}")
    if beyond is not None:
        lacking = next(number for number in range(count) if number not in numbers)
        raise ValueError(f"{place}: labels to {numbers.max()}, and no image of {lacking}; number the classes from 0")
    if len(numbers) < 2:
        raise ValueError(f"{place}: one class alone, {numbers.tolist()}; two or more are needed")
    return names or tuple(map(str, range(count)))


def check_parts(place: str, classes: Sequence[str], parts: Mapping[str, Items]) -> None:
    """Refuse an empty part, and a class that is in other parts and not in the training part."""
    empty = next((part for part, items in parts.items() if not len(items)), None)
    if empty is not None:
        raise ValueError(f"{place}: no image in the part {empty}; more images are needed")
    learned = set(parts["train"].labels.tolist())
    strange = sorted({label for items in parts.values() for label in items.labels.tolist()} - learned)
    if strange:
        raise ValueError(f"{place}: no training image of {listed(classes[label] for label in strange)}")


def count_levels(part: Items) -> Tensor:
    """Count the pixels at each level of each channel, (C, 256), over evenly spaced images."""
    count = min(len(part), MEASURED)
    counts = torch.zeros(part.shape[0], 256, dtype=torch.int64)
    for index in np.linspace(0, len(part) - 1, count).round().astype(int).tolist():
        image = part.image(index)
        counts += torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in image])
    return counts
