"""Positions of the tokens of windows on the map that was cut into them, from a trial pass.

A map is cut into windows by reshaping it to (B, N, P, M, Q, C) or (B, C, N, P, M, Q), after padding and a shift (Swin),
and by permuting that; whether the windows are tiles or every N-th position (MaxViT) is seen after it alone. So the
number of each position takes the place of the map's channels, and the steps from the map to the queries or keys are
repeated on it.

Axes: B batch, C channel, G head, K token; N M windows, P Q sides of a window.
"""

from math import prod
from typing import Any

import torch
from torch import Tensor

from foveal.core.layout import Windows
from foveal.inspection.finding.op_names import AFFINE, POINTWISE
from foveal.inspection.finding.trace import Node
from foveal.inspection.token_grid import MAPS, partitions

BEFORE = frozenset(["pad", "roll", "contiguous", "clone", "to"])  # between a map and its partition
SAME = AFFINE | POINTWISE | {"contiguous", "clone", "to", "type", "float", "dropout", "normalize", "type_as"}
VIEWS = frozenset(["view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"])
STEPS = 60  # between the partition and the queries, at most
PADDING = -1.0


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
        channels = next((dim for dim in (-1, -2) if found is not None and constant(found, dim)), None)
        if found is not None and channels is not None:  # of keys the second to last dimension, where transposed
            return windows_from(found.select(channels, 0), batch, rows, columns)
    return None


def partition_behind(node: Node) -> Node | None:
    """Return the nearest partition of a map behind a node, None if a convolution or pooling is nearer."""
    seen, waiting = {node}, [node]
    while waiting:
        here = max(waiting, key=lambda each: each.order)
        waiting.remove(here)
        if here.op in MAPS:
            return None
        if here.op in VIEWS and here.inputs and partitions(here.inputs[0].shape, here.shape):
            return here
        new = [each for each in here.inputs if each not in seen]
        seen.update(new)
        waiting += new
    return None


def repeated(node: Node, start: Node, numbers: Tensor, depth: int = 0) -> Tensor | None:
    """Repeat on `numbers`, of the shape of `start`, the steps from there to a node; None if one is not known."""
    if node is start:
        return numbers
    if depth > STEPS or node.order < start.order:
        return None
    for each in node.inputs:
        before = repeated(each, start, numbers, depth + 1)
        if before is not None:
            after = step(node, before)
            return after if after is not None and tuple(after.shape) == node.shape else None
    return None


def step(node: Node, numbers: Tensor) -> Tensor | None:
    """Repeat on numbers of positions what a function did to channels."""
    if node.op in SAME:
        return numbers if tuple(numbers.shape) == node.shape else None
    if node.op in VIEWS:
        return numbers.reshape(node.shape) if prod(node.shape) == numbers.numel() else None
    if node.op == "linear":
        return numbers[..., :1].expand(node.shape) if constant(numbers, -1) else None
    if node.op == "pad":
        return torch.nn.functional.pad(numbers, node.argument("pad", 1), value=PADDING)
    if node.op in ("chunk", "split", "tensor_split", "unbind"):  # equal parts of the channels, such as queries and keys
        dim = node.argument("dim", 1 if node.op == "unbind" else 2, 0)
        if not constant(numbers, dim):
            return None
        return numbers.select(dim, 0) if node.op == "unbind" else numbers.narrow(dim, 0, node.shape[dim])
    if node.op == "getitem":
        return numbers[node.args[1]] if is_plain(node.args[1]) else None
    if node.op in ("permute", "transpose", "swapaxes", "roll", "movedim"):
        return getattr(torch.Tensor, node.op)(numbers, *node.args[1:], **node.kwargs)
    return numbers.mT if node.op == "mT" else None


def constant(numbers: Tensor, dim: int) -> bool:
    """Return True if the numbers do not change along a dimension."""
    return torch.equal(numbers, numbers.narrow(dim, 0, 1).expand_as(numbers))


def is_plain(index: Any) -> bool:
    """Return True for an index of numbers and slices."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(each is None or each is ... or isinstance(each, int | slice) for each in parts)


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
