"""Attention between tokens: which of them lie on a map of the image, and attention rollout.

The tokens of a vision transformer are the patches of the image, row by row, after a few others: a class token,
registers.

Attention rollout (Abnar and Zuidema, 2020, "Quantifying attention flow in transformers", sec. 3), for layers 1 to L
whose attention, the mean over heads, is A_1 to A_L:

    A^_l = 0.5 A_l + 0.5 I    what the residual connection passes on counts as much; rows normalised to one
    R = A^_L ... A^_1         how much of each first token there is in each last one

Axes: B batch, G head, Q query, K key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor

from foveal.core.record import Record

BESIDE = 5  # tokens before the map at most: a class token and four registers


@dataclass(frozen=True)
class Layout:
    """Tokens as a map: so many before it, then row by row."""

    num_prefix_tokens: int
    rows: int
    columns: int

    @property
    def centre(self) -> tuple[int, int]:
        return self.rows // 2, self.columns // 2

    @property
    def middle(self) -> int:
        """Which token the centre is."""
        return self.num_prefix_tokens + self.centre[0] * self.columns + self.centre[1]

    def map(self, weights: Tensor) -> Tensor:
        """Weights of the keys (..., K) as a map (..., rows, columns), without those before it."""
        return weights[..., self.num_prefix_tokens :].unflatten(-1, (self.rows, self.columns))


def layout(count: int, height: int, width: int) -> Layout | None:
    """How so many tokens lie on an image: a map of its proportions and as few before it as can be; None for no map."""
    for before in range(BESIDE + 1):
        patches = count - before
        rows = isqrt(max(patches, 0) * height // width)
        columns = patches // rows if rows else 0
        fits = rows * columns == patches and rows * width == columns * height
        if fits and patches > 1 and before < min(rows, columns):
            return Layout(before, rows, columns)
    return None


def can_roll_out(record: Record) -> bool:
    """Whether a Record is a layer of attention of all tokens to all tokens, in shares."""
    square = record.axes == "B G Q K" and record.values.shape[2] == record.values.shape[3]
    return square and record.domain == "spatial" and record.value_range == (0, 1)


def rollout(records: Sequence[Record]) -> Tensor:
    """How much of each first token (key) there is in each last one (query), after all layers: (B, K, K), rows of sum 1.

    Args:
        records: affinities (B, G, K, K) of layers in the order of the network, the first one first.

    Raises:
        ValueError: no Record; one that is no attention of all tokens to all tokens; several counts of tokens.
    """
    if not records:
        raise ValueError("records: a rollout needs one layer at least")
    shape = records[0].values.shape
    rolled = torch.eye(shape[-1], device=records[0].values.device)
    residual = rolled / 2
    for record in records:
        if not can_roll_out(record):
            raise ValueError(
                f"{record.path!r}: {tuple(record.values.shape)} of axes {record.axes!r} "
                "is no layer of a rollout, which takes shares (B, G, K, K)"
            )
        if record.values.shape[-1] != shape[-1]:
            raise ValueError(
                f"{record.path!r}: {record.values.shape[-1]} tokens, after {shape[-1]} of {records[0].path!r}"
            )
        through = record.values.float().mean(1) / 2 + residual
        rolled = through / through.sum(-1, keepdim=True) @ rolled
    return rolled
