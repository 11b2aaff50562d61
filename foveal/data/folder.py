"""A folder of images, one folder for each class, as torchvision's ImageFolder reads it.

Folders `train`, `val` (or `validation`) and `test` are used as they are; otherwise the images are split 70/15/15,
stratified, groups kept together. See `foveal.data.layouts` for other layouts and `foveal.data.image_files` for how
files are read. A file that cannot be read by its header is left out and named in `Data.skipped`; images are decoded
when they are used (see `foveal.data.examine_files`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from foveal.data.examine_files import examine_files
from foveal.data.file_facts import FileFacts, notes_of, range_of
from foveal.data.image_files import read, why_not
from foveal.data.layouts import Images, Listing, list_images
from foveal.data.parts import PARTS, UNREAD, Data, listed
from foveal.data.preprocessing import Preprocessing
from foveal.data.splits import FRACTIONS, OFFICIAL, OFFICIAL_SEED, grouped, stratified
from foveal.data.text_files import read_csv

BLANK = Image.new("RGB", (1, 1))


@dataclass(frozen=True)
class Files:
    """A part that is read from files, through timm's transform."""

    root: Path
    names: Sequence[str]
    labels: Tensor
    transform: Any
    value_range: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        images, labels = [], self.labels[torch.as_tensor(indices)]
        for place, index in enumerate(indices):
            try:
                image = read(self.root / self.names[index], self.value_range)
            except ValueError:  # a file that is broken beyond its header, or was changed or removed since
                image, labels[place] = BLANK, UNREAD
            images.append(self.transform(image))
        return torch.stack(images), labels

    def why_unread(self, index: int) -> str:
        """Return why an image cannot be read."""
        reason = why_not(self.root / self.names[index], self.value_range)
        return reason or "it could not be read, and can be now"


def load_folder(
    root: Path, preprocessing: Preprocessing, groups: str | Path | None, seed: int = 0, whole: bool = False
) -> Data:
    """Load a folder of images; `preprocessing.value_range` is found on the training part if it is None. A folder
    without ready parts is split from the seed. With `whole`, every file is decoded to find those that are broken.

    Raises:
        ValueError: no such folder; a layout that is not known; fewer than two classes; an empty part; classes that
            ready parts do not share.
    """
    if not root.is_dir():
        raise ValueError(f"data 'folder:{root}': there is no such folder")
    listing = list_images(root)
    if groups and "all" not in listing.parts:
        raise ValueError(f"groups={str(groups)!r}: {str(root)!r} is split already, into train, val and test")
    names = [name for images in listing.parts.values() for name, _ in images]
    facts = examine_files(listing.root, names, listing.stamps, whole)
    skipped = listing.skipped | {name: each.reason for name, each in facts.items() if each.reason is not None}
    found = {part: [each for each in images if each[0] not in skipped] for part, images in listing.parts.items()}
    classes = tuple(sorted({label for images in found.values() for _, label in images}))
    skipped |= {f"{name}/": "no class: it holds no image that can be read" for name in listing.classes - {*classes}}
    check_classes(root, classes, facts, skipped)
    parts = split(found, groups, seed)
    check_parts(root, parts, classes, ready="all" not in found)
    used = {name: facts[name] for images in parts.values() for name, _ in images}
    value_range, source = preprocessing.value_range, "as given"
    if value_range is None:
        value_range, source = training_range(root, parts["train"], used), "found on the training part"
    preprocessing = replace(preprocessing, value_range=value_range)
    notes = listing.notes | notes_of(used, value_range, source)
    return as_data(root, listing, parts, classes, preprocessing, skipped, notes)


def as_data(
    root: Path,
    listing: Listing,
    parts: Mapping[str, Images],
    classes: tuple[str, ...],
    preprocessing: Preprocessing,
    skipped: dict[str, str],
    notes: dict[str, str],
) -> Data:
    numbers = {label: number for number, label in enumerate(classes)}

    def part(name: str) -> Files:
        names, labels = [each[0] for each in parts[name]], [numbers[each[1]] for each in parts[name]]
        transform = preprocessing.transform(training=name == "train")
        return Files(listing.root, names, torch.tensor(labels), transform, preprocessing.value_range)

    train, validation, test = map(part, PARTS)
    return Data(f"folder:{root}", classes, train, validation, test, preprocessing, skipped, notes)


def with_auto_augment(data: Data, policy: str) -> Data:
    """Augment the training images of a folder by a policy of timm instead of random colours.

    Raises:
        ValueError: data that is no folder of image files; an unknown policy.
    """
    if not isinstance(data.train, Files):
        raise ValueError(f"aa={policy!r}: data {data.name!r} is no folder of image files, which alone takes aa")
    transform = data.preprocessing.transform(training=True, auto_augment=policy)
    return replace(data, train=replace(data.train, transform=transform))


def check_classes(
    root: Path, classes: Sequence[str], facts: Mapping[str, FileFacts], skipped: Mapping[str, str]
) -> None:
    """Refuse fewer than two classes, with the reasons for which files were left out."""
    if len(classes) > 1:
        return
    counts = Counter(reason for name, reason in skipped.items() if name in facts or not name.endswith("/"))
    left_out = "; ".join(f"{count:,} {reason}" for reason, count in counts.most_common(3))
    why = f" (left out: {left_out})" if left_out else ""
    if not classes:
        raise ValueError(f"data 'folder:{root}': no images in it{why}; it needs one folder of images for each class")
    raise ValueError(f"data 'folder:{root}': one class alone, {classes[0]!r}{why}; two or more are needed")


def check_parts(root: Path, parts: Mapping[str, Images], classes: Sequence[str], ready: bool) -> None:
    """Refuse an empty part and, in ready parts, classes that are in the training part alone or not in it."""
    empty = [part for part, images in parts.items() if not images]
    if empty:
        raise ValueError(f"data 'folder:{root}': no image in the part {empty[0]}; more images are needed")
    if not ready:
        return
    labels = {part: {label for _, label in images} for part, images in parts.items()}
    others = labels["validation"] | labels["test"]
    alone = [name for name in classes if name not in others]
    if alone:
        raise ValueError(
            f"data 'folder:{root}': no image of {listed(alone)} in the validation and test parts; add some, or remove "
            "it from the training part"
        )
    strange = [name for name in classes if name not in labels["train"]]
    if strange:
        raise ValueError(
            f"data 'folder:{root}': no image of {listed(strange)} in the training part; add some, or remove it from "
            "the validation and test parts"
        )


def training_range(root: Path, train: Images, facts: Mapping[str, FileFacts]) -> tuple[float, float] | None:
    """Compute the range of 16-bit values over the training part; None if no part holds such images."""
    try:
        found = range_of({name: facts[name] for name, _ in train})
    except ValueError as error:
        raise ValueError(f"data 'folder:{root}': {error}") from error
    deep = [name for name, each in facts.items() if each.values is not None]
    if found is None and deep:
        raise ValueError(
            f"data 'folder:{root}': 16-bit images in the other parts, as {deep[0]}, and none in the training part, on "
            "which their range of values is found; give value_range"
        )
    return found


def split(found: Mapping[str, Images], groups: str | Path | None, seed: int) -> dict[str, Images]:
    """Split the images into train, validation and test where the layout does not; otherwise return them in order."""
    if "validation" in found:
        return {part: found[part] for part in PARTS}
    images = found["train"] if "train" in found else found["all"]
    names, labels = [each[0] for each in images], [each[1] for each in images]
    if "train" in found:
        learn, choose = stratified(labels, OFFICIAL, OFFICIAL_SEED)
        return {"train": take(images, learn), "validation": take(images, choose), "test": found["test"]}
    if groups is None:
        chosen = stratified(labels, FRACTIONS, seed)
    else:
        numbers = np.unique(labels, return_inverse=True)[1]
        chosen = grouped(numbers, groups_of(names, Path(groups)), FRACTIONS, seed)
    return {part: take(images, index) for part, index in zip(PARTS, chosen, strict=True)}


def take(images: Images, index: np.ndarray) -> Images:
    return [images[i] for i in index]


def groups_of(names: list[str], path: Path) -> list[str]:
    """Read the group of each image; an image that the file does not name is a group of its own."""
    if not path.is_file():
        raise ValueError(f"groups={str(path)!r}: there is no such file")
    table = {row[0]: row[1] for row in read_csv(path) if len(row) == 2}
    if not any(name in table for name in names):
        raise ValueError(f"groups={str(path)!r}: none of its lines `image,group` names an image of the folder")
    return [table.get(name, f"alone: {name}") for name in names]
