"""Layouts of folders of images: which folders are classes and which are parts.

Read are one folder for each class, also below folders that hold nothing else; such folders within `train`, `val` and
`test`; and two published layouts with a training and a validation part, whose validation part is the test part here:

- ImageNet (ILSVRC 2012): `train/n01440764/*.JPEG`, `val/n01440764/*.JPEG`; also Imagenette and the like.
- Tiny ImageNet: `train/n01443537/images/*.JPEG`, `val/images/*.JPEG` with `val/val_annotations.txt`.

Folders named `images`, `annotations` or `train` are not read as classes.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from foveal.data.image_files import SUFFIXES
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
Images = list[tuple[str, str]]  # path from the root, and class


@dataclass
class Listing:
    """The images of a folder by part, before they are opened.

    `parts` holds "all", or "train" and "test" with or without "validation". Paths are relative to `root`.
    """

    root: Path
    parts: dict[str, Images] = field(default_factory=dict)
    classes: set[str] = field(default_factory=set)  # names of folders
    skipped: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def list_images(folder: Path) -> Listing:
    """Recognize the layout of a folder and list its images.

    Raises:
        ValueError: a layout whose classes are not known from its folders.
    """
    listing = Listing(folder)
    for _ in range(3):
        if "train" in part_folders(listing.root) or not descend(listing):
            break
    found = part_folders(listing.root)
    if "train" not in found:
        check_class_folders(listing.root)
        listing.parts["all"] = add_classes(listing, "")
        skip_others(listing, {"": listing.classes})
    elif (listing.root / found.get("validation", "") / TINY).is_file():
        list_tiny_imagenet(listing, found)
    elif is_imagenet(listing.root, found):
        list_imagenet(listing, found)
    else:
        check_parts(listing.root, found)
        listing.parts = {part: add_classes(listing, name) for part, name in found.items()}
        skip_others(listing, {"": set(found.values())} | dict.fromkeys(found.values(), listing.classes))
    return listing


def part_folders(root: Path) -> dict[str, str]:
    """Map parts to their folders, in the order train, validation, test."""
    names = {path.name.lower(): path.name for path in reversed(folders_of(root))}
    found = {part: next((names[name] for name in known if name in names), None) for part, known in PARTS.items()}
    return {part: name for part, name in found.items() if name is not None}


def folders_of(root: Path) -> list[Path]:
    """List the folders in a folder that are not hidden."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def image_folders(root: Path) -> list[Path]:
    """List the folders in a folder below which there are image files."""
    return [path for path in folders_of(root) if any(map(is_image, path.rglob("*")))]


def is_nested(folder: Path) -> bool:
    """Return True if a folder holds its images in folders, and none beside them."""
    return not any(map(is_image, folder.iterdir())) and bool(image_folders(folder))


def descend(listing: Listing) -> bool:
    """Move the root to the single folder of images in it, if its images lie in folders; return True if it moved."""
    root, inner = listing.root, image_folders(listing.root)
    beside = [path for path in inner if path.name.lower() in BESIDE]
    images = [path for path in inner if path not in beside] if len(inner) > 1 else inner
    if len(images) != 1 or not is_nested(images[0]) or any(map(is_image, root.iterdir())):
        return False
    if beside and images[0].name.lower() not in CONTAINERS:
        return False
    others = [path.name for path in sorted(root.iterdir()) if path != images[0]]
    ignored = f"; not read: {listed(others, 5)}, nor a published split in them" if others else ""
    listing.notes[f"{images[0].name}/"] = f"the images and their classes were looked for in this folder{ignored}"
    listing.skipped |= {f"{path.name}/": f"beside the folder {images[0].name!r}" for path in beside}
    listing.root = images[0]
    return True


def check_class_folders(root: Path) -> None:
    """Refuse folders that are no classes by their names."""
    inner = image_folders(root)
    odd = [path for path in inner if path.name.lower() in CONTAINERS]
    if odd and all(path.name.lower() in CONTAINERS | BESIDE for path in inner):
        refuse_loose(root, odd[0])
    if odd:
        raise ValueError(
            f"data 'folder:{root}': the folder {odd[0].name!r} is no class by its name; name the folder that holds "
            "one folder for each class, or rename it"
        )
    if inner and all(PART_LIKE.fullmatch(path.name) for path in inner):
        for path in inner:
            if not is_nested(path):
                refuse_loose(root, path)
        raise ValueError(
            f"data 'folder:{root}': {listed(path.name for path in inner)} are parts by their names, not classes; "
            "folders train, val and test are read, each with one folder for each class"
        )


def check_parts(root: Path, found: dict[str, str]) -> None:
    """Refuse parts without class folders, and a training part without the other two."""
    for name in found.values():
        inner = image_folders(root / name)
        loose = any(map(is_image, (root / name).iterdir()))
        if all(path.name.lower() in CONTAINERS | BESIDE and not is_nested(path) for path in inner) and (inner or loose):
            refuse_loose(root, root / name)
    missing = [part for part in PARTS if part not in found]
    if missing:
        raise ValueError(
            f"data 'folder:{root}': it has a folder {found['train']!r} and none for {' and '.join(missing)}; make all "
            f"three, {', '.join(names[0] for names in PARTS.values())}, or name the folder that holds all classes"
        )


def refuse_loose(root: Path, folder: Path) -> NoReturn:
    """Refuse images that are in no folder of a class; name the files that may hold their labels."""
    near = [root, folder, *folders_of(root)]
    tables = dict.fromkeys(
        path.relative_to(root).as_posix()
        for place in near
        for path in sorted(place.iterdir())
        if path.suffix.lower() in TABLES and path.stem.lower() not in ("readme", "license")
    )
    hint = f"; files of labels, as {listed(tables, 3)}, are not read" if tables else ""
    raise ValueError(
        f"data 'folder:{root}': the images in {folder.relative_to(root).as_posix()!r} are not in one folder for each "
        f"class{hint}; sort them into one folder for each class"
    )


def add_classes(listing: Listing, folder: str) -> Images:
    """List the images below the class folders of a folder; add the names of these to the listing's classes."""
    inner = folders_of(listing.root / folder)
    prefix = f"{folder}/" if folder else ""
    listing.skipped |= {f"{prefix}{path.name}/": NO_CLASSES[path.name] for path in inner if path.name in NO_CLASSES}
    names = [path.name for path in inner if path.name not in NO_CLASSES]
    listing.classes |= set(names)
    return [(name, label) for label in names for name in files_below(listing.root, listing.root / folder / label)]


def files_below(root: Path, folder: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]


def skip_others(listing: Listing, known: Mapping[str, Iterable[str]]) -> None:
    """Name what lies beside the folders that are read: images in no class, hidden folders, other folders."""
    for folder, names in known.items():
        for path in sorted((listing.root / folder).iterdir()):
            name = path.relative_to(listing.root).as_posix()
            if path.is_dir() and path.name not in names:
                reason = "beside train, val and test" if len(known) > 1 and not folder else "a hidden folder"
                listing.skipped.setdefault(f"{name}/", reason)
            elif is_image(path):
                listing.skipped[name] = "in no class's folder"


def list_tiny_imagenet(listing: Listing, found: dict[str, str]) -> None:
    """Tiny ImageNet: the published validation part as the test part, by its table of file, class and box."""
    root, train, val = listing.root, found["train"], found["validation"]
    classes = [path.name for path in folders_of(root / train)]
    listing.classes |= set(classes)
    listing.parts["train"] = [
        (name, label) for label in classes for name in files_below(root, root / train / label / "images")
    ]
    lines = read_text(root / val / TINY).splitlines()
    table = {row[0]: row[1] for line in lines if len(row := line.split("\t")) > 1}
    every = files_below(root, root / val / "images")
    listing.parts["test"] = [(name, table[Path(name).name]) for name in every if Path(name).name in table]
    listing.classes |= set(table.values())
    listing.skipped |= {name: f"not in {val}/{TINY}" for name in every if Path(name).name not in table}
    note_published(listing, found, "Tiny ImageNet")


def is_imagenet(root: Path, found: dict[str, str]) -> bool:
    """Return True for classes named by WordNet, a validation part, and no labelled test part."""
    names = [path.name for path in folders_of(root / found["train"])]
    labelled = "test" in found and any(map(WORDNET.fullmatch, (path.name for path in folders_of(root / found["test"]))))
    return "validation" in found and not labelled and bool(names) and all(map(WORDNET.fullmatch, names))


def list_imagenet(listing: Listing, found: dict[str, str]) -> None:
    """ImageNet and its subsets: the published validation part as the test part."""
    train, val = found["train"], found["validation"]
    if not image_folders(listing.root / val):
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
        count = sum(map(is_image, (listing.root / found["test"]).rglob("*")))
        listing.skipped[f"{found['test']}/"] = f"published without labels: {count:,} images"
