"""Where attention belongs in the blocks that people use.

A row names, by a block's full class name, where the end of its branch is and which modules are its 3x3 convolution
with norm and activation. Class names alone would collide: `Bottleneck` stands in four files of timm.

In a residual block of ResNet the branch ends before the addition, and before stochastic depth. In MobileNet,
EfficientNet, RegNet and ReXNet the papers put squeeze-and-excitation after the grouped or depthwise convolution, in
every block, whether it has a shortcut or not: timm keeps a slot `se` there. An Inception module's branch is the whole
module (Hu et al., 2018, sec. 3.3). Each row is checked by a test: with the end zeroed, a block's output no longer
depends on its branch's input.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn

from foveal.naming import unknown


@dataclass(frozen=True)
class Block:
    """Where attention belongs in a block.

    Attributes:
        end: the attribute after which the branch ends; "" is the block itself. None or an identity there is a free
            slot.
        convolution: the attributes that hold the block's larger convolution, its norm and its activation; fewer,
            where a module holds two of them. Empty where there is no such sequence.
        shared: the activation serves other places of the block too and stays. It must be a ReLU, which changes
            nothing where it comes twice.
    """

    end: str
    convolution: tuple[str, ...] = ()
    shared: bool = False


BLOCKS = {
    "timm.models.resnet.BasicBlock": Block("se", ("conv1", "bn1", "act1")),
    "timm.models.resnet.Bottleneck": Block("se", ("conv2", "bn2", "act2")),
    "timm.models.regnet.Bottleneck": Block("se", ("conv2",)),
    "timm.models.regnet.PreBottleneck": Block("se"),
    "timm.models.rexnet.LinearBottleneck": Block("se"),
    "timm.models._efficientnet_blocks.DepthwiseSeparableConv": Block("se", ("conv_dw", "bn1")),
    "timm.models._efficientnet_blocks.InvertedResidual": Block("se", ("conv_dw", "bn2")),
    "timm.models._efficientnet_blocks.EdgeResidual": Block("se", ("conv_exp", "bn1")),
    "timm.models._efficientnet_blocks.CondConvResidual": Block("se"),
    "timm.models._efficientnet_blocks.UniversalInvertedResidual": Block("se"),
    **{f"timm.models.inception_v3.Inception{kind}": Block("") for kind in "ABCDE"},
    "torchvision.models.resnet.BasicBlock": Block("bn2", ("conv1", "bn1", "relu"), shared=True),
    "torchvision.models.resnet.Bottleneck": Block("bn3", ("conv2", "bn2", "relu"), shared=True),
    **{f"torchvision.models.inception.Inception{kind}": Block("") for kind in "ABCDE"},
    "foveal.networks.small_cnn.ConvBlock": Block("attention", ("conv", "norm", "act")),
}

At = str | Iterable[str] | Callable[[str, nn.Module], bool]


def known_block(module: nn.Module) -> Block | None:
    """The row of a module's class, or of the class that it derives from."""
    names = (f"{cls.__module__}.{cls.__qualname__}" for cls in type(module).__mro__)
    return next((BLOCKS[name] for name in names if name in BLOCKS), None)


def default_paths(model: nn.Module) -> list[str]:
    """Every known block; in a timm model without any, the end of each stage that it names.

    Raises:
        ValueError: there is neither.
    """
    blocks = [path for path, module in model.named_modules() if known_block(module)]
    stages = [info["module"] for info in getattr(model, "feature_info", None) or []]
    present = dict(model.named_modules())
    found = blocks or [path for path in stages if path in present]
    if not found:
        raise ValueError(f"{type(model).__name__} has no known block: say where by at=, a pattern such as 'layer4.*'")
    return found


def between_stages(model: nn.Module) -> list[str]:
    """The stages of a network but the last, after which a mechanism stands between stages.

    Where a timm model has stages it names their ends, the last one too; in another network a stage is a child with
    known blocks in it. A stem, which has none, is no stage where there are known blocks at all.

    Raises:
        ValueError: the network does not show two stages.
    """
    present = dict(model.named_modules())
    named = [info["module"] for info in getattr(model, "feature_info", None) or [] if info["module"] in present]
    candidates = named or [path for path, _ in model.named_children()]
    with_blocks = [path for path in candidates if any(known_block(module) for module in present[path].modules())]
    last = (named or with_blocks)[-1:]
    stages = [path for path in with_blocks or named if path not in last]
    if not stages:
        raise ValueError(
            f"{type(model).__name__} shows no stages: say where by at=, a list such as ['layer1', 'layer2']"
        )
    return stages


def matching_paths(model: nn.Module, at: At) -> list[str]:
    """The paths that `at` means: a pattern, several of them, or a predicate of path and module.

    In a pattern `*` stands for a name or part of it and `**` for anything, dots too.

    Raises:
        ValueError: a pattern matches nothing, or two patterns match the same module.
    """
    paths = [path for path, _ in model.named_modules() if path]
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
            raise ValueError(f"at: nothing matches; {unknown('place', pattern, top_levels(paths, pattern))}")
        for path in hits:
            if path in matched:
                raise ValueError(f"at: {path!r} is matched twice, by {matched[path]!r} and by {pattern!r}")
            matched[path] = pattern
    return [path for path in paths if path in matched]


def compiled(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*)", pattern)
    return re.compile("".join({"**": ".*", "*": "[^.]*"}.get(part, re.escape(part)) for part in parts))


def top_levels(paths: list[str], pattern: str) -> list[str]:
    """The paths as deep as the pattern, to compare it with."""
    return [path for path in paths if path.count(".") <= pattern.count(".")] if pattern.count(".") < 2 else paths
