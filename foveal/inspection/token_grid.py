"""The map that tokens were made of, from a trial pass: its rows and columns, and the tokens before it.

The map is that of the nearest convolution, pooling or partition into patches behind the tokens; the prefix tokens, such
as a class token and registers, are those that it has not. Nothing is guessed from the number of tokens alone.

Axes: B batch, C channel, H W map, P Q patch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from foveal.inspection.finding.op_names import CONVOLUTIONS, POOLS, REORDERS
from foveal.inspection.finding.trace import Node, behind
from foveal.inspection.position_replay import PADDING, repeated

MAPS = POOLS | set(CONVOLUTIONS)


@dataclass(frozen=True)
class Grid:
    """Rows and columns of the map of some tokens; `why` says why they are unknown, else ""."""

    rows: int = 0
    columns: int = 0
    why: str = ""

    @property
    def positions(self) -> int:
        return self.rows * self.columns


def grid_of_tokens(node: Node) -> Grid:
    """Return the map of the tokens of a node: that behind it whose positions, or parts, they are."""
    return grid_behind(node, lambda cut: is_into_patches(cut, node))


def grid_behind(node: Node, accepts: Callable[[Node], bool] = lambda cut: True) -> Grid:
    """Return the map of the nearest convolution, pooling or partition that a node depends on.

    A partition that is not accepted, such as one into windows, is passed over.
    """
    for here in behind(node):
        if here.op in REORDERS:
            return Grid(why=f"its tokens are reordered by {here.op}")
        found = map_of(here)
        if found is not None and found.positions > 1 and (here.op in MAPS or accepts(here)):
            return found
    return Grid(why="no convolution, pooling or partition into patches comes before its tokens")


def is_into_patches(cut: Node, node: Node) -> bool:
    """Return True if the tokens of a node are the parts of a partition, row by row, after any that are none of them."""
    for tall in partitions(cut.inputs[0].shape, cut.shape):
        rows, columns = cut.shape[tall], cut.shape[tall + 2]
        if rows * columns not in node.shape[-2:] and not joined(node):
            continue
        numbers = torch.arange(rows * columns, dtype=torch.float32).view(rows, 1, columns, *[1] * (3 - tall))
        found = repeated(node, cut, numbers.expand(cut.shape))
        if found is not None:
            before = found.shape[-1] - rows * columns
            expected = torch.cat([torch.full((max(before, 0),), PADDING), torch.arange(float(rows * columns))])
            return before >= 0 and torch.equal(found, expected.expand_as(found))
    return False


def joined(node: Node) -> str:
    """Return where the nearest concatenation puts tokens that do not depend on the image: "before", "after" or ""."""
    for here in behind(node):
        parts = here.argument("tensors", 0)
        if here.op == "cat" and isinstance(parts, tuple) and None in parts:
            return "after" if parts[-1] is None else "before"
    return ""


def map_of(node: Node) -> Grid | None:
    """Return the map that a node makes, None if it makes none."""
    if node.op in MAPS and len(node.shape) == 4:
        return Grid(*node.shape[2:])
    if node.op in ("reshape", "view", "unflatten") and len(node.shape) == 6 and node.inputs:
        cuts = partitions(node.inputs[0].shape, node.shape)
        return Grid(node.shape[cuts[0]], node.shape[cuts[0] + 2]) if cuts else None
    return None


def partitions(image: tuple[int, ...], shape: tuple[int, ...]) -> list[int]:
    """Return the dimension of N in (B, C, N P, M Q) reshaped to (B, C, N, P, M, Q), or the same with the channels last.

    Of sides and channels of 1 or 2, both may fit; of other shapes none.
    """
    if len(image) != 4 or len(shape) != 6:
        return []
    found = []
    for first, channel in ((2, 1), (1, -1)):
        rows, high, columns, wide = shape[first : first + 4]
        if image[first : first + 2] == (rows * high, columns * wide) and image[channel] == shape[channel]:
            found.append(first)
    return found
