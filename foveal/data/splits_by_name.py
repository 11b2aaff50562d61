"""Parts of a data set that comes in named splits: those of WebDataset shards, and of Hugging Face.

Splits named train, validation and test (or training, val, valid, testing) are used as they are. Of a training split and
one other, the other is the test part, and a sixth of the training split validates, as for published data of folders. A
single split is split 70/15/15. A split without labels is left out.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveal.core.progress import report_progress
from foveal.data.encoded_images import EncodedImages
from foveal.data.layouts import PARTS as SPELLED
from foveal.data.own import check_parts
from foveal.data.parts import PARTS, Data, listed
from foveal.data.preprocessing import Preprocessing
from foveal.data.splits import FRACTIONS, OFFICIAL, OFFICIAL_SEED, stratified
from foveal.profiling.environment import cores

NO_LABEL = -1  # as Hugging Face marks images that were published without
MakePart = Callable[[str, np.ndarray, Tensor, Any, Any], EncodedImages]  # split, rows, labels, transform, value range
Rows = dict[str, tuple[str, np.ndarray]]  # part to split and rows of it


@dataclass(frozen=True)
class NamedSplits:
    """The splits of a data set before they become parts.

    `skipped` and `notes` are as for `Data`.
    """

    place: str  # for messages
    classes: tuple[str, ...]
    labels: Mapping[str, Tensor]  # split to (N,) int64
    make_part: MakePart
    skipped: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def load_splits(name: str, splits: NamedSplits, preprocessing: Preprocessing, seed: int, whole: bool) -> Data:
    """Load a data set from its splits; with `whole`, every image is decoded to find those that are broken.

    Raises:
        ValueError: splits of which none is for training; fewer than two classes; an empty part; a class without a
            training image; an image without a label among others.
    """
    splits = without_unlabelled(splits)
    kept = {split: np.arange(len(labels)) for split, labels in splits.labels.items()}
    if whole:
        broken = find_broken(splits, preprocessing)
        kept = {split: rows[[row not in broken[split] for row in rows]] for split, rows in kept.items()}
        splits.skipped.update({name: reason for each in broken.values() for name, reason in each.values()})
    if not any(map(len, kept.values())):
        why = listed((f"{name}: {reason}" for name, reason in splits.skipped.items()), 3)
        raise ValueError(f"{splits.place}: no image that can be read; left out: {why}")
    chosen = divide(splits, kept, seed)

    def part(part: str) -> Any:
        split, rows = chosen[part]
        transform = preprocessing.transform(training=part == "train")
        return splits.make_part(split, rows, splits.labels[split][rows], transform, preprocessing.value_range)

    train, validation, test = map(part, PARTS)
    present = torch.cat([each.labels for each in (train, validation, test)]).unique()
    if len(present) < 2:
        only = f"one class alone, {splits.classes[int(present[0])]!r}" if len(present) else "no image in it"
        raise ValueError(f"{splits.place}: {only}; two classes or more are needed")
    check_parts(splits.place, splits.classes, {"train": train, "validation": validation, "test": test})
    return Data(name, splits.classes, train, validation, test, preprocessing, splits.skipped, splits.notes)


def without_unlabelled(splits: NamedSplits) -> NamedSplits:
    """Leave out the splits that were published without labels."""
    bare = {split for split, labels in splits.labels.items() if len(labels) and bool((labels == NO_LABEL).all())}
    skipped = {split: f"published without labels: {len(splits.labels[split]):,} images" for split in bare}
    left = {split: labels for split, labels in splits.labels.items() if split not in bare and len(labels)}
    for split, labels in left.items():
        if bool((labels < 0).any()):
            raise ValueError(f"{splits.place}, {split}: row {int((labels < 0).nonzero()[0])} has no label")
    return replace(splits, labels=left, skipped=splits.skipped | skipped)


def divide(splits: NamedSplits, kept: Mapping[str, np.ndarray], seed: int) -> Rows:
    """Return the rows of each part, and note how they were found where this is not plain.

    Raises:
        ValueError: several splits, and none for training.
    """
    named = {part: next((each for each in kept if each.lower() in SPELLED[part]), None) for part in PARTS}
    found = {part: split for part, split in named.items() if split is not None}
    if len(kept) == 1:
        found = {"train": next(iter(kept))}
    if "train" not in found:
        raise ValueError(f"{splits.place}: splits {listed(kept) or 'without images'}; one named train is needed")
    others = [split for split in kept if split not in found.values()]
    splits.skipped.update(dict.fromkeys(others, "a split that is named neither train, validation nor test"))
    if len(found) == len(PARTS):
        return {part: (found[part], kept[found[part]]) for part in PARTS}
    train = found.pop("train")
    if not len(kept[train]):
        raise ValueError(f"{splits.place}: no image in the split {train!r} for training")
    labels, rows = splits.labels[train][kept[train]].tolist(), kept[train]
    if not found:
        splits.notes["parts"] = f"all are from the split {train!r}, 70/15/15, stratified"
        chosen = zip(PARTS, stratified(labels, FRACTIONS, seed), strict=True)
        return {part: (train, rows[index]) for part, index in chosen}
    (test,) = found.values()
    learn, choose = stratified(labels, OFFICIAL, OFFICIAL_SEED)
    splits.notes["parts"] = f"{test!r} is the test part; the validation part is a sixth of {train!r}, stratified"
    return {"train": (train, rows[learn]), "validation": (train, rows[choose]), "test": (test, kept[test])}


def find_broken(splits: NamedSplits, preprocessing: Preprocessing) -> dict[str, dict[int, tuple[str, str]]]:
    """Decode every image, and return for each split the rows that cannot be, with name and reason."""
    broken: dict[str, dict[int, tuple[str, str]]] = {split: {} for split in splits.labels}
    done, of = 0, sum(map(len, splits.labels.values()))
    with ThreadPoolExecutor(cores()) as threads:
        for split, labels in splits.labels.items():
            part = splits.make_part(split, np.arange(len(labels)), labels, None, preprocessing.value_range)
            for row, fault in enumerate(threads.map(part.fault, range(len(part)))):
                if fault is not None:
                    broken[split][row] = part.names[row], fault
                done += 1
                report_progress("decoding images", done, of)
    return broken
