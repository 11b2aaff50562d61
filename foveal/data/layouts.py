"""Layouts of folders of images: which folders are classes and which are parts.

Read are one folder for each class, also below folders that hold nothing else; such folders within `train`, `val` and
`test`; and two published layouts with a training and a validation part, whose validation part is the test part here:

- ImageNet (ILSVRC 2012): `train/n01440764/*.JPEG`, `val/n01440764/*.JPEG`; also Imagenette and the like.
- Tiny ImageNet: `train/n01443537/images/*.JPEG`, `val/images/*.JPEG` with `val/val_annotations.txt`.

Folders named `images`, `annotations` or `train` are not read as classes.
"""

import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from foveal.data.file_tree import Folder, Stamp
from foveal.data.labels import Label
from foveal.data.parts import listed
from foveal.data.text_files import read_text

PARTS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
PART_LIKE = re.compile(r"(.*[_-])?(train|training|val|valid|validation|test|testing|pred)([_-].*)?", re.IGNORECASE)
CONTAINERS = {"images", "image", "imgs", "img", "jpg", "jpeg", "jpegs", "jpegimages", "png"}
BESIDE = {
    "annotations", "annotation", "labels", "label", "masks", "segmentations", "segmentation", "trimaps", "meta",
    "metadata", "bboxes", "devkit", "attributes", "parts", "imdb", "groundtruth",
}  # fmt: skip
WORDNET = re.compile(r"n\d{8}")
TINY = "val_annotations.txt"
TABLES = {".csv", ".tsv", ".mat", ".json", ".txt", ".xml", ".xlsx", ".parquet"}
NO_CLASSES = {"BACKGROUND_Google": "the background images of Caltech-101, which are no class"}
Images = list[tuple[str, Label]]  # path from the root, and class or classes


@dataclass
class Listing:
    """The images of a folder by part, before they are opened.

    `parts` holds "all", or "train" and "test" with or without "validation". Paths are relative to `root`.
    """

    folder: Folder
    parts: dict[str, Images] = field(default_factory=dict)
    classes: set[str] = field(default_factory=set)  # that are named, with images or without
    skipped: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    stamps: dict[str, Stamp] = field(default_factory=dict)  # of the images in `parts`
    groups: dict[str, str] = field(default_factory=dict)  # of images that belong together, where a file states them

    @property
    def root(self) -> Path:
        return Path(self.folder.path)


def list_images(folder: Path) -> Listing:
    """Recognize the layout of a folder and list its images.

    Raises:
        ValueError: a layout whose classes are not known from its folders.
    """
    listing = Listing(Folder.at(folder))
    for _ in range(3):
        if "train" in part_folders(listing.folder) or not descend(listing):
            break
    found = part_folders(listing.folder)
    if "train" not in found:
        check_class_folders(listing.folder)
        listing.parts["all"] = add_classes(listing, "")
        skip_others(listing, {"": listing.classes})
    elif TINY in listing.folder.folder(found.get("validation", "")).files:
        list_tiny_imagenet(listing, found)
    elif is_imagenet(listing.folder, found):
        list_imagenet(listing, found)
    else:
        check_parts(listing.folder, found)
        listing.parts = {part: add_classes(listing, name) for part, name in found.items()}
        skip_others(listing, {"": set(found.values())} | dict.fromkeys(found.values(), listing.classes))
    return listing


def part_folders(folder: Folder) -> dict[str, str]:
    """Map parts to their folders, in the order train, validation, test."""
    names = {each.name.lower(): each.name for each in reversed(folder.folders)}
    found = {part: next((names[name] for name in known if name in names), None) for part, known in PARTS.items()}
    return {part: name for part, name in found.items() if name is not None}


def image_folders(folder: Folder) -> list[Folder]:
    """List the folders in a folder below which there are image files."""
    return [each for each in folder.folders if each.holds_images]


def is_nested(folder: Folder) -> bool:
    """Return True if a folder holds its images in folders, and none beside them."""
    return not folder.images and bool(image_folders(folder))


def descend(listing: Listing) -> bool:
    """Move the root to the single folder of images in it, if its images lie in folders; return True if it moved."""
    folder, inner = listing.folder, image_folders(listing.folder)
    beside = [each for each in inner if each.name.lower() in BESIDE]
    images = [each for each in inner if each not in beside] if len(inner) > 1 else inner
    if len(images) != 1 or not is_nested(images[0]) or folder.images:
        return False
    if beside and images[0].name.lower() not in CONTAINERS:
        return False
    others = [name for name in folder.entries if name != images[0].name]
    ignored = f"; not read: {listed(others, 5)}, nor a published split in them" if others else ""
    listing.notes[f"{images[0].name}/"] = f"the images and their classes were looked for in this folder{ignored}"
    listing.skipped |= {f"{each.name}/": f"beside the folder {images[0].name!r}" for each in beside}
    listing.folder = images[0]
    return True


def check_class_folders(root: Folder) -> None:
    """Refuse folders that are no classes by their names."""
    inner = image_folders(root)
    odd = [each for each in inner if each.name.lower() in CONTAINERS]
    if odd and all(each.name.lower() in CONTAINERS | BESIDE for each in inner):
        refuse_loose(root, odd[0])
    if odd:
        raise ValueError(
            f"data 'folder:{root.path}': the folder {odd[0].name!r} is no class by its name; name the folder that "
            "holds one folder for each class, or rename it"
        )
    if inner and all(PART_LIKE.fullmatch(each.name) for each in inner):
        for each in inner:
            if not is_nested(each):
                refuse_loose(root, each)
        raise ValueError(
            f"data 'folder:{root.path}': {listed(each.name for each in inner)} are parts by their names, not classes; "
            "folders train, val and test are read, each with one folder for each class"
        )


def check_parts(root: Folder, found: dict[str, str]) -> None:
    """Refuse parts without class folders, and a training part without the other two."""
    for part in map(root.folder, found.values()):
        inner = image_folders(part)
        others = all(each.name.lower() in CONTAINERS | BESIDE and not is_nested(each) for each in inner)
        if others and (inner or part.images):
            refuse_loose(root, part)
    missing = [part for part in PARTS if part not in found]
    if missing:
        raise ValueError(
            f"data 'folder:{root.path}': it has a folder {found['train']!r} and none for {' and '.join(missing)}; make "
            f"all three, {', '.join(names[0] for names in PARTS.values())}, or name the folder that holds all classes"
        )


def refuse_loose(root: Folder, folder: Folder) -> NoReturn:
    """Refuse images that are in no folder of a class; name the files that may hold their labels."""
    near = {"": root, folder.name: folder, **{each.name: each for each in root.folders}}
    tables = [
        f"{place}/{name}" if place else name
        for place, each in near.items()
        for name in each.entries
        if Path(name).suffix.lower() in TABLES and Path(name).stem.lower() not in ("readme", "license")
    ]
    hint = f"; files of labels, as {listed(tables, 3)}, are not read" if tables else ""
    raise ValueError(
        f"data 'folder:{root.path}': the images in {folder.name!r} are not in one folder for each class{hint}; sort "
        "them into such folders, or name a CSV file with the columns image and label as the data"
    )


def add_classes(listing: Listing, folder: str) -> Images:
    """List the files below the class folders of a folder; add the names of these to the listing's classes."""
    inner = listing.folder.folder(folder).folders
    prefix = f"{folder}/" if folder else ""
    listing.skipped |= {f"{prefix}{each.name}/": NO_CLASSES[each.name] for each in inner if each.name in NO_CLASSES}
    names = [each.name for each in inner if each.name not in NO_CLASSES]
    listing.classes |= set(names)
    return [(name, label) for label in names for name in files_below(listing, f"{prefix}{label}")]


def files_below(listing: Listing, folder: str) -> list[str]:
    """List the files below a folder, by their paths from the root, and note their stamps; name what is no file."""
    try:
        below = listing.folder.folder(folder)
    except KeyError:  # a class without the folder of its layout
        return []
    found = dict(below.walk(f"{folder}/"))
    listing.stamps |= found
    listing.skipped |= dict(below.lost(f"{folder}/"))
    return list(found)


def skip_others(listing: Listing, known: Mapping[str, Iterable[str]]) -> None:
    """Name what lies beside the folders that are read: images in no class, hidden folders, other folders."""
    for place, names in known.items():
        folder, prefix = listing.folder.folder(place), f"{place}/" if place else ""
        reason = "beside train, val and test" if len(known) > 1 and not place else "a hidden folder"
        for each in folder.subfolders:
            if each.name not in names:
                listing.skipped.setdefault(f"{prefix}{each.name}/", reason)
        listing.skipped |= {f"{prefix}{name}": "in no class's folder" for name in folder.images}
        listing.skipped |= {prefix + name: reason for name, reason in folder.broken.items()}


def list_tiny_imagenet(listing: Listing, found: dict[str, str]) -> None:
    """Tiny ImageNet: the published validation part as the test part, by its table of file, class and box."""
    train, val = found["train"], found["validation"]
    classes = [each.name for each in listing.folder.folder(train).folders]
    listing.classes |= set(classes)
    listing.parts["train"] = [
        (name, label) for label in classes for name in files_below(listing, f"{train}/{label}/images")
    ]
    lines = read_text(listing.root / val / TINY).splitlines()
    table = {row[0]: row[1] for line in lines if len(row := line.split("\t")) > 1}
    every = files_below(listing, f"{val}/images")
    listing.parts["test"] = [(name, table[Path(name).name]) for name in every if Path(name).name in table]
    listing.classes |= set(table.values())
    listing.skipped |= {name: f"not in {val}/{TINY}" for name in every if Path(name).name not in table}
    note_published(listing, found, "Tiny ImageNet")


def is_imagenet(root: Folder, found: dict[str, str]) -> bool:
    """Return True for classes named by WordNet, a validation part, and no labelled test part."""
    names = [each.name for each in root.folder(found["train"]).folders]
    test = root.folder(found["test"]).folders if "test" in found else []
    labelled = any(WORDNET.fullmatch(each.name) for each in test)
    return "validation" in found and not labelled and bool(names) and all(map(WORDNET.fullmatch, names))


def list_imagenet(listing: Listing, found: dict[str, str]) -> None:
    """ImageNet and its subsets: the published validation part as the test part."""
    train, val = found["train"], found["validation"]
    if not image_folders(listing.folder.folder(val)):
        raise ValueError(
            f"data 'folder:{listing.root}': the images in {val!r} are in no folder of a class, and there is no "
            f"{TINY!r}; move each into {val}/<class>/, as ILSVRC's script valprep.sh does"
        )
    listing.parts = {"train": add_classes(listing, train), "test": add_classes(listing, val)}
    note_published(listing, found, "ImageNet")
    skip_others(listing, {"": set(found.values()), train: listing.classes, val: listing.classes})


def note_published(listing: Listing, found: dict[str, str], name: str) -> None:
    """Note the origin of the parts, and the published test part without labels."""
    listing.notes["parts"] = (
        f"{name}: {found['validation']!r} is the test part; the validation part is a sixth of {found['train']!r}, "
        "stratified"
    )
    if "test" in found:
        count = listing.folder.folder(found["test"]).count_images()
        listing.skipped[f"{found['test']}/"] = f"published without labels: {count:,} images"


def add_file(listing: Listing, name: str, label: Label, part: str) -> None:
    """Add an image that a file names to a part of a listing; what is no file is left out."""
    try:
        found = os.stat(os.path.join(listing.folder.path, name))
    except (OSError, ValueError):  # also a name with a null byte
        listing.skipped[name] = "no such file"
        return
    if not stat.S_ISREG(found.st_mode):
        listing.skipped[name] = "not a file"
        return
    listing.stamps[name] = found.st_size, found.st_mtime_ns
    listing.parts[part].append((name, label))
