"""Obstacles of gradients: why none reaches a layer, although the answer may depend on it."""

from collections.abc import Iterator

from torch import Tensor
from torch.autograd.graph import Node

REENTRANT = "torch.utils.checkpoint with use_reentrant=True hides layers from it; use_reentrant=False is needed"
NOT_DIFFERENTIABLE = "a part of the model has no backward pass, as a quantized layer"
NO_GRADIENT = "the answer has no gradient at all, as under no_grad(), after detach() or of quantized layers"
INFERENCE = "the model's weights were made under torch.inference_mode; make or load it outside"
OBSTACLES = {"CheckpointFunctionBackward": REENTRANT, "WarnNotImplemented": NOT_DIFFERENTIABLE}  # by nodes of a graph


def obstacles(answer: Tensor, leaf: Tensor | None = None) -> list[str]:
    """Return why gradients of an answer may be missing where it depends on a tensor, empty if nothing speaks for that.

    Args:
        answer: with its graph.
        leaf: the tensor whose gradient is wanted; None for any.
    """
    found = [] if answer.requires_grad else [NO_GRADIENT]
    for node in nodes_from(answer.grad_fn):
        why = next((why for name, why in OBSTACLES.items() if name in node.name()), None)
        if why and why not in found and (leaf is None or any(holds(each, leaf) for each in nodes_from(node))):
            found.append(why)
    return found


def holds(node: Node, leaf: Tensor) -> bool:
    """Return True for the node at which the gradient of a leaf arrives."""
    return getattr(node, "variable", None) is leaf


def nodes_from(start: Node | None) -> Iterator[Node]:
    """Yield the nodes of a graph from one to its leaves, each once."""
    stack, seen = [start], set()
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            stack += [each for each, _ in node.next_functions]
