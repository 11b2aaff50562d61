"""The maps that the modules of a model return in a pass, for Grad-CAM: tokens with their layout, and activations.

Axes: B batch, N token, C channel.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from foveal.core.layout import Layout
from foveal.inspection.call_sites import CallSite
from foveal.inspection.finding.attention_rules import scores_product
from foveal.inspection.finding.found_places import has_weights
from foveal.inspection.finding.trace import Node
from foveal.inspection.finding.trial import Trial, trial_of
from foveal.inspection.module_paths import innermost
from foveal.inspection.token_layout import layout_of, prefix_names


@dataclass(frozen=True, eq=False)
class LayerMap:
    """What a module returns.

    Attributes:
        path: of the module.
        layout: of tokens (B, N, C), None for another output; `why` says why tokens have none.
        relu: if the model itself applies a ReLU to the output next and to nothing else of it, the site of that call in
            the model's forward pass.
    """

    path: str
    layout: Layout | None
    why: str
    relu: CallSite | None


def layer_maps(model: nn.Module, images: Tensor) -> tuple[Trial, dict[str, LayerMap]]:
    """Return a trial pass over images, and the last map that each module returns in it, by path."""
    trial = trial_of(innermost(model), (images,), {})
    named = prefix_names(model)
    users: dict[Node, list[Node]] = {}
    for node in trial.nodes:
        for each in set(node.inputs):
            users.setdefault(each, []).append(node)
    return trial, {path: layer_map(path, node, users.get(node, []), named) for path, node in trial.outputs}


def layer_map(path: str, node: Node, users: list[Node], named: tuple[str, ...]) -> LayerMap:
    tokens = len(node.shape) == 3
    layout, why = layout_of(node, node.shape[1], named) if tokens else (None, "")
    relu = next((user.site(0) for user in users if user.op == "relu" and functional(user)), None)
    return LayerMap(path, layout, why, relu if len(users) == 1 else None)


def functional(call: Node) -> bool:
    """Return True for a function that no module of its own calls."""
    return bool(call.frames) and (len(call.frames) == 1 or has_weights(call.frames[-1].module))


def last_tokens(trial: Trial, maps: dict[str, LayerMap]) -> LayerMap | None:
    """Return the last tokens on which all positions count, None if there are none.

    With prefix tokens, from which a classifier reads, these are the last tokens before the last attention, such as the
    output of the norm in front of it; without, the last tokens.
    """
    laid = [(maps[path], node) for path, node in trial.outputs if path and maps[path].layout is not None]
    scores = [node for node in trial.nodes if node.op == "softmax" and (node.fused or scores_product(node))]
    prefixed = laid and laid[-1][0].layout.num_prefix_tokens  # type: ignore[union-attr]
    if prefixed and scores:
        last = scores[-1]
        within = [frame.path for frame in last.frames[1:]][-1:]
        laid = [
            (each, node)
            for each, node in laid
            if node.order < last.order and not any(each.path.startswith(f"{path}.") for path in within)
        ]
    return laid[-1][0] if laid else None


def on_map(tokens: Tensor, layout: Layout) -> Tensor:
    """Reshape tokens (B, N, C) to a map (B, C, rows, columns), without the prefix tokens."""
    return layout.map(tokens.mT)
