"""Layouts of the queries and keys of each affinity in a pass over a model, as the pass itself shows them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from foveal.core.layout import Layout, Tokens, Windows
from foveal.inspection.batch import batch_of_shapes
from foveal.inspection.finding.attention_rules import scores_product
from foveal.inspection.finding.trace import Node
from foveal.inspection.finding.trial import Trial
from foveal.inspection.module_paths import unwrapped_modules
from foveal.inspection.tap_points import TapPoint
from foveal.inspection.token_grid import grid_of_tokens, joined
from foveal.inspection.window_positions import windows_of

PREFIXES = {  # attributes of models, and the names of the tokens that they hold
    "class token": ("cls_token", "class_token", "class_embedding", "cls_embedding"),
    "distillation token": ("dist_token", "distillation_token"),
    "register": ("reg_token", "register_tokens", "registers"),
}


def layouts_in(model: nn.Module, trial: Trial, places: Mapping[str, TapPoint]) -> dict[str, list[Tokens]]:
    """Return the layouts of each affinity by path, one for each call of its module in a pass."""
    paths = {id(module): path for path, module in unwrapped_modules(model).items()}
    wanted: dict[str, list[TapPoint]] = {}
    for place in places.values():
        if place.facts.kind == "affinity":
            wanted.setdefault(paths[id(place.module)], []).append(place)
    named = prefix_names(model)
    found: dict[str, list[Tokens]] = {}
    seen: dict[str, list[Any]] = {}
    batch = batch_of_shapes([node.shape for node in trial.nodes if node.op == "input" and node.shape]) or 0
    for node in trial.nodes:
        for depth, frame in enumerate(node.frames if node.op == "softmax" and len(node.shape) > 1 else ()):
            for place in wanted.get(frame.path, ()):
                known = seen.setdefault(place.path, [])
                if is_of(node, depth, place) and not any(frame is each for each in known):
                    known.append(frame)
                    found.setdefault(place.path, []).append(tokens_of(node, named, batch))
    return found


def is_of(softmax: Node, depth: int, place: TapPoint) -> bool:
    """Return True if a softmax in the forward pass of a place's module, the frame at `depth`, may be that of the place.

    Of several softmaxes of one module, a place that was found in a trial pass has one.
    """
    site = None if place.spec is None or place.spec.module_or_op != "softmax()" else place.spec.site
    return site is None or (site.steps, site.turn) == (softmax.steps[depth], softmax.turns[depth])


def tokens_of(softmax: Node, named: tuple[str, ...], batch: int) -> Tokens:
    """Return the layouts of the queries and keys of a softmax or a fused attention in a pass of `batch` images."""
    (queries, _), (keys, why) = (
        placed(node, count_of(softmax, which), named, batch) for which, node in enumerate(queries_and_keys(softmax))
    )
    return Tokens(queries, keys, why)


def placed(node: Node | None, count: int, named: tuple[str, ...], batch: int) -> tuple[Layout | Windows | None, str]:
    """Return the layout of `count` tokens of whole images or of windows of them, or None and the reason."""
    windows = None if node is None else windows_of(node, batch)
    return layout_of(node, count, named) if windows is None else (windows, "")


def queries_and_keys(softmax: Node) -> tuple[Node | None, Node | None]:
    """Return the nodes of queries and keys, None for those that do not depend on the image."""
    if softmax.fused:
        first, second = (softmax.argument(name, turn) for turn, name in enumerate(("query", "key")))
        return (first if isinstance(first, Node) else None), (second if isinstance(second, Node) else None)
    product = scores_product(softmax)
    if product is None or not product.inputs:
        return None, None
    two = product.inputs if len(product.inputs) > 1 else (None, product.inputs[0])
    return two[0], two[1]


def count_of(softmax: Node, which: int) -> int:
    """Return the number of queries (0) or keys (1) of a softmax."""
    if not softmax.fused:
        return softmax.shape[which - 2]
    node = softmax.argument(("query", "key")[which], which)
    many = "embed_dim_to_check" in softmax.kwargs or len(softmax.args) > 8  # torch's multi_head_attention_forward
    return node.shape[0 if many else -2] if isinstance(node, Node) else 0


def layout_of(node: Node | None, count: int, named: tuple[str, ...]) -> tuple[Layout | None, str]:
    """Return the layout of `count` tokens of whole images, or None and the reason."""
    if node is None:
        return None, "its tokens do not depend on the image"
    grid = grid_of_tokens(node)
    before = count - grid.positions
    if grid.why:
        return None, grid.why
    if before < 0:
        return None, f"its {count} tokens are fewer than the {grid.rows}x{grid.columns} map behind them"
    where = joined(node) if before else ""
    if before and where != "before":
        of_map = f"those of its {grid.rows}x{grid.columns} map"
        return None, f"tokens follow {of_map}" if where else f"its {count} tokens are more than {of_map}"
    laid = laid_on(count, (grid.rows, grid.columns))
    return replace(laid, names=named) if laid and len(named) == before else laid, ""


def prefix_names(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the prefix tokens that a model's attributes hold, in their usual order."""
    names: list[str] = []
    for name, attributes in PREFIXES.items():
        tensor = next((each for each in (first_tensor(model, a) for a in attributes) if each is not None), None)
        count = 0 if tensor is None else tensor.shape[-2] if tensor.ndim > 1 else 1
        names += [name] if count == 1 and name != "register" else [f"{name} {turn + 1}" for turn in range(count)]
    return tuple(names)


def first_tensor(model: nn.Module, attribute: str) -> Any:
    """Return the first parameter of that name in a model, None if there is none."""
    parameters = (getattr(module, "_parameters", {}).get(attribute) for module in model.modules())
    return next((each for each in parameters if each is not None), None)


def check_grid(grid: Any) -> tuple[int, int] | None:
    """Return the rows and columns that a caller gave, None for None; ValueError for anything else."""
    if grid is None:
        return None
    if not isinstance(grid, tuple | list) or len(grid) != 2 or not all(type(n) is int and n > 0 for n in grid):
        raise ValueError(f"grid={grid!r:.80}: rows and columns of the map of tokens are needed, as (14, 14)")
    return grid[0], grid[1]


def on_grid(tokens: Tokens | None, counts: tuple[int, int], grid: tuple[int, int]) -> Tokens:
    """Return the layouts of queries and keys, of which `counts` are the numbers; unknown ones on the given grid."""
    shown = (tokens.queries, tokens.keys) if tokens else (None, None)
    queries, keys = (known or laid_on(count, grid) for known, count in zip(shown, counts, strict=True))
    positions = grid[0] * grid[1]
    why = "" if keys else f"its {counts[1]} tokens are fewer than the {positions} of grid={grid}"
    return Tokens(queries, keys, why)


def laid_on(count: int, grid: tuple[int, int]) -> Layout | None:
    """Return the layout of `count` tokens, the last ones on a grid; None for too few."""
    before = count - grid[0] * grid[1]
    return Layout(before, *grid, tuple(f"token {turn + 1}" for turn in range(before))) if before >= 0 else None
