"""Batches of a part of a data set: read by workers, without the images that cannot be read."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_all_start_methods
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from foveal.data.labels import were_read
from foveal.data.parts import Part

LOADERS = "fork" if "fork" in get_all_start_methods() else "spawn"  # that of a job's process has no place for a loader
FAILING = 0.05  # share of a part's images that may turn out to be unreadable while a run uses it


@dataclass
class UnreadImages:
    """Images that could not be read when they were used, by name with the reason.

    Attributes:
        name: of the data set, for messages.
        most: share of a part's images that may fail.
    """

    name: str
    most: float = 1.0
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, part: Part, indices: list[int]) -> None:
        """Note images of a part.

        Raises:
            ValueError: more of them than the share `most`, and more than one.
        """
        every = part.names
        names = [every[index] for index in indices]
        fresh = {name: cast(Any, part).why_unread(index) for name, index in zip(names, indices, strict=True)
                 if name not in self.reasons}  # fmt: skip
        if fresh:
            self.add_reasons(part, fresh)

    def add_reasons(self, part: Part, reasons: Mapping[str, str]) -> None:
        """Note images of a part by name, which another process may have found.

        Raises:
            ValueError: as `add`.
        """
        self.reasons |= reasons
        failed = len(self.reasons.keys() & set(part.names))
        if failed > max(1, self.most * len(part)):
            first, reason = next(iter(self.reasons.items()))
            raise ValueError(
                f"data {self.name!r}: {failed:,} of {len(part):,} images of one part cannot be read, as {first!r}: "
                f"{reason}; at most {self.most:.0%} are left out while they are used"
            )


@dataclass(frozen=True)
class Answering:
    """A part that returns its errors: torch's loader would put the worker's traceback into the message of one."""

    part: Part

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor] | ValueError:
        try:
            return self.part.__getitems__(indices)
        except ValueError as error:
            return ValueError(str(error))


def read_batches(
    part: Part,
    batches: Sequence[Tensor],
    workers: int,
    on_unread: Callable[[Part, list[int]], None],
    pinned: bool = False,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Read a part in batches: indices (B,), images (B, C, H, W) uint8 and labels (B,) or (B, K).

    Args:
        part: of a data set.
        batches: indices of the images of each batch, (B,); images that cannot be read are missing in theirs, which may
            become empty.
        workers: number of processes that read images.
        on_unread: called with the indices of such images.
        pinned: place batches in memory from which a GPU copies them while the process goes on.

    Raises:
        ValueError: by the part.
    """
    own = torch.Generator()  # the loader draws seeds of its workers, also without any: torch's stream stays as it is
    loader = DataLoader(
        cast("Dataset[Any]", Answering(part)), batch_sampler=[each.tolist() for each in batches], num_workers=workers,
        collate_fn=as_it_comes, pin_memory=pinned,
        multiprocessing_context=LOADERS if workers else None, generator=own,
    )  # fmt: skip
    for indices, batch in zip(batches, loader, strict=False):
        if isinstance(batch, ValueError):
            raise batch
        images, labels = batch
        whole = were_read(labels)
        if whole.all():
            yield indices, images, labels
        else:
            on_unread(part, indices[~whole].tolist())
            yield indices[whole], images[whole], labels[whole]


@dataclass
class Timed:
    """Iterate over batches, and add up the seconds in which the caller waits for the next one."""

    batches: Iterator[Any]
    seconds: float = 0.0

    def __iter__(self) -> Iterator[Any]:
        while True:
            begin = time.perf_counter()
            batch = next(self.batches, None)
            self.seconds += time.perf_counter() - begin
            if batch is None:
                return
            yield batch


def as_it_comes(batch: Any) -> Any:
    """Return the batch: a part returns whole batches, so that nothing is to be collated."""
    return batch
