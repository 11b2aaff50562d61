"""Attention between tokens: the layout of tokens on the image, and attention rollout.

The tokens of a vision transformer are the patches of the image, row by row, after a few prefix tokens: a class token,
registers.

Attention rollout (Abnar and Zuidema, 2020, "Quantifying attention flow in transformers", sec. 3), for layers 1 to L
with attention A_1 to A_L, the mean over heads:

    A^_l = 0.5 A_l + 0.5 I    the residual connection has the same weight; rows normalised to one
    R = A^_L ... A^_1         share of each first token in each last one

Axes: B batch, G head, Q query, K key.
"""

from collections.abc import Sequence
from math import isqrt

import torch
from torch import Tensor

from foveal.core.layout import Layout
from foveal.core.record import Record

BESIDE = 5  # prefix tokens at most: a class token and four registers


def layout(count: int, height: int, width: int) -> Layout | None:
    """Return the layout of `count` tokens with the image's proportions and fewest prefix tokens; None if none fits."""
    for before in range(BESIDE + 1):
        patches = count - before
        rows = isqrt(max(patches, 0) * height // width)
        columns = patches // rows if rows else 0
        fits = rows * columns == patches and rows * width == columns * height
        if fits and patches > 1 and before < min(rows, columns):
            return Layout(before, rows, columns)
    return None


def layouts(record: Record, size: tuple[int, int]) -> tuple[Layout | None, Layout | None]:
    """Return the layouts of an affinity's queries and keys: those that its pass showed.

    For a Record that no pass made, and for windows, they are those of the proportions of an image of `size`, or of a
    square.
    """
    windows = "N" in record.axes.split()
    if record.tokens is not None and not windows:
        return record.tokens.queries, record.tokens.keys
    queries, keys = (layout(count, *((1, 1) if windows else size)) for count in record.values.shape[-2:])
    return queries, keys


def can_roll_out(record: Record) -> bool:
    """Return True if a Record is attention of all tokens to all tokens, in shares with sum 1."""
    square = record.axes == "B G Q K" and record.values.shape[2] == record.values.shape[3]
    return square and record.domain == "spatial" and record.value_range == (0, 1)


def rollout(records: Sequence[Record]) -> Tensor:
    """Return the share of each first token (key) in each last one (query) after all layers: (B, K, K), rows of sum 1.

    Args:
        records: affinities (B, G, K, K) of layers in the order of the network, the first layer first.

    Raises:
        ValueError: no Record; one that is not attention of all tokens to all tokens; different numbers of tokens.
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
                "is not a layer of a rollout, which needs shares (B, G, K, K)"
            )
        if record.values.shape[-1] != shape[-1]:
            raise ValueError(
                f"{record.path!r}: {record.values.shape[-1]} tokens, after {shape[-1]} of {records[0].path!r}"
            )
        through = record.values.float().mean(1) / 2 + residual
        rolled = through / through.sum(-1, keepdim=True) @ rolled
    return rolled
