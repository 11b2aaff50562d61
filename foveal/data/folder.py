"""Image files with their classes: a folder with one folder for each class, as torchvision's ImageFolder reads it, or
the images that a CSV file or a file of COCO lists.

Folders `train`, `val` (or `validation`) and `test` are used as they are; otherwise the images are split 70/15/15,
stratified, groups kept together. See `foveal.data.layouts` for other layouts, `foveal.data.csv_file` and
`foveal.data.coco_file` for such files, and `foveal.data.image_files` for how images are read. A file that cannot be
read by its header is left out and named in `Data.skipped`; images are decoded when they are used (see
`foveal.data.examine_files`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from foveal.data.encoded_images import EncodedImages
from foveal.data.examine_files import examine_files
from foveal.data.file_facts import FileFacts, notes_of, range_of
from foveal.data.groups_file import read_groups
from foveal.data.labels import SEPARATOR, Label, classes_in, encode
from foveal.data.layouts import Images, Listing, list_images
from foveal.data.parts import PARTS, Data, listed
from foveal.data.preprocessing import Preprocessing
from foveal.data.splits import FRACTIONS, OFFICIAL, OFFICIAL_SEED, grouped, stratified
from foveal.data.text_files import check_names


@dataclass(frozen=True)
class Files(EncodedImages):
    """A part that is read from files, through timm's transform."""

    root: Path
    names: Sequence[str]
    labels: Tensor
    transform: Any
    value_range: tuple[float, float] | None = None
    boxes: Any = None  # of its images' objects, see `foveal.data.annotated_data`

    def file(self, index: int) -> Path:
        return self.root / self.names[index]


def load_folder(
    root: Path, preprocessing: Preprocessing, groups: str | Path | None, seed: int = 0, whole: bool = False
) -> Data:
    """Load a folder of images; the arguments are those of `load_listing`.

    Raises:
        ValueError: no such folder; a layout that is not known; and as `load_listing`.
    """
    if not root.is_dir():
        raise ValueError(f"data 'folder:{root}': there is no such folder")
    return load_listing(f"folder:{root}", list_images(root), preprocessing, groups, seed, whole)


def load_listing(
    name: str,
    listing: Listing,
    preprocessing: Preprocessing,
    groups: str | Path | None,
    seed: int = 0,
    whole: bool = False,
) -> Data:
    """Load images that are listed with their classes.

    Args:
        name: of the data.
        listing: the images; a listing without ready parts is split from the seed.
        preprocessing: its `value_range` is found on the training part if it is None.
        groups: CSV file of images that belong together.
        seed: of the split.
        whole: decode every file to find those that are broken.

    Raises:
        ValueError: a name that is no UTF-8; fewer than two classes; an empty part; classes that ready parts do not
            share; groups of data that is split or grouped already.
    """
    if groups and listing.groups:
        raise ValueError(f"groups={str(groups)!r}: data {name!r} states groups of its own")
    if groups and "all" not in listing.parts:
        raise ValueError(f"groups={str(groups)!r}: data {name!r} is split already, into train, val and test")
    every = [image for images in listing.parts.values() for image, _ in images]
    check_names(f"data {name!r}", [*listing.classes, *every])
    facts = examine_files(listing.root, every, listing.stamps, whole)
    skipped = listing.skipped | {image: each.reason for image, each in facts.items() if each.reason is not None}
    found = {part: [each for each in images if each[0] not in skipped] for part, images in listing.parts.items()}
    classes = tuple(sorted(classes_in(label for images in found.values() for _, label in images)))
    check_classes(name, classes, facts, skipped)
    check_separator(name, [label for images in found.values() for _, label in images])
    of_class = "{}/" if is_folder(name) else "class {}"
    lacking = sorted(listing.classes - {*classes})
    skipped |= {of_class.format(each): "no class: it holds no image that can be read" for each in lacking}
    of_group, grouping = read_groups(Path(groups), every) if groups else (listing.groups, {})
    parts = split(found, of_group, seed)
    check_parts(name, parts, classes, ready="all" not in found)
    used = {image: facts[image] for images in parts.values() for image, _ in images}
    value_range, source = preprocessing.value_range, "as given"
    if value_range is None:
        value_range, source = training_range(name, parts["train"], used), "found on the training part"
    preprocessing = replace(preprocessing, value_range=value_range)

    def part(of: str) -> Files:
        labels = encode([label for _, label in parts[of]], classes)
        transform = preprocessing.transform(training=of == "train")
        return Files(listing.root, [image for image, _ in parts[of]], labels, transform, value_range)

    notes = listing.notes | grouping | notes_of(used, value_range, source)
    train, validation, test = map(part, PARTS)
    return Data(name, classes, train, validation, test, preprocessing, skipped, notes)


def with_auto_augment(data: Data, policy: str) -> Data:
    """Augment the training images that are read from files by a policy of timm instead of random colours.

    Raises:
        ValueError: data without image files; an unknown policy.
    """
    if not isinstance(data.train, EncodedImages):
        raise ValueError(f"aa={policy!r}: data {data.name!r} has no image files, which alone take aa")
    transform = data.preprocessing.transform(training=True, auto_augment=policy)
    return replace(data, train=replace(cast(Any, data.train), transform=transform))


def check_classes(
    name: str, classes: Sequence[str], facts: Mapping[str, FileFacts], skipped: Mapping[str, str]
) -> None:
    """Refuse fewer than two classes, with the reasons for which files were left out."""
    if len(classes) > 1:
        return
    counts = Counter(reason for each, reason in skipped.items() if each in facts or not each.endswith("/"))
    left_out = "; ".join(f"{count:,} {reason}" for reason, count in counts.most_common(3))
    why = f" (left out: {left_out})" if left_out else ""
    if not classes and is_folder(name):
        raise ValueError(f"data {name!r}: no images in it{why}; it needs one folder of images for each class")
    if not classes:
        raise ValueError(f"data {name!r}: no image of a class in it{why}")
    raise ValueError(f"data {name!r}: one class alone, {classes[0]!r}{why}; two or more are needed")


def check_separator(name: str, labels: Sequence[Label]) -> None:
    """Refuse the name of a class with the separator in it, where an image has any number of classes."""
    odd = next((each for label in labels if not isinstance(label, str) for each in label if SEPARATOR in each), None)
    if odd is not None:
        raise ValueError(f"data {name!r}: class {odd!r}: {SEPARATOR!r} separates classes; rename it")


def is_folder(name: str) -> bool:
    """Return True for the name of a folder with a folder for each class."""
    return name.startswith("folder:")


def check_parts(name: str, parts: Mapping[str, Images], classes: Sequence[str], ready: bool) -> None:
    """Refuse an empty part and, in ready parts, classes that are in the training part alone or not in it."""
    empty = [part for part, images in parts.items() if not images]
    if empty:
        raise ValueError(f"data {name!r}: no image in the part {empty[0]}; more images are needed")
    labels = {part: classes_in(label for _, label in images) for part, images in parts.items()}
    bare = [part for part, found in labels.items() if not found]
    if bare:
        raise ValueError(f"data {name!r}: no image of a class in the part {bare[0]}; more images are needed")
    if not ready:
        return
    others = labels["validation"] | labels["test"]
    alone = [each for each in classes if each not in others]
    if alone:
        raise ValueError(
            f"data {name!r}: no image of {listed(alone)} in the validation and test parts; add some, or remove it "
            "from the training part"
        )
    strange = [each for each in classes if each not in labels["train"]]
    if strange:
        raise ValueError(
            f"data {name!r}: no image of {listed(strange)} in the training part; add some, or remove it from the "
            "validation and test parts"
        )


def training_range(name: str, train: Images, facts: Mapping[str, FileFacts]) -> tuple[float, float] | None:
    """Compute the range of 16-bit values over the training part; None if no part holds such images."""
    try:
        found = range_of({image: facts[image] for image, _ in train})
    except ValueError as error:
        raise ValueError(f"data {name!r}: {error}") from error
    deep = [image for image, each in facts.items() if each.values is not None]
    if found is None and deep:
        raise ValueError(
            f"data {name!r}: 16-bit images in the other parts, as {deep[0]}, and none in the training part, on which "
            "their range of values is found; give value_range"
        )
    return found


def split(found: Mapping[str, Images], groups: Mapping[str, str], seed: int) -> dict[str, Images]:
    """Split the images into train, validation and test where the listing does not; otherwise return them in order.

    Args:
        found: images by part: "all", or "train" and "test" with or without "validation".
        groups: of images that stay in one part; an image that is not in it is a group of its own.
        seed: of the split; that of a published training part is fixed.
    """
    if "validation" in found:
        return {part: found[part] for part in PARTS}
    published = "train" in found
    images = found["train" if published else "all"]
    labels = encode([label for _, label in images], sorted(classes_in(label for _, label in images))).numpy()
    sizes, seed = (OFFICIAL, OFFICIAL_SEED) if published else (FRACTIONS, seed)
    if groups:
        names = [groups.get(image, f"alone: {image}") for image, _ in images]
        chosen = grouped(labels, names, sizes, seed)
    else:
        chosen = stratified(labels, sizes, seed)
    parts = {part: [images[i] for i in index] for part, index in zip(PARTS, chosen, strict=False)}
    return parts | {"test": found["test"]} if published else parts
