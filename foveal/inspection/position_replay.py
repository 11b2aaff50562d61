"""Repetition of the steps of a trial pass on numbers of positions, which take the place of a map's channels.

Where tokens come from is not guessed from their count: the number of each position goes through the same reshapes,
permutations, shifts and concatenations as the channels there, and arrives where the queries or keys are.
"""

from itertools import takewhile
from math import prod
from typing import Any

import torch
from torch import Tensor

from foveal.inspection.finding.op_names import AFFINE, POINTWISE
from foveal.inspection.finding.trace import Node, behind

SAME = AFFINE | POINTWISE | {"contiguous", "clone", "to", "type", "float", "dropout", "normalize", "type_as"}
VIEWS = frozenset(["view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"])
MOVES = frozenset(["permute", "transpose", "swapaxes", "roll", "movedim"])
PARTS = {"chunk": 2, "split": 2, "tensor_split": 2, "unbind": 1}  # equal parts of channels; position of the dimension
LARGEST = frozenset(["amax", "max"])
PADDING = -1.0  # number of what is no position


def repeated(node: Node, start: Node, numbers: Tensor) -> Tensor | None:
    """Repeat on `numbers`, of the shape of `start`, the steps from there to a node; None if they are not all known.

    The result has one dimension less: that of the channels, the last one, or of transposed keys the one before it.
    """
    known = {start: numbers}
    steps = takewhile(lambda each: each.order > start.order, behind(node))
    for each in reversed(list(steps)):
        parts = [known[before] for before in each.inputs if before in known]
        after = step(each, parts) if parts else None
        if after is not None and tuple(after.shape) == each.shape:
            known[each] = after
    found = known.get(node)
    dim = next((dim for dim in (-1, -2) if found is not None and found.ndim > 2 and constant(found, dim)), None)
    return None if found is None or dim is None else found.select(dim, 0)


def step(node: Node, parts: list[Tensor]) -> Tensor | None:
    """Repeat on numbers of positions what a function did to channels; `parts` are those of its arguments that have."""
    numbers = parts[0]
    if node.op in SAME:
        return numbers.expand(node.shape) if numbers.shape == node.shape else None
    if node.op in VIEWS:
        return numbers.reshape(node.shape) if prod(node.shape) == numbers.numel() else None
    if node.op == "linear":
        return numbers[..., :1].expand(node.shape) if constant(numbers, -1) else None
    if node.op == "pad":
        return torch.nn.functional.pad(numbers, node.argument("pad", 1), value=PADDING)
    if node.op == "cat":
        return concatenated(node, numbers) if len(parts) == 1 else None
    if node.op in PARTS or node.op in LARGEST:
        return first_along(node, numbers)
    if node.op == "getitem":
        return numbers[node.args[1]] if is_plain(node.args[1]) else None
    if node.op in MOVES:
        return getattr(torch.Tensor, node.op)(numbers, *node.args[1:], **node.kwargs)
    return numbers.mT if node.op == "mT" else None


def first_along(node: Node, numbers: Tensor) -> Tensor | None:
    """Return the first of equal parts along a dimension, or of numbers that are reduced along it."""
    dim = node.argument("dim", PARTS.get(node.op, 1), 0 if node.op in PARTS else None)
    if not isinstance(dim, int) or not constant(numbers, dim):
        return None
    kept = node.op not in ("unbind", *LARGEST) or bool(node.argument("keepdim", 2, False))
    return numbers.narrow(dim, 0, node.shape[dim]) if kept else numbers.select(dim, 0)


def concatenated(node: Node, numbers: Tensor) -> Tensor | None:
    """Join tokens that are no positions to those that are."""
    tensors, dim = node.argument("tensors", 0), node.argument("dim", 1, 0)
    here = [turn for turn, each in enumerate(tensors) if each is not None]
    more = node.shape[dim] - numbers.shape[dim]
    if len(here) != 1 or len(tensors) != 2:
        return None
    shape = list(node.shape)
    shape[dim] = more
    padding = torch.full(shape, PADDING)
    return torch.cat([numbers, padding] if here[0] == 0 else [padding, numbers], dim)


def constant(numbers: Tensor, dim: int) -> bool:
    """Return True if the numbers do not change along a dimension."""
    return torch.equal(numbers, numbers.narrow(dim, 0, 1).expand_as(numbers))


def is_plain(index: Any) -> bool:
    """Return True for an index of numbers and slices."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(each is None or each is ... or isinstance(each, int | slice) for each in parts)
