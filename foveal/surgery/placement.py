"""Module paths at which attention is attached: by default, between stages, or by a pattern."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from foveal.core.names import unknown_name_error
from foveal.surgery.blocks import BLOCKS, CHAINS, KnownBlock, known_block, row_of
from foveal.surgery.insertion_points import module_paths

At = str | Iterable[str] | Callable[[str, nn.Module], bool]


def default_paths(model: nn.Module, stages: bool = True) -> list[str]:
    """Return every known block, or the activations of a chain; in a timm model without any, the ends of stages.

    Args:
        model: the network.
        stages: True to use the ends of stages as well.

    Raises:
        ValueError: there is none of these.
    """
    present = {path: model.get_submodule(path) for path in ("", *module_paths(model))}
    chains = [(path, row_of(module, CHAINS)) for path, module in present.items()]
    for path, chain in chains:
        if chain is not None:
            return activations(model, f"{path}.{chain}".lstrip("."))
    stage_ends = [info["module"] for info in getattr(model, "feature_info", None) or []] if stages else []
    blocks = [path for path, module in present.items() if known_block(module)]
    found = blocks or [path for path in stage_ends if path in present]
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no known block: give the place by at=, a pattern such as 'layer4.*'"
            + (", or 'residual'" if stages else "")
        )
    return found


def activations(model: nn.Module, chain: str) -> list[str]:
    """Return the last layer before each convolution but the first, before each pooling, and before the end."""
    layers = [(name, layer) for name, layer in model.get_submodule(chain)._modules.items() if layer is not None]
    pools = {name for name, layer in layers if "Pool" in type(layer).__name__}
    starts = {name for name, layer in layers if isinstance(layer, nn.Conv2d)} | pools
    ends = [name for (name, _), (following, _) in pairwise(layers) if following in starts]
    return [f"{chain}.{name}" for name in [*ends, layers[-1][0]] if name not in pools]


@dataclass(frozen=True)
class SupportedPlacement:
    """Places for attention in a family's blocks, as `foveal list --places` prints them.

    Attributes:
        family: library and file of the blocks.
        blocks: class names of the blocks.
        end: end of the branch.
        convolution: modules that a selective kernel can replace.
        positions: positions that the blocks have.
    """

    family: str
    blocks: str
    end: str
    convolution: str
    positions: str


def list_placements() -> list[SupportedPlacement]:
    """List the places of every known block, grouped within a family, and those of the networks that are chains."""
    alike: dict[tuple[str, KnownBlock], list[str]] = {}
    for name, block in BLOCKS.items():
        module, _, kind = name.rpartition(".")
        alike.setdefault((family_of(module), block), []).append(kind)
    rows = [
        SupportedPlacement(
            family,
            " ".join(kinds),
            f"{'before' if block.before else 'after'} {block.end or 'the whole block'}",
            " ".join(block.convolution),
            " ".join(block.positions),
        )
        for (family, block), kinds in alike.items()
    ]
    chains = [name.rpartition(".") for name in CHAINS]
    return rows + [
        SupportedPlacement(family_of(module), kind, "after each activation", "", "standard")
        for module, _, kind in chains
    ]


def family_of(module: str) -> str:
    """Return the family of a module's name, such as `timm resnet` for `timm.models.resnet`."""
    return f"{module.partition('.')[0]} {module.rpartition('.')[2].removeprefix('_')}"


def between_stages(model: nn.Module) -> list[str]:
    """Return the stages of a network but the last, for a mechanism that is attached between stages.

    A timm model lists the ends of its stages, the last one too; in another network a stage is a child that contains
    known blocks, of the network itself or of the one module that contains them all, such as a detector's backbone. In a
    network with known blocks a stem, which contains none, is not a stage.

    Raises:
        ValueError: the network does not have two stages.
    """
    present = dict(model.named_modules())
    stage_ends = [info["module"] for info in getattr(model, "feature_info", None) or [] if info["module"] in present]
    with_blocks = [path for path in stage_ends or children(model) if has_known_block(present[path])]
    while not stage_ends and len(with_blocks) == 1 and not known_block(present[with_blocks[0]]):
        with_blocks = [path for path in children(model, with_blocks[0]) if has_known_block(present[path])]
    last = (stage_ends or with_blocks)[-1:]
    stages = [path for path in with_blocks or stage_ends if path not in last]
    if not stages:
        raise ValueError(
            f"{type(model).__name__} has no stages: give the place by at=, a list such as ['layer1', 'layer2']"
        )
    return stages


def children(model: nn.Module, path: str = "") -> list[str]:
    """Return the paths of a module's children."""
    return [f"{path}.{name}".lstrip(".") for name, _ in model.get_submodule(path).named_children()]


def has_known_block(module: nn.Module) -> bool:
    """Return True for a known block, or a module that contains one."""
    return any(known_block(each) for each in module.modules())


def matching_paths(model: nn.Module, at: At) -> list[str]:
    """Return the paths that match `at`: a pattern, several patterns, or a predicate of path and module.

    In a pattern `*` matches any text without a dot and `**` any text. A module in several places has several paths.

    Raises:
        ValueError: a pattern matches nothing, or two patterns match the same module.
    """
    paths = module_paths(model)
    if callable(at):
        found = [path for path in paths if at(path, model.get_submodule(path))]
        if not found:
            raise ValueError("at: the predicate chose none of the model's modules")
        return found
    matched: dict[str, str] = {}
    patterns = [at] if isinstance(at, str) else list(at)
    if not patterns:
        raise ValueError("at: an empty list of patterns")
    for pattern in patterns:
        hits = [path for path in paths if compiled(pattern).fullmatch(path)]
        if not hits:
            raise ValueError(f"at: nothing matches; {unknown_name_error('place', pattern, top_levels(paths, pattern))}")
        for path in hits:
            if path in matched:
                raise ValueError(f"at: {path!r} is matched twice, by {matched[path]!r} and by {pattern!r}")
            matched[path] = pattern
    return [path for path in paths if path in matched]


def compiled(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern."""
    parts = re.split(r"(\*\*|\*)", pattern)
    return re.compile("".join({"**": ".*", "*": "[^.]*"}.get(part, re.escape(part)) for part in parts))


def top_levels(paths: list[str], pattern: str) -> list[str]:
    """Return the paths no deeper than the pattern, as candidates for a suggestion."""
    return [path for path in paths if path.count(".") <= pattern.count(".")] if pattern.count(".") < 2 else paths
