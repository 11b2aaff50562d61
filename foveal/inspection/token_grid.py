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


def grid_behind(node: Node, count: int | None = None) -> Grid:
    """Return the map of the nearest convolution, pooling or partition into patches that a node depends on.

    Where the number of its tokens is given, a partition into other than `count` parts, or fewer where a concatenation
    joins tokens, is one into windows, and is passed over.
    """
    waiting, seen = [(-node.order, id(node), node)], {node}
    while waiting:
        here = heappop(waiting)[2]
        if here.op in REORDERS:
            return Grid(why=f"its tokens are reordered by {here.op}")
        found = map_of(here)
        if found is not None and found.positions > 1 and (here.op in MAPS or fits(found, node, count)):
            return found
        for before in here.inputs:
            if before not in seen:
                seen.add(before)
                heappush(waiting, (-before.order, id(before), before))
    return Grid(why="no convolution, pooling or partition into patches comes before its tokens")


def fits(grid: Grid, node: Node, count: int | None) -> bool:
    """Return True if `count` tokens are the positions of a map, perhaps with others joined to them; None: any."""
    return count in (None, grid.positions) or (count is not None and grid.positions < count and joined(node) != "")


def joined(node: Node) -> str:
    """Return where the nearest concatenation puts tokens that do not depend on the image: "before", "after" or ""."""
    seen, waiting = {node}, [node]
    while waiting:
        here = max(waiting, key=lambda each: each.order)
        waiting.remove(here)
        parts = here.argument("tensors", 0)
        if here.op == "cat" and isinstance(parts, tuple) and None in parts:
            return "after" if parts[-1] is None else "before"
        new = [each for each in here.inputs if each not in seen]
        seen.update(new)
        waiting += new
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
