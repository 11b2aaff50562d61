"""Follow squashed values through a trial pass to the products in which they weigh a map.

A source is the output of a sigmoid, a hard sigmoid or a softmax that depends on the image, or a fused attention. Its
values stay weights through changes of shape, constants, resampling, dropout, sums and products with other weights. The
use of a source is a product with a tensor that depends on the image and is no weight itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import inf

from foveal.inspection.finding.op_names import AFFINE, EXPANDS, MIXERS, PARTS, PRODUCTS, RESAMPLES, SCALES, SHAPES
from foveal.inspection.finding.trace import Node


@dataclass(eq=False)
class Source:
    """Weights of a trial pass.

    Attributes:
        squash: the sigmoid, hard sigmoid, softmax or fused attention.
        tap: the call whose output is read: `squash`, or the last that scales it or mixes its heads.
        family: "sigmoid" or "softmax".
        value_range: smallest and largest possible value at `tap`.
    """

    squash: Node
    tap: Node
    family: str
    value_range: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Carried:
    """A tensor that carries a source: its shape before it was expanded, and what happened on the way."""

    source: Source
    shape: tuple[int, ...]
    moved: bool = False  # dimensions changed their order
    parts: bool = False  # it is a part of the weights


@dataclass(frozen=True, eq=False)
class Use:
    """A product of weights with what they weigh; `other` is None for a fused attention."""

    carried: Carried
    product: Node
    other: Node | None
    summed: bool  # a matrix product, that sums over what it weighs


@dataclass
class Flow:
    """Sources and their uses in a trial pass."""

    uses: list[Use] = field(default_factory=list)
    carried: dict[Node, list[Carried]] = field(default_factory=dict)


def follow(nodes: list[Node]) -> Flow:
    """Return all uses of sources, in the order of the calls."""
    flow = Flow()
    for node in nodes:
        kept = source_of(node)
        if kept is not None and node.fused:
            flow.uses.append(Use(kept, node, None, True))
        elif kept is not None:
            flow.carried[node] = [kept]
        else:
            flow.uses += uses_in(node, flow.carried)
            if passed := list(passed_on(node, flow.carried)):
                flow.carried[node] = passed
        if node.shown:  # a Tap records it
            flow.carried.pop(node, None)
    return flow


def source_of(node: Node) -> Carried | None:
    """Return the source that starts at a node, if one does."""
    if not node.inputs:
        return None
    if node.op in ("sigmoid", "hardsigmoid"):
        return Carried(Source(node, node, "sigmoid"), node.shape)
    if node.op == "softmax":
        return Carried(Source(node, node, "softmax"), node.shape)
    if high := upper_bound(node):
        return Carried(Source(node, node, "sigmoid", (0.0, high)), node.shape)
    return None


def upper_bound(node: Node) -> float:
    """Return 1 or 6 for a clamp from 0 that is the hard sigmoid of a sum with a constant, else 0."""
    before = node.inputs[0]
    if node.op == "relu6":
        low, high = 0.0, 6.0
    elif node.op in ("clamp", "hardtanh"):
        low = node.argument("min", 1, node.kwargs.get("min_val", -1.0))
        high = node.argument("max", 2, node.kwargs.get("max_val", 1.0))
    else:
        return 0.0
    shifted = before.op == "add" and len(before.inputs) == 1
    fits = low == 0 and (high == 1 or (high == 6 and shifted))
    return float(high) if fits else 0.0


def uses_in(node: Node, carried: dict[Node, list[Carried]]) -> Iterator[Use]:
    """Yield the uses of weights in a product with something that depends on the image and is no weight."""
    if node.op not in PRODUCTS | {"mul"} or len(node.inputs) != 2:
        return
    for weights, other in (node.inputs, node.inputs[::-1]):
        if weights in carried and other not in carried and weights is not other:
            for each in carried[weights]:
                if node.op == "mul" or each.source.family == "softmax":
                    yield Use(each, node, other, node.op != "mul")


def passed_on(node: Node, carried: dict[Node, list[Carried]]) -> Iterator[Carried]:
    """Yield what a node carries of its inputs."""
    held = [each for each in node.inputs if each in carried]
    if not held or len(held) != len(node.inputs):
        return
    for each in (each for source in dict.fromkeys(held) for each in carried[source]):
        if node.op in SHAPES:
            yield reshaped(each, node)
        elif node.op in RESAMPLES:
            yield replace(each, shape=node.shape)
        elif node.op in AFFINE and len(held) == 1:
            yield scaled(each, node)
        elif node.op in AFFINE and held[0] is not held[-1]:
            yield each
        elif node.op in MIXERS and len(held) == 1 and is_mixed(each, node):
            each.source.tap, each.source.value_range = node, (-inf, inf)
            yield replace(each, shape=node.shape)


def reshaped(carried: Carried, node: Node) -> Carried:
    """Return weights after a change of shape; expanded dimensions keep the size 1."""
    if node.op in EXPANDS:
        added = len(node.shape) - len(carried.shape)
        return replace(carried, shape=(1,) * added + carried.shape) if added >= 0 else carried
    before = [size for size in carried.shape if size > 1]
    after = [size for size in node.shape if size > 1]
    orders = node.op in ("transpose", "permute", "movedim", "moveaxis", "swapaxes", "swapdims", "mT", "T", "t")
    moved = carried.moved or (orders and moves(carried.shape, node))
    return replace(
        carried, shape=node.shape, moved=moved, parts=carried.parts or (node.op in PARTS and before != after)
    )


def moves(shape: tuple[int, ...], node: Node) -> bool:
    """Return True if the order of dimensions of more than one element changes."""
    order = list(range(len(shape)))
    if node.op == "permute":
        given = node.args[1] if isinstance(node.argument("dims", 1), tuple) else node.args[1:]
        order = [each % len(shape) for each in node.kwargs.get("dims", given)]
    elif node.op in ("transpose", "swapaxes", "swapdims"):
        first, second = (node.argument(f"dim{turn}", turn + 1) for turn in (0, 1))
        order[first], order[second] = order[second], order[first]
    else:
        order[-2:] = order[-2:][::-1] if node.op in ("mT", "T", "t") else order[-2:]
    kept = [each for each in order if shape[each] > 1]
    return kept != sorted(kept)


def scaled(carried: Carried, node: Node) -> Carried:
    """Return weights after a constant; one that scales them to at most 1 belongs to the hard sigmoid."""
    source = carried.source
    if node.op in SCALES and source.value_range[1] == 6 and source.tap is source.squash:
        source.tap, source.value_range = node, (0.0, 1.0)
    return carried


def is_mixed(carried: Carried, node: Node) -> bool:
    """Return True for constants that mix the heads of an affinity without a change of its shape."""
    same = node.shape == carried.shape and len(node.shape) >= 4
    return carried.source.family == "softmax" and same
