"""Data sets of Hugging Face, by the package datasets: those of the Hub by name, and folders of this machine.

A folder holds Parquet or Arrow files, images (as `imagefolder` reads them), or what `save_to_disk` wrote. One column
holds images and one the class: the column `label`, else the only one whose type is a class label. Rows are read from
files that are mapped into memory, and images are decoded when they are used; a row's name is its split and number.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveal.core.names import one_line
from foveal.data.encoded_images import EncodedImages
from foveal.data.image_files import File
from foveal.data.items import as_label
from foveal.data.parts import listed
from foveal.data.splits_by_name import NO_LABEL, NamedSplits

SAVED = ("dataset_dict.json", "state.json")  # of a folder that save_to_disk wrote


@dataclass(frozen=True)
class TableImages(EncodedImages):
    """A part whose images are in a column of a table, through timm's transform."""

    table: Any  # a Dataset whose rows hold only `column`, not decoded
    column: str
    rows: Sequence[int]
    names: Sequence[str]
    labels: Tensor
    transform: Any
    value_range: tuple[float, float] | None

    def file(self, index: int) -> File:
        stored = self.table[self.rows[index]][self.column]
        if stored is None:
            raise ValueError("no image in this row")
        return stored["bytes"] or Path(stored["path"])


def list_table(name: str) -> NamedSplits:
    """Open the splits of a data set and read their labels.

    Raises:
        ValueError: the package is not installed; a name or folder that it does not read; columns that are not plain.
    """
    place = f"data 'hfds/{name}'"
    if find_spec("datasets") is None:
        raise ValueError(f"{place} needs the package datasets: pip install 'foveal[data]'")
    import datasets

    try:
        tables = open_tables(name)
    except Exception as error:  # the package raises many kinds, those of its own and of others
        raise ValueError(f"{place}: {type(error).__name__}: {one_line(error):.300}") from error
    features = next(iter(tables.values())).features
    image, label = find_columns(place, features, datasets)
    read = {split: np.asarray(table[label][:], dtype=object) for split, table in tables.items()}
    classes, labels = as_classes(place, features[label], read)
    images = {
        split: table.select_columns([image]).cast_column(image, datasets.Image(decode=False))
        for split, table in tables.items()
    }

    def part(split: str, rows: np.ndarray, labels: Tensor, transform: Any, value_range: Any) -> TableImages:
        names = [f"{split}/{row}" for row in rows]
        return TableImages(images[split], image, rows.tolist(), names, labels, transform, value_range)

    return NamedSplits(place, classes, labels, part)


def open_tables(name: str) -> dict[str, Any]:
    """Open a data set, and return its tables by split."""
    import datasets

    if any(os.path.isfile(os.path.join(name, file)) for file in SAVED):
        opened = datasets.load_from_disk(name)
    else:
        opened = datasets.load_dataset(name)
    return dict(opened) if isinstance(opened, dict) else {str(opened.split or "all"): opened}


def find_columns(place: str, features: Mapping[str, Any], datasets: Any) -> tuple[str, str]:
    """Return the columns of images and of classes.

    Raises:
        ValueError: no such column, or several.
    """
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    classes = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    if "label" in features:
        classes = ["label"]
    for found, what in ((images, "images"), (classes, "classes")):
        if len(found) != 1:
            several = f"several columns of {what}, {listed(found)}" if found else f"no column of {what}"
            raise ValueError(
                f"{place}: {several}; one is needed, and its columns are {listed(features)}: name a function, "
                "package.module:function, that returns a Dataset of images and labels"
            )
    return images[0], classes[0]


def as_classes(place: str, kind: Any, read: Mapping[str, np.ndarray]) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Return the names of the classes, and the labels of each split: of names their numbers in alphabetical order."""
    names = getattr(kind, "names", None)
    every = [value for values in read.values() for value in values.tolist()]
    if names is None and all(isinstance(value, str) for value in every):
        found = sorted(set(every))
        numbers = {value: number for number, value in enumerate(found)}
        return tuple(found), {split: torch.tensor([numbers[value] for value in each]) for split, each in read.items()}
    labels = {split: torch.tensor([number_of(place, split, row, value) for row, value in enumerate(each.tolist())],
                                  dtype=torch.int64) for split, each in read.items()}  # fmt: skip
    most = max((int(each.max()) for each in labels.values() if len(each)), default=0)
    return tuple(names or map(str, range(most + 1))), labels


def number_of(place: str, split: str, row: int, value: Any) -> int:
    """Return a label as a number, `NO_LABEL` where there is none."""
    return NO_LABEL if value is None or value == NO_LABEL else as_label(f"{place}, {split}, row {row}", value)
