"""A folder of somebody's images, one folder a class, as torchvision's ImageFolder reads it.

Folders `train`, `val` (or `validation`) and `test` are used as they are; otherwise the images are split 70/15/15,
stratified, groups kept together. A file that is no image is left out and named in `Data.skipped`.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from foveal.data.parts import Data
from foveal.data.preprocessing import Preprocessing
from foveal.data.splits import FRACTIONS, grouped, stratified

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
SPLIT_SEED = 0
PARTS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}


@dataclass(frozen=True)
class Files:
    """A part that is read from files, through a transform of timm's."""

    root: Path
    names: Sequence[str]
    labels: Tensor
    transform: Any

    def __len__(self) -> int:
        return len(self.names)

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        images = torch.stack([self.transform(read(self.root / self.names[index])) for index in indices])
        return images, self.labels[torch.as_tensor(indices)]


def read(path: Path) -> Image.Image:
    """An image in RGB, turned as its camera meant it; of sixteen bits a pixel the upper eight.

    Raises:
        ValueError: numbers for pixels whose range nobody knows.
    """
    with Image.open(path) as image:
        turned = ImageOps.exif_transpose(image)
        if turned.mode[0] in "IF":  # Pillow would clip them at 255
            turned = Image.fromarray(upper_byte(np.asarray(turned)))
        return turned.convert("RGB")


def upper_byte(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype.kind == "f" or pixels.min() < 0 or pixels.max() >= 1 << 16:
        raise ValueError(f"pixels from {pixels.min():.4g} to {pixels.max():.4g}, not 8 or 16 bits")
    return (pixels.astype(np.uint16) >> 8).astype(np.uint8)


def load_folder(root: Path, preprocessing: Preprocessing, groups: str | Path | None) -> Data:
    if not root.is_dir():
        raise ValueError(f"data 'folder:{root}': there is no such folder")
    ready = ready_parts(root)
    if ready and groups:
        raise ValueError(f"groups={str(groups)!r}: {str(root)!r} is split already, into train, val and test")
    folders = class_names([root / folder for folder in ready.values()] if ready else [root])
    skipped: dict[str, str] = {}
    found = {part: scan(root, folder, folders, skipped) for part, folder in (ready or {"all": ""}).items()}
    skipped |= outside(root, ready, folders)
    depth = 1 if ready else 0  # of a class's name within that of an image
    classes = tuple(sorted({name.split("/")[depth] for names in found.values() for name in names}))
    skipped |= {f"{name}/": "no class: it holds no image that can be read" for name in folders if name not in classes}
    if not any(found.values()):
        raise ValueError(f"data 'folder:{root}': no images in it; it needs one folder of images for each class")
    if len(classes) < 2:
        raise ValueError(f"data 'folder:{root}': one class alone, {classes[0]!r}; two or more are needed")
    if ready:
        parts = {part: (names, [label_of(name, classes, depth) for name in names]) for part, names in found.items()}
    else:
        parts = split(found["all"], [label_of(name, classes, depth) for name in found["all"]], groups)
    empty = [part for part, (names, _) in parts.items() if not names]
    if empty:
        raise ValueError(f"data 'folder:{root}': no image in the part {empty[0]}; more images are needed")

    def part(name: str) -> Files:
        transform = preprocessing.transform(training=name == "train")
        return Files(root, parts[name][0], torch.tensor(parts[name][1]), transform)

    return Data(f"folder:{root}", classes, part("train"), part("validation"), part("test"), preprocessing, skipped)


def ready_parts(root: Path) -> dict[str, str]:
    """Part to folder, where the folder is split already; empty where it is not."""
    found = {part: next((name for name in names if (root / name).is_dir()), None) for part, names in PARTS.items()}
    missing = [part for part, name in found.items() if name is None]
    if found["train"] and missing:
        raise ValueError(
            f"data 'folder:{root}': it has a folder 'train' and none for {' and '.join(missing)}; give it all "
            f"three, {', '.join(names[0] for names in PARTS.values())}, or move the classes up"
        )
    return {part: name for part, name in found.items() if name} if not missing else {}


def class_names(folders: list[Path]) -> tuple[str, ...]:
    """The folders that may be classes: not hidden ones."""
    found = {each.name for folder in folders for each in folder.iterdir() if each.is_dir()}
    return tuple(sorted(name for name in found if not name.startswith((".", "__"))))


def scan(root: Path, folder: str, classes: Sequence[str], skipped: dict[str, str]) -> list[str]:
    """The images below a folder, as paths from the root; what cannot be opened goes into `skipped`."""
    names = []
    for label in classes:
        for path in sorted((root / folder / label).rglob("*")):
            if not path.is_file():
                continue
            name = path.relative_to(root).as_posix()
            reason = why_not(path)
            if reason is None:
                names.append(name)
            else:
                skipped[name] = reason
    return names


def outside(root: Path, ready: dict[str, str], classes: Sequence[str]) -> dict[str, str]:
    """What lies beside the folders that are read: images in no class, and folders that are none."""
    read_here = {"": set(ready.values()) or set(classes)} | {folder: set(classes) for folder in ready.values()}
    left = {}
    for folder, names in read_here.items():
        for path in sorted((root / folder).iterdir()):
            name = path.relative_to(root).as_posix()
            if path.is_dir() and path.name not in names:
                left[f"{name}/"] = "beside train, val and test" if ready and not folder else "a hidden folder"
            elif path.is_file() and path.suffix.lower() in SUFFIXES:
                left[name] = "in no class's folder"
    return left


def why_not(path: Path) -> str | None:
    """Why a file is no image that can be read; None for one that can."""
    if path.suffix.lower() not in SUFFIXES:
        return f"not an image by its name ({path.suffix or 'no suffix'})"
    if not path.is_file():
        return "no such file"
    try:
        read(path)
    except UnidentifiedImageError:
        return "not an image by its content"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"cannot be read: {error}"
    return None


def label_of(name: str, classes: Sequence[str], depth: int) -> int:
    return classes.index(name.split("/")[depth])


def split(names: list[str], labels: list[int], groups: str | Path | None) -> dict[str, tuple[list[str], list[int]]]:
    if groups is None:
        chosen = stratified(labels, FRACTIONS, SPLIT_SEED)
    else:
        chosen = grouped(labels, groups_of(names, Path(groups)), FRACTIONS, SPLIT_SEED)

    def take(index: np.ndarray) -> tuple[list[str], list[int]]:
        return [names[i] for i in index], [labels[i] for i in index]

    return {part: take(index) for part, index in zip(PARTS, chosen, strict=True)}


def groups_of(names: list[str], path: Path) -> list[str]:
    """The group of each image; an image that the file does not name is a group of its own."""
    if not path.is_file():
        raise ValueError(f"groups={str(path)!r}: there is no such file")
    with path.open(newline="") as lines:
        table = {row[0]: row[1] for row in csv.reader(lines) if len(row) == 2}
    if not any(name in table for name in names):
        raise ValueError(f"groups={str(path)!r}: none of its lines `image,group` names an image of the folder")
    return [table.get(name, f"alone: {name}") for name in names]
