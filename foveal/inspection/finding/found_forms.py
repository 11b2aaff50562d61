"""Axes of weights that a trial pass found, and the reshape from the raw tensor to them.

Axes: B batch, C channel, H W map, K branch or key, G head, N window, Q query.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor

from foveal.core.record import Domain, Kind
from foveal.inspection.adapters import Call, Form, NotRecordable
from foveal.inspection.finding.attention_rules import scores_product
from foveal.inspection.finding.trace import Node
from foveal.inspection.finding.weights_flow import Use
from foveal.inspection.token_grid import Grid

CHANNELS_FIRST: dict[tuple[int, ...], tuple[Kind, Domain, str]] = {  # dimensions of (B, C, H, W) that the weights have
    (): ("gate", "channel", "B C"),
    (1,): ("gate", "channel", "B C"),
    (2, 3): ("mask", "spatial", "B H W"),
    (1, 2): ("gate", "mixed", "B C H"),
    (1, 3): ("gate", "mixed", "B C W"),
    (1, 2, 3): ("gate", "mixed", "B C H W"),
}
CHANNELS_LAST: dict[tuple[int, ...], tuple[Kind, Domain, str]] = {  # of (B, H, W, C)
    (): ("gate", "channel", "B C"),
    (3,): ("gate", "channel", "B C"),
    (1, 2): ("mask", "spatial", "B H W"),
}


@dataclass(frozen=True)
class Meaning:
    """What weights mean: kind, domain, axes, and the reshape to them; or why they have none of the axes."""

    kind: Kind = "gate"
    domain: Domain = "channel"
    axes: str = ""
    form: Form | None = None
    why: str = ""


def meaning(use: Use, grid: Grid) -> Meaning:
    """Return what the weights of a use mean."""
    source = use.carried.source
    if source.tap.fused or (use.summed and scores_product(source.squash) is not None):
        return affinity_meaning(use, grid)
    if use.carried.moved:
        return Meaning(why="the dimensions of its weights change their order before they weigh a map")
    if use.summed:
        return pooling_meaning(use)
    if source.family == "softmax" and (use.carried.parts or len(use.product.shape) == 5):
        return selection_meaning(source.tap, softmax_dim(source.squash))
    if use.carried.parts:
        return Meaning(why="parts of its weights weigh different maps")
    return gate_meaning(use, grid)


def softmax_dim(softmax: Node) -> int:
    """Return the dimension over which a softmax sums to 1, from 0."""
    if softmax.fused:
        return len(softmax.shape) - 1
    dim = softmax.argument("dim", 1)
    if not isinstance(dim, int):
        return 0 if len(softmax.shape) in (0, 1, 3) else 1  # torch's own default
    return dim % len(softmax.shape)


def affinity_meaning(use: Use, grid: Grid) -> Meaning:
    source = use.carried.source
    dim = softmax_dim(source.squash)
    if dim != len(source.tap.shape) - 1:
        return Meaning(
            "affinity", why=f"its softmax runs over dimension {dim} of {len(source.tap.shape)}, not the keys"
        )
    domain = domain_of(source.squash, grid)
    whole = 1 < grid.positions <= source.tap.shape[-2] or domain == "channel"
    heads = 0 if whole else heads_of(source.tap)
    return Meaning("affinity", domain, "B G Q K", lambda raw, call: queries_keys(raw, call, heads))


def domain_of(softmax: Node, grid: Grid) -> Domain:
    """Return "channel" if queries and keys are channels: what they are compared over are the positions of the map."""
    scores = softmax if softmax.fused else scores_product(softmax)
    if scores is None or not scores.inputs or grid.positions < 2:
        return "spatial"
    compared = (
        summed_over(scores.args[0], scores.inputs[0].shape) if scores.op == "einsum" else scores.inputs[0].shape[-1]
    )
    keys = softmax.argument("key", 1) if softmax.fused else None
    count = keys.shape[-2] if isinstance(keys, Node) else softmax.shape[-1]
    return "channel" if compared == grid.positions != count else "spatial"


def summed_over(equation: str, shape: tuple[int, ...]) -> int:
    """Return the size over which an einsum of two tensors, of which `shape` is the first, sums; 0 if it is not one."""
    first, _, rest = equation.replace(" ", "").partition(",")
    second, _, result = rest.partition("->")
    letters = [each for each in first if each in second and each not in result]
    return shape[first.index(letters[0]) - len(first)] if len(letters) == 1 else 0


def heads_of(tap: Node) -> int:
    """Return the number of heads that the module of the call says, or 1."""
    module: Any = tap.frames[-1].module if tap.frames else None
    names = ("num_heads", "num_attention_heads", "heads", "n_heads", "n_head", "num_head")
    return next((value for name in names if isinstance(value := getattr(module, name, None), int)), 1)


def queries_keys(raw: Tensor, call: Call, heads: int) -> Tensor:
    """Reshape (B, G, Q, K), (B N, G, Q, K), (B G, Q, K) or (B N, Q, K) to (B, G, Q, K) or (B, N, G, Q, K).

    `heads` is G, or 0 where all queries of an image are in one row, so that N is 1.
    """
    batch = call.batch or len(raw)
    if raw.ndim < 3 or len(raw) % batch:
        raise NotRecordable(f"its weights of shape {tuple(raw.shape)} are not those of {batch} images")
    parts = len(raw) // batch
    if raw.ndim == 3 and (parts in (1, heads) or not heads):
        return raw.unflatten(0, (batch, parts))
    if raw.ndim == 3 and heads > 1:
        raise NotRecordable(f"the {parts} rows of each image are no {heads} heads; heads and windows share a dimension")
    if raw.ndim == 3:
        return raw.reshape(batch, parts, 1, *raw.shape[1:])
    if raw.ndim == 4:
        return raw if parts == 1 else raw.unflatten(0, (batch, parts))
    return raw.reshape(batch, -1, *raw.shape[-3:])


def pooling_meaning(use: Use) -> Meaning:
    """Return a mask over the positions that are summed, or an affinity of its few queries to them."""
    tap = use.carried.source.tap
    if prod(tap.shape[1:]) > tap.shape[softmax_dim(use.carried.source.squash)]:
        last = softmax_dim(use.carried.source.squash) == len(tap.shape) - 1
        if last and len(tap.shape) in (3, 4):
            return Meaning("affinity", "spatial", "B G Q K", lambda raw, call: queries_keys(raw, call, 1))
        return Meaning(
            "mask", "spatial", why=f"its weights {tap.shape} sum values with several softmaxes for each image"
        )
    return Meaning("mask", "spatial", "B H W", over_positions)


def over_positions(raw: Tensor, call: Call) -> Tensor:
    """Reshape the weights of all positions of the module's map (B, C, H, W), or (B, H, W, C), to (B, H, W)."""
    shape = tuple(call.x.shape) if isinstance(call.x, Tensor) else ()
    count = raw.numel() // len(raw)
    for rows, columns in (shape[2:], shape[1:3]) if len(shape) == 4 else ():
        if rows * columns == count:
            return raw.reshape(len(raw), rows, columns)
    raise NotRecordable(
        f"its weights of {count} positions belong to no map of the module, {shape or 'which takes none'}"
    )


def selection_meaning(tap: Node, dim: int) -> Meaning:
    """Return a selection among branches, which are dimension 1 or follow dimensions of one element."""
    if prod(tap.shape[1:dim]) != 1 or dim == 0:
        return Meaning("selection", why=f"its branches are dimension {dim} of {tap.shape}; they must be the first")
    return Meaning("selection", "channel", "B K C", lambda raw, call: raw.reshape(len(raw), raw.shape[dim], -1))


def gate_meaning(use: Use, grid: Grid) -> Meaning:
    """Return the meaning of weights by the dimensions of the weighed map along which they differ."""
    shape = (1,) * (len(use.product.shape) - len(use.carried.shape)) + use.carried.shape
    varies = tuple(index for index, size in enumerate(shape) if index and size > 1)
    raw = use.carried.source.tap.shape
    if len(shape) in (2, 3) and varies in ((1,), (2,), ()):
        tokens = len(shape) == 3 and varies == (1,) and use.product.shape[1] >= grid.positions > 1
        return (
            Meaning("mask", "spatial", why="a mask over tokens") if tokens else gate_of(("gate", "channel", "B C"), raw)
        )
    if len(shape) == 5 and varies in ((1,), (1, 2)):  # a volume, or channels in groups
        return gate_of(("gate", "channel", "B C"), raw)
    last = len(shape) == 4 and is_channels_last(use.product.shape, varies, grid)
    known = (CHANNELS_LAST if last else CHANNELS_FIRST).get(varies) if len(shape) == 4 else None
    if known is None:
        return Meaning(why=f"weights {tuple(shape)} of a map {use.product.shape} have no axes of a Record")
    return gate_of(known, raw)


def is_channels_last(shape: tuple[int, ...], varies: tuple[int, ...], grid: Grid) -> bool:
    """Return True for a map (B, H, W, C): its first dimensions are those of the map behind it."""
    sides = (grid.rows, grid.columns)
    return varies == (3,) or (shape[1:3] == sides and shape[2:] != sides)


def gate_of(known: tuple[Kind, Domain, str], raw: tuple[int, ...]) -> Meaning:
    """Return the meaning with the reshape that keeps the last dimensions of more than one element."""
    sides = len(known[2].split()) - (1 if known[0] == "mask" else 2)  # dimensions after B, or B and C
    kept = [index for index, size in enumerate(raw) if index and size > 1][-sides or len(raw) :]
    if len(kept) < sides:
        return Meaning(*known, why=f"its weights {raw} do not show which of their dimensions are a map")
    masks = known[0] == "mask"

    def form(weights: Tensor, call: Call) -> Tensor:
        shape = [weights.shape[index] for index in kept]
        batch = call.batch if call.batch and not len(weights) % call.batch and not masks else len(weights)
        if masks and weights.numel() != len(weights) * prod(shape):
            raise NotRecordable(f"its weights of shape {tuple(weights.shape)} are not a mask of each image")
        return weights.reshape(batch, *(() if masks else (-1,)), *shape)

    return Meaning(*known, form=form)
