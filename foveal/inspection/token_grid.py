"""The map that tokens were made of, from a trial pass: its rows and columns, and the tokens before it.

The map is that of the nearest convolution, pooling or partition into patches behind the tokens; the prefix tokens, such
as a class token and registers, are those that it has not. Nothing is guessed from the number of tokens alone.

Axes: B batch, C channel, H W map, P Q patch.
"""

from dataclasses import dataclass
from heapq import heappop, heappush

from foveal.inspection.finding.op_names import CONVOLUTIONS, POOLS, REORDERS
from foveal.inspection.finding.trace import Node

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


def grid_behind(node: Node) -> Grid:
    """Return the map of the nearest convolution, pooling or partition into patches that a node depends on."""
    waiting, seen = [(-node.order, id(node), node)], {node}
    while waiting:
        here = heappop(waiting)[2]
        if here.op in REORDERS:
            return Grid(why=f"its tokens are reordered by {here.op}")
        if (found := map_of(here)) is not None and found.positions > 1:
            return found
        for before in here.inputs:
            if before not in seen:
                seen.add(before)
                heappush(waiting, (-before.order, id(before), before))
    return Grid(why="no convolution, pooling or partition into patches comes before its tokens")


def map_of(node: Node) -> Grid | None:
    """Return the map that a node makes, None if it makes none."""
    if node.op in MAPS and len(node.shape) == 4:
        return Grid(*node.shape[2:])
    if node.op in ("reshape", "view", "unflatten") and len(node.shape) == 6 and node.inputs:
        return partition(node.inputs[0].shape, node.shape)
    return None


def partition(image: tuple[int, ...], shape: tuple[int, ...]) -> Grid | None:
    """Return H, W of (B, C, H P, W Q) reshaped to (B, C, H, P, W, Q), or the same with the channels last."""
    if len(image) != 4:
        return None
    for first, tall in ((2, 2), (1, 1)):
        rows, high, columns, wide = shape[first : first + 4]
        if rows * high == image[tall] and columns * wide == image[tall + 1]:
            return Grid(rows, columns)
    return None
