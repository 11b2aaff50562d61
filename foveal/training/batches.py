"""Batches of a part of a data set: read by workers, without the images that cannot be read; a random stream of their
own for training.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import get_all_start_methods
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from foveal.data.parts import UNREAD, Part

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
        names = [part.names[index] for index in indices]
        fresh = {name: cast(Any, part).why_unread(index) for name, index in zip(names, indices, strict=True)
                 if name not in self.reasons}  # fmt: skip
        self.reasons |= fresh
        failed = len(self.reasons.keys() & set(part.names)) if fresh else 0
        if failed > max(1, self.most * len(part)):
            first, reason = next(iter(self.reasons.items()))
            raise ValueError(
                f"data {self.name!r}: {failed:,} of {len(part):,} images of one part cannot be read, as {first!r}: "
                f"{reason}; at most {self.most:.0%} are left out while they are used"
            )


def read_batches(
    part: Part,
    order: Tensor,
    batch_size: int,
    workers: int,
    on_unread: Callable[[Part, list[int]], None],
    generator: torch.Generator | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Read a part in batches: indices (B,), images (B, C, H, W) uint8 and labels (B,).

    Args:
        part: of a data set.
        order: indices of the images, (N,).
        batch_size: images in a batch; those that cannot be read are missing in theirs.
        workers: number of processes that read images.
        on_unread: called with the indices of such images.
        generator: from which the loader draws seeds of its workers, also without any; if left out, torch's own.
    """
    loader = DataLoader(
        cast("Dataset[Any]", part), batch_size, sampler=order.tolist(), num_workers=workers, collate_fn=as_it_comes,
        multiprocessing_context=LOADERS if workers else None, generator=generator,
    )  # fmt: skip
    for indices, (images, labels) in zip(order.split(batch_size), loader, strict=False):
        whole = labels != UNREAD
        if whole.all():
            yield indices, images, labels
            continue
        on_unread(part, indices[~whole].tolist())
        if whole.any():
            yield indices[whole], images[whole], labels[whole]


def on_a_stream(state: Tensor, batches: Iterator[Any]) -> Iterator[Any]:
    """Draw batches from a random stream that starts in `state`, independent of draws between them."""
    while True:
        between = torch.get_rng_state()
        torch.set_rng_state(state)
        batch = next(batches, None)
        state = torch.get_rng_state()
        torch.set_rng_state(between)
        if batch is None:
            return
        yield batch


def as_it_comes(batch: Any) -> Any:
    """Return the batch: a part returns whole batches, so that nothing is to be collated."""
    return batch
