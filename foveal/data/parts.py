"""What a data set is here: three parts of images and labels, and how they were split.

Images are uint8 in their own colours, (B, C, H, W): whoever trains scales and normalises them, whoever draws does not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from foveal.data.preprocessing import Preprocessing


class Part(Protocol):
    """One part of a data set, read in batches."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64."""

    @property
    def names(self) -> Sequence[str]:
        """Of the images: a file's path, or a digit's place in its source."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) uint8 and labels (B,); the spelling is what PyTorch's DataLoader asks for."""
        ...


@dataclass(frozen=True)
class InMemory:
    """A part that lies in memory, with the truth of its distortion where it has one."""

    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64
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
    """A part whose images are altered at random each time that they are read, from torch's random stream."""

    transform: Callable[[Tensor], Tensor] = field(kw_only=True)  # of one image

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        images, labels = super().__getitems__(indices)
        return torch.stack([self.transform(image) for image in images]), labels


@dataclass(frozen=True)
class Data:
    """A data set: `train` to learn from, `validation` for every choice, `test` read once, at the end."""

    name: str
    classes: tuple[str, ...]
    train: Part
    validation: Part
    test: Part
    preprocessing: Preprocessing
    skipped: dict[str, str] = field(default_factory=dict)  # file to reason

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.preprocessing.shape

    @property
    def split(self) -> dict[str, list[str]]:
        """The names of the images in each part."""
        return {part: list(getattr(self, part).names) for part in ("train", "validation", "test")}
