"""A data set: three parts of images and labels, and how they were split.

Images are uint8 in their own colours, (B, C, H, W). Training and evaluation scale and normalize them; drawing does not.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from foveal.data.labels import count_by_class, is_multi_label, renumber
from foveal.data.preprocessing import Preprocessing

PARTS = ("train", "validation", "test")
MOST = 10  # names in one line


class Part(Protocol):
    """One part of a data set, read in batches."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64; of multi-label data (N, K) float, 1 for each class of an image, else 0."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the images: a file's path, or a digit's index in its source."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Read images (B, C, H, W) uint8 and labels, `UNREAD` for an image that cannot be read.

        PyTorch's DataLoader requires this method's name.
        """
        ...


@dataclass(frozen=True)
class InMemory:
    """A part in memory, with the true transform and boxes where its images were distorted."""

    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64, or (N, K) float
    names: Sequence[str]
    theta: Tensor | None = None  # (N, 2, 3), (N, 3, 3) or (N, 16, 2): the transform that undoes the distortion
    boxes: Tensor | None = None  # (N, 4): x0, y0, x1, y1 in pixels; of two digits (N, 2, 4), and theta (N, 2, 2, 3)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(indices)
        return self.images[chosen], self.labels[chosen]


@dataclass(frozen=True)
class Augmented(InMemory):
    """A part whose images are augmented at random each time that they are read, from torch's random stream."""

    transform: Callable[[Tensor], Tensor] = field(kw_only=True)  # of one image

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        images, labels = super().__getitems__(indices)
        return torch.stack([self.transform(image) for image in images]), labels


@dataclass(frozen=True)
class Redrawn(InMemory):
    """A training part whose images are drawn anew for each epoch."""

    draw: Callable[[int], InMemory] = field(kw_only=True)  # from the seed of a random stream

    def drawn(self, seed: int) -> InMemory:
        """Return the part as drawn from a seed, with as many images."""
        return self.draw(seed)


@dataclass(frozen=True)
class Data:
    """A data set: `train` to learn from, `validation` for every choice, `test` read once, at the end.

    `skipped` maps a file or folder that was left out to the reason; `notes` maps a file, or a kind of files, to how it
    was read where this is not plain.
    """

    name: str
    classes: tuple[str, ...]
    train: Part
    validation: Part
    test: Part
    preprocessing: Preprocessing
    skipped: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.preprocessing.shape

    @property
    def multi_label(self) -> bool:
        """Whether an image has any number of classes, and not exactly one."""
        return is_multi_label(self.train.labels)

    @property
    def split(self) -> dict[str, list[str]]:
        """The names of the images in each part."""
        return {part: list(getattr(self, part).names) for part in PARTS}

    @property
    def remarks(self) -> dict[str, str]:
        """The notes, with the classes of which a part holds no image, and of several those that all images have."""
        found: dict[str, str] = {}
        for part in PARTS:
            of = {"no image of": self.absent(part), "all images of": self.everywhere(part) if self.multi_label else []}
            texts = [f"{what} {listed(names)}" for what, names in of.items() if names]
            found |= {f"{part} part": "; ".join(texts)} if texts else {}
        return self.notes | found

    def check_kind(self, multi_label: bool) -> None:
        """Raise ValueError if images have one class, and a network was trained on any number of classes, or reverse."""
        kinds = {False: "one class for each image", True: "any number of classes for each image"}
        if self.multi_label != multi_label:
            raise ValueError(
                f"data {self.name!r}: {kinds[self.multi_label]}, and the network was trained on {kinds[multi_label]}"
            )

    def check_single_label(self, what: str) -> None:
        """Raise ValueError if an image has any number of classes, where `what` needs one."""
        if self.multi_label:
            raise ValueError(f"data {self.name!r}: any number of classes for each image; {what} needs one")

    def absent(self, part: str) -> list[str]:
        """List the classes of which a part holds no image."""
        return [name for name, count in zip(self.classes, self.counts(part), strict=True) if not count]

    def everywhere(self, part: str) -> list[str]:
        """List the classes that all images of a part have: the average precision of such a class says nothing."""
        counts = zip(self.classes, self.counts(part), strict=True)
        return [name for name, count in counts if count == len(getattr(self, part))]

    def counts(self, part: str) -> list[int]:
        """Count the images of each class in a part."""
        found: list[int] = count_by_class(getattr(self, part).labels, len(self.classes)).tolist()
        return found


def draw_order(part: Part) -> Tensor:
    """Draw the order of a training part's images from torch's random stream, (N,): its own, if it has one."""
    shuffled = getattr(part, "shuffled", None)
    return torch.randperm(len(part)) if shuffled is None else shuffled()


def relabel(data: Data, classes: Sequence[str]) -> Data:
    """Replace the classes of a data set by `classes`, which contain them; labels are matched by class name.

    Raises:
        ValueError: a class of the data is not among `classes`.
    """
    unknown = [name for name in data.classes if name not in classes]
    if unknown:
        raise ValueError(
            f"data {data.name!r}: unknown class{'es' * (len(unknown) > 1)} {listed(unknown)}; the network was trained "
            f"on {listed(classes)}; the data holds {listed(data.classes)}"
        )
    if tuple(classes) == data.classes:
        return data
    index = torch.tensor([list(classes).index(name) for name in data.classes])

    def of(part: Part) -> Part:
        return replace(cast(Any, part), labels=renumber(part.labels, index, len(classes)))

    parts = of(data.train), of(data.validation), of(data.test)
    return replace(data, classes=tuple(classes), train=parts[0], validation=parts[1], test=parts[2])


def listed(names: Iterable[str], most: int = MOST) -> str:
    """Join the first names for a message, with the number of the others."""
    every = list(names)
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(map(str, islice(every, most))) + more
