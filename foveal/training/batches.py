"""Batches of the training loop: a random stream of their own, and no collation."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


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
