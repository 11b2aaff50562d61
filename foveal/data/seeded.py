"""A part whose images are augmented from random streams of their own: each from an epoch's number and its index.

An augmented image then depends neither on the images read before it, nor on the process that reads it.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from foveal.data.parts import Augmented, InMemory, Part

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Seeded:
    """A part that seeds the random streams of Python, numpy and torch for each image that it reads."""

    part: Part
    epoch: int  # number of the epoch among those of all seeds

    @property
    def labels(self) -> Tensor:
        return self.part.labels

    @property
    def names(self) -> Sequence[str]:
        return self.part.names

    def __len__(self) -> int:
        return len(self.part)

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        read = []
        with streams_kept():
            for index in indices:
                seed_streams(f"{self.epoch} {index}")
                read.append(self.part.__getitems__([index]))
        images, labels = zip(*read, strict=True)
        return torch.cat(images), torch.cat(labels)

    def why_unread(self, index: int) -> str:
        """Return why an image cannot be read."""
        return cast(Any, self.part).why_unread(index)


def seeded(part: Part, epoch: int) -> Part:
    """Return a part that augments each image from a stream of its own; pixels in memory alone are not augmented."""
    fixed = isinstance(part, InMemory) and not isinstance(part, Augmented)
    return part if fixed else Seeded(part, epoch)


@contextmanager
def streams_kept(device: torch.device = CPU) -> Iterator[None]:
    """Leave the random streams of Python, numpy and torch, of the CPU and a device, as they were at the beginning."""
    python, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)


def seed_streams(name: str, device: torch.device = CPU) -> None:
    """Seed the random streams of Python, numpy and torch, of the CPU and a device, from a name."""
    seed = crc32(name.encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
