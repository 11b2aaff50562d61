"""A folder of IDX files, as MNIST, Fashion-MNIST, KMNIST and EMNIST are published; gzipped or not.

Four files: images and labels of a training part, `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, and of a test
part, the same with `t10k` or `test`, and with one prefix for all four, as `emnist-letters-train-...`. A file is two
zero bytes, the type of its numbers (8: bytes), the count of its dimensions, the length of each as four bytes, the
highest first, and the numbers (LeCun et al., http://yann.lecun.com/exdb/mnist).

EMNIST's images lie with rows and columns exchanged (its authors kept MATLAB's order); they are turned upright here.

Torchvision's readers do not read gzip, and raise an AssertionError or an unrelated error for a truncated file.
"""

import gzip
import re
import zlib
from itertools import product
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from foveal.data.digits import CLOTHES, mean_and_std, official
from foveal.data.packed import check_unpacked
from foveal.data.parts import Data
from foveal.data.preprocessing import Preprocessing

NAME = re.compile(r"(?P<prefix>.*?)(?P<part>train|t10k|test)-(?P<what>images|labels)[-.]idx[13]-ubyte(\.gz)?")
BYTES = 8  # the code of the type of the numbers
DIMENSIONS = 4  # at most; images have three


def has_idx(root: Path) -> bool:
    return root.is_dir() and any(NAME.fullmatch(path.name) for path in root.iterdir())


def load_idx(root: Path) -> Data:
    """Load the published test part, and the published training part with a sixth of it, stratified, for validation.

    Classes are named by their numbers; those of Fashion-MNIST by their content, if the folder's name contains
    "fashion".
    """
    name, files = f"folder:{root}", idx_files(root)
    train, test = (read_part(files[part, "images"], files[part, "labels"]) for part in ("train", "test"))
    if train[0].shape[1:] != test[0].shape[1:]:
        raise ValueError(
            f"data {name!r}: images {tuple(train[0].shape)} and {tuple(test[0].shape)}; one size is needed"
        )
    numbers = train[1].unique()
    strange = set(test[1].tolist()) - set(numbers.tolist())
    if strange:
        raise ValueError(f"data {name!r}: label {min(strange)} is in the test part alone")
    if len(numbers) < 2:
        raise ValueError(f"data {name!r}: labels {numbers.tolist()}; two classes or more are needed")
    train, test = ((images, torch.searchsorted(numbers, labels)) for images, labels in (train, test))
    parts = official(train, test)
    if not len(parts["validation"]):
        raise ValueError(f"data {name!r}: one training image of each class; more are needed, for the validation part")
    mean, std = mean_and_std(parts["train"].images)
    clothes = "fashion" in root.resolve().name.lower() and len(numbers) == len(CLOTHES)
    classes = CLOTHES if clothes else tuple(map(str, numbers.tolist()))
    preprocessing = Preprocessing.of_images(parts["train"].images, (mean,), (std,))
    return Data(name, classes, parts["train"], parts["validation"], parts["test"], preprocessing)


def idx_files(root: Path) -> dict[tuple[str, str], Path]:
    """Map part and content to the file."""
    found: dict[tuple[str, str], Path] = {}
    prefixes: dict[str, str] = {}
    for path in sorted(root.iterdir()):  # a file before the same one gzipped
        if match := NAME.fullmatch(path.name):
            found.setdefault(("train" if match["part"] == "train" else "test", match["what"]), path)
            prefixes.setdefault(match["prefix"], path.name)
    if len(prefixes) > 1:
        raise ValueError(
            f"data 'folder:{root}': files of several data sets, as {' and '.join(list(prefixes.values())[:2])}; "
            "a folder for each is needed"
        )
    for part, what in product(("train", "test"), ("images", "labels")):
        if (part, what) not in found:
            there = ", ".join(path.name for path in found.values())
            raise ValueError(f"data 'folder:{root}': no file of the {part} part's {what} beside {there}")
    return found


def read_part(pixels: Path, numbers: Path) -> tuple[Tensor, Tensor]:
    """Read images (N, 1, H, W) uint8 and labels (N,) int64."""
    images, labels = read_idx(pixels), read_idx(numbers)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise ValueError(
            f"{pixels} holds {tuple(images.shape)} and {numbers.name} {tuple(labels.shape)}; images (N, H, W) and "
            "labels (N,) are needed"
        )
    upright = images.mT.contiguous() if pixels.name.startswith("emnist") else images
    return upright[:, None], labels.long()


def read_idx(path: Path) -> Tensor:
    """Read an IDX file of bytes as a uint8 tensor of its shape.

    Raises:
        ValueError: another file, or one that ends too early or too late, or promises far more than its size.
    """
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            head = file.read(4)
            known = len(head) == 4 and head[:3] == bytes([0, 0, BYTES]) and head[3] <= DIMENSIONS
            lengths = file.read(4 * head[3]) if known else b""
            if not lengths or len(lengths) < 4 * head[3]:
                raise ValueError(f"{path}: not an IDX file of bytes")
            shape = np.frombuffer(lengths, ">u4").tolist()
            promised = prod(shape)
            check_unpacked(path, promised)
            content = file.read(promised + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    if len(content) != promised:
        there = "more" if len(content) > promised else f"{len(content):,}"
        raise ValueError(f"{path}: {promised:,} bytes of data are promised and {there} are there")
    if not promised:
        raise ValueError(f"{path}: no data, of the shape {tuple(shape)}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).view(shape)
