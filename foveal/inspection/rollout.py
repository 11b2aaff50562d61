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

from foveal.core.layout import Layout, Tokens, Windows
from foveal.core.record import Record

JOINED = 1024  # tokens at most, of windows that are joined to one matrix
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


def layouts(record: Record, size: tuple[int, int]) -> tuple[Layout | Windows | None, Layout | Windows | None]:
    """Return the layouts of an affinity's queries and keys: those that its pass showed.

    For a Record that no pass made they are those of the proportions of an image of `size`; windows have none then.
    """
    both = record.tokens or Tokens()
    if "N" in record.axes.split():
        many = record.values.shape[record.axes.split().index("N")]
        return as_windows(both.queries, many), as_windows(both.keys, many)
    if record.tokens is not None:
        return as_layout(both.queries), as_layout(both.keys)
    return layout(record.values.shape[-2], *size), layout(record.values.shape[-1], *size)


def as_windows(found: Layout | Windows | None, many: int) -> Windows | None:
    """Return `many` windows; the tokens of a map alone are one window."""
    if isinstance(found, Layout) and many == 1 and found.num_prefix_tokens == 0:
        return Windows.whole(found.rows, found.columns)
    return found if isinstance(found, Windows) else None


def as_layout(found: Layout | Windows | None) -> Layout | None:
    """Return the layout of one sequence of tokens; one window may be the whole map."""
    if isinstance(found, Windows):
        whole = Windows.whole(found.rows, found.columns)
        return found.layout if torch.equal(found.positions, whole.positions) else None
    return found


def windows(record: Record) -> Windows | None:
    """Return the windows in which an affinity's queries and keys are the same tokens, None if it has none."""
    queries, keys = layouts(record, (1, 1)) if "N" in record.axes.split() else (None, None)
    both = isinstance(queries, Windows) and isinstance(keys, Windows) and torch.equal(queries.positions, keys.positions)
    return keys if both and isinstance(keys, Windows) else None


def count_tokens(record: Record) -> int:
    """Return the number of an affinity's tokens, those of all its windows together."""
    cut = windows(record)
    return cut.rows * cut.columns if cut else record.values.shape[-1]


def can_roll_out(record: Record) -> bool:
    """Return True if a Record is attention of tokens to the same tokens, in shares with sum 1.

    Windows are joined to one matrix; of more than `JOINED` tokens they are not.
    """
    square = record.axes == "B G Q K" and record.values.shape[2] == record.values.shape[3]
    joined = windows(record) is not None and count_tokens(record) <= JOINED
    return (square or joined) and record.domain == "spatial" and record.value_range == (0, 1)


def shares(record: Record) -> Tensor:
    """Return the mean over the heads, (B, K, K)."""
    cut = windows(record)
    if cut is None:
        return record.values.float().mean(1)
    return cut.joined(record.values.float().mean(record.axes.split().index("G")))


def rollout(records: Sequence[Record]) -> Tensor:
    """Return the share of each first token (key) in each last one (query) after all layers: (B, K, K), rows of sum 1.

    Args:
        records: affinities (B, G, K, K) of layers in the order of the network, the first layer first.

    Raises:
        ValueError: no Record; one that is not attention of all tokens to all tokens; different numbers of tokens.
    """
    if not records:
        raise ValueError("records: a rollout needs one layer at least")
    count = count_tokens(records[0])
    rolled = torch.eye(count, device=records[0].values.device)
    residual = rolled / 2
    for record in records:
        if not can_roll_out(record):
            raise ValueError(
                f"{record.path!r}: {tuple(record.values.shape)} of axes {record.axes!r} "
                f"is not a layer of a rollout, which needs shares (B, G, K, K), or windows of at most {JOINED} tokens"
            )
        if count_tokens(record) != count:
            raise ValueError(f"{record.path!r}: {count_tokens(record)} tokens, after {count} of {records[0].path!r}")
        through = shares(record) / 2 + residual
        rolled = through / through.sum(-1, keepdim=True) @ rolled
    return rolled
