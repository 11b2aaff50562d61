"""Rules that tell attention from activations, gated linear units and classifiers in a trial pass.

- affinity: a softmax over products of queries and keys, multiplied into values; fused attention.
- pooling: another softmax that sums values: a mask over their positions.
- gate or mask: a sigmoid, hard sigmoid or softmax of a reduced or convolved form of a map that multiplies the map
  ("self"), or a map made of the same one ("cross").
- selection: a softmax over branches that weighs their maps.

No attention: a sigmoid of the very tensor that it multiplies, after changes of shape, constants, activations and norms
(Swish, GLU); of a convolution or linear layer beside a like one that it multiplies (GLU); a softmax without a product.
"""

from heapq import heappop, heappush

from foveal.inspection.finding.op_names import ADDS, AFFINE, CONVOLUTIONS, POINTWISE, PRODUCTS, RESAMPLES, SHAPES, WIDE
from foveal.inspection.finding.trace import Node
from foveal.inspection.finding.weights_flow import Use

SCORES_BACK = 40  # calls between the product of queries and keys and its softmax, at most


def is_attention(use: Use) -> bool:
    """Return True if a use of squashed values is attention."""
    source = use.carried.source
    if use.other is None:
        return True
    if source.family == "softmax" and use.summed:
        return scores_product(source.squash) is not None or weighs_its_map(use)
    return weighs_its_map(use)


def scores_product(softmax: Node) -> Node | None:
    """Return the product of queries and keys behind a softmax, if there is one."""
    waiting = list(softmax.inputs[:1])
    seen: set[Node] = set()
    while waiting and len(seen) < SCORES_BACK:
        node = waiting.pop(0)
        if node in seen:
            continue
        seen.add(node)
        if node.op in PRODUCTS and is_affinity_product(node):
            return node
        if node.op in SHAPES | AFFINE | RESAMPLES | {"masked_fill", "where", "maximum", "clamp", "cat", "relu", "tanh"}:
            waiting += node.inputs
        elif node.op in (*CONVOLUTIONS, "linear", "einsum", "matmul", "batch_norm") and len(node.inputs) == 1:
            waiting += node.inputs  # talking heads
    return None


def is_affinity_product(node: Node) -> bool:
    """Return True for a product of two tensors of the image, or of learned queries with keys of the image."""
    return len(node.inputs) >= 2 or (node.op in ("matmul", "einsum", "bmm") and any(len(s) > 2 for s in node.constants))


def weighs_its_map(use: Use) -> bool:
    """Return True if the weights are a reduced or convolved form of what they weigh, or of what that is made of."""
    other = use.other
    if other is None or not use.carried.source.squash.inputs:
        return False
    scores, weighed = stripped(use.carried.source.squash.inputs[0]), stripped(other)
    if scores is weighed:
        return False
    shared, mixed, wide = nearest_shared(scores, weighed)
    if shared is None:
        return False
    if shared is weighed:
        return mixed
    return wide and not alike(scores, weighed)


def stripped(node: Node) -> Node:
    """Return the node before changes of shape, constants, activations and norms."""
    while len(node.inputs) == 1 and node.op in SHAPES | AFFINE | POINTWISE | RESAMPLES:
        node = node.inputs[0]
    return node


def nearest_shared(scores: Node, weighed: Node) -> tuple[Node | None, bool, bool]:
    """Return the latest node that both are made of, and whether a way from it to the scores mixes values.

    Returns:
        The shared node, or None; True if a way mixes values at all; True if one mixes positions.
    """
    found: dict[Node, list[bool]] = {scores: [True, False, False, False], weighed: [False, True, False, False]}
    if scores is weighed:
        return scores, False, False
    waiting = [(-scores.order, id(scores), scores), (-weighed.order, id(weighed), weighed)]
    waiting.sort()
    while waiting:
        node = heappop(waiting)[2]
        from_scores, from_weighed, mixed, wide = found[node]
        if from_scores and from_weighed:
            return node, mixed, wide
        for before in node.inputs:
            if before not in found:
                found[before] = [False, False, False, False]
                heappush(waiting, (-before.order, id(before), before))
            marks = found[before]
            marks[0], marks[1] = marks[0] or from_scores, marks[1] or from_weighed
            if from_scores:
                marks[2] = marks[2] or mixed or mixes(node)
                marks[3] = marks[3] or wide or is_wide(node)
    return None, False, False


def mixes(node: Node) -> bool:
    """Return True for a function that makes a value of several others."""
    return node.op not in SHAPES | AFFINE | POINTWISE | RESAMPLES | ADDS | {"cat", "stack", "input", "where", "setitem"}


def is_wide(node: Node) -> bool:
    """Return True for a function that makes a value of several positions."""
    if node.op in CONVOLUTIONS:
        return any(side > 1 for shape in node.constants for side in shape[2:])
    return node.op in WIDE


def alike(scores: Node, weighed: Node) -> bool:
    """Return True for two layers of the same shape, of the same input: the halves of a gated linear unit."""
    layers = (*CONVOLUTIONS, "linear", "matmul")
    same = scores.op == weighed.op and scores.op in layers and scores.constants == weighed.constants
    alone = len(scores.inputs) == len(weighed.inputs) == 1
    return same and alone and stripped(scores.inputs[0]) is stripped(weighed.inputs[0])
