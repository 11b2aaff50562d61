"""A file of MedMNIST (Yang et al., 2023): a NumPy archive with images and labels of three parts.

Its arrays are `train_images` (N, H, W) or (N, H, W, 3) uint8 and `train_labels` (N, 1), and the same for `val` and
`test`. Volumes (N, D, H, W) and several labels an image, as in ChestMNIST, are not read.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveal.core.names import one_line
from foveal.data.digits import mean_and_std, take
from foveal.data.image_files import SUFFIXES
from foveal.data.packed import check_unpacked
from foveal.data.parts import PARTS, Data, listed
from foveal.data.preprocessing import Preprocessing

PREFIXES = dict(zip(PARTS, ("train", "val", "test"), strict=True))


def find_npz(path: Path) -> Path | None:
    """Return the archive that a path is, or the only one in a folder without folders; None if there is none.

    Raises:
        ValueError: a folder of several archives; a file that is no archive.
    """
    if path.is_file():
        if path.suffix != ".npz":
            raise ValueError(
                f"data {str(path)!r}: a file; a folder, a .npz file of MedMNIST, or a .csv or .json file of images "
                "is needed"
            )
        return path
    if not path.is_dir():
        return None
    inner = [each for each in sorted(path.iterdir()) if not each.name.startswith(".")]
    found = [each for each in inner if each.suffix == ".npz" and each.is_file()]
    if not found or any(each.is_dir() or each.suffix.lower() in SUFFIXES for each in inner):
        return None
    if len(found) > 1:
        raise ValueError(f"data {str(path)!r}: several archives, {listed(each.name for each in found)}; name one file")
    return found[0]


def load_npz(path: Path, file: Path) -> Data:
    """Load the three published parts; classes are named by their numbers.

    Raises:
        ValueError: an array is missing or has another shape or type; a class is not in the training part.
    """
    name = f"folder:{path}"
    with open_archive(name, file) as archive:
        parts = {part: read_part(archive, prefix) for part, prefix in PREFIXES.items()}
    shapes = {part: tuple(images.shape[1:]) for part, (images, _) in parts.items()}
    numbers = parts["train"][1].unique()
    strange = {int(label) for _, labels in parts.values() for label in labels} - set(numbers.tolist())
    if len(set(shapes.values())) > 1:
        raise ValueError(f"data {name!r}: images of several sizes, {shapes}")
    if strange:
        raise ValueError(f"data {name!r}: no training image of class {min(strange)}")
    if len(numbers) < 2:
        raise ValueError(f"data {name!r}: labels {numbers.tolist()}; two classes or more are needed")
    train, validation, test = (
        take(images, torch.searchsorted(numbers, labels), np.arange(len(labels))) for images, labels in parts.values()
    )
    mean, std = zip(*map(mean_and_std, train.images.unbind(1)), strict=True)
    preprocessing = Preprocessing.of_images(train.images, mean, std)
    return Data(name, tuple(map(str, numbers.tolist())), train, validation, test, preprocessing)


@contextmanager
def open_archive(name: str, file: Path) -> Iterator[Any]:
    """Open an archive of arrays, after its unpacked size was checked.

    Raises:
        ValueError: no archive of the arrays, one that would unpack to far more than its size, or what is done within
            the context fails.
    """
    arrays = [f"{prefix}_{what}.npy" for prefix in PREFIXES.values() for what in ("images", "labels")]
    try:
        with zipfile.ZipFile(file) as packed:
            size = sum(packed.getinfo(each).file_size for each in arrays)
        check_unpacked(file, size)
        with np.load(file, allow_pickle=False) as archive:
            yield archive
    except Exception as error:  # zipfile and NumPy raise many kinds at a broken file
        raise ValueError(
            f"data {name!r}: {file.name} is no archive of MedMNIST's kind: {one_line(error):.300}"
        ) from error


def read_part(archive: Any, prefix: str) -> tuple[Tensor, Tensor]:
    """Read images (N, C, H, W) uint8 and labels (N,) int64 of a part."""
    images, labels = archive[f"{prefix}_images"], archive[f"{prefix}_labels"]
    grey, colour = images.ndim == 3, images.ndim == 4 and images.shape[3] == 3
    flat = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
    numbers = labels.dtype.kind in "bui" and flat
    if images.dtype != np.uint8 or not (grey or colour) or not numbers or len(images) != len(labels) or not images.size:
        raise ValueError(
            f"{prefix}_images {images.dtype} {images.shape} and {prefix}_labels {labels.dtype} {labels.shape}; uint8 "
            "images (N, H, W) or (N, H, W, 3) and one whole number an image are needed"
        )
    pixels = torch.from_numpy(images[:, None] if grey else np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return pixels, torch.from_numpy(labels.reshape(-1).astype(np.int64))
