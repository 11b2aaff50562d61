"""Positions of the tokens of windows on the map that was cut into them, from a trial pass.

A map is cut into windows by reshaping it to (B, N, P, M, Q, C) or (B, C, N, P, M, Q), after padding and a shift (Swin),
and by permuting that; whether the windows are tiles or every N-th position (MaxViT) is seen after it alone. So the
number of each position takes the place of the map's channels, and the steps from the map to the queries or keys are
repeated on it.

Axes: B batch, C channel, G head, K token; N M windows, P Q sides of a window.
"""

import torch
from torch import Tensor

from foveal.core.layout import Windows
from foveal.inspection.finding.trace import Node, behind
from foveal.inspection.position_replay import VIEWS, constant, repeated
from foveal.inspection.token_grid import MAPS, partitions

BEFORE = frozenset(["pad", "roll", "contiguous", "clone", "to"])  # between a map and its partition


def windows_of(node: Node, batch: int) -> Windows | None:
    """Return the windows in which the tokens of queries or keys (B N, G, K, C) lie, None where that is not seen."""
    cut = partition_behind(node)
    if cut is None:
        return None
    start = cut.inputs[0]
    while start.op in BEFORE and start.inputs:
        start = start.inputs[0]
    if len(start.shape) != 4 or start.shape[0] != batch:
        return None
    for tall in partitions(cut.inputs[0].shape, cut.shape):
        rows, columns = start.shape[tall : tall + 2]
        numbers = torch.arange(batch * rows * columns, dtype=torch.float32).view(batch, rows, columns)
        found = repeated(node, start, numbers.unsqueeze(1 if tall == 2 else 3).expand(start.shape))
        if found is not None:
            return windows_from(found, batch, rows, columns)
    return None


def partition_behind(node: Node) -> Node | None:
    """Return the nearest partition of a map behind a node, None if a convolution or pooling is nearer."""
    for here in behind(node):
        if here.op in MAPS:
            return None
        if here.op in VIEWS and here.inputs and partitions(here.inputs[0].shape, here.shape):
            return here
    return None


def windows_from(numbers: Tensor, batch: int, rows: int, columns: int) -> Windows | None:
    """Return windows from the numbers of their tokens (B N, G, K), (B, N, G, K) or (B, G, N, K).

    None if the windows of an image do not follow each other, are not the same in each image, or do not fill the map.
    """
    for dim in reversed(range(1, numbers.ndim - 1)):  # heads
        if constant(numbers, dim):
            numbers = numbers.select(dim, 0)
    count = numbers.shape[-1]
    if numbers.numel() % (batch * count):
        return None
    numbers = numbers.reshape(batch, -1, count).long()
    inside = numbers >= 0
    first = torch.arange(batch)[:, None, None] * (rows * columns)
    positions = torch.where(inside, numbers - first, -1)
    filled = torch.equal(positions[0][inside[0]].sort().values, torch.arange(rows * columns))
    same = torch.equal(positions, positions[:1].expand_as(positions))
    return Windows(rows, columns, positions[0]) if filled and same else None
