"""Where attention belongs in the blocks that people use.

A row names, by a block's full class name, where the end of its branch is and which modules are its larger convolution
with norm and activation. Class names alone would collide: `Bottleneck` stands in five files of timm.

In a residual block the branch ends before the addition, and before stochastic depth (Hu et al., 2018, fig. 3). In
MobileNet, EfficientNet, RegNet, ReXNet and GhostNet the papers put squeeze-and-excitation after the grouped or
depthwise convolution, in every block, whether it has a shortcut or not: timm keeps a slot `se` there. An Inception
module's branch is the whole module (sec. 3.3). ShuffleNet and DenseNet concatenate where others add: the branch is what
is computed anew, a unit's second half and a dense layer's new maps. A network without branches, such as VGG, has
attention after the activation that follows each convolution (sec. 3.3).

Each row is checked by a test: with the end zeroed, a block's output no longer depends on its branch's input.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from torch import nn

from foveal.naming import unknown

POSITIONS = ("standard", "pre", "post", "identity")


@dataclass(frozen=True)
class Block:
    """Where attention belongs in a block, by paths within it; `widest` in a path is the child with the largest kernel.

    Attributes:
        end: after which the branch ends; "" is the block itself. None or an identity there is a free slot.
        convolution: the block's larger convolution, its norm and its activation; fewer, where a module holds two of
            them. Empty where there is no such sequence.
        shared: the activation serves other places of the block too and stays. It must be a ReLU, which changes
            nothing where it comes twice.
        before: attention stands before the module at `end`, which drops paths.
        start: the first layer of the branch alone; None where there is none, or several.
        shortcut: a module on the shortcut alone; None where the shortcut passes no module. An empty slot there is the
            plain shortcut.
    """

    end: str
    convolution: tuple[str, ...] = ()
    shared: bool = False
    before: bool = False
    start: str | None = None
    shortcut: str | None = None

    def site(self, position: str) -> tuple[str, bool] | None:
        """The module within the block beside which attention stands, and whether before it; None if nowhere.

        The positions are those of Hu et al. (2020, fig. 5): at the end of the branch, before the branch, after the
        whole block, on the shortcut.
        """
        if position == "pre":
            return None if self.start is None else (self.start, True)
        if position == "identity":
            return None if self.shortcut is None else (self.shortcut, False)
        return ("", False) if position == "post" else (self.end, self.before)

    @property
    def positions(self) -> list[str]:
        return [position for position in POSITIONS if self.site(position)]


TIMM, TORCHVISION = "timm.models.", "torchvision.models."
BLOCKS = {
    f"{TIMM}resnet.BasicBlock": Block("se", ("conv1", "bn1", "act1"), start="conv1", shortcut="downsample"),
    f"{TIMM}resnet.Bottleneck": Block("se", ("conv2", "bn2", "act2"), start="conv1", shortcut="downsample"),
    # before activation: a shortcut that passes `downsample` takes the activated input, a plain one does not
    f"{TIMM}resnetv2.PreActBasic": Block("drop_path", ("conv1", "norm2"), before=True, start="conv1"),
    f"{TIMM}resnetv2.PreActBottleneck": Block("drop_path", ("conv2", "norm3"), before=True, start="conv1"),
    f"{TIMM}resnetv2.Bottleneck": Block(
        "drop_path", ("conv2", "norm2"), before=True, start="conv1", shortcut="downsample"
    ),
    # an empty `downsample` means that there is no shortcut
    f"{TIMM}regnet.Bottleneck": Block("se", ("conv2",), start="conv1"),
    f"{TIMM}regnet.PreBottleneck": Block("se", start="conv1"),
    f"{TIMM}rexnet.LinearBottleneck": Block("se", start="conv_exp"),
    f"{TIMM}_efficientnet_blocks.DepthwiseSeparableConv": Block("se", ("conv_dw", "bn1"), start="conv_dw"),
    f"{TIMM}_efficientnet_blocks.InvertedResidual": Block("se", ("conv_dw", "bn2"), start="conv_pw"),
    f"{TIMM}_efficientnet_blocks.EdgeResidual": Block("se", ("conv_exp", "bn1"), start="conv_exp"),
    f"{TIMM}_efficientnet_blocks.CondConvResidual": Block("se", start="conv_pw"),
    f"{TIMM}_efficientnet_blocks.UniversalInvertedResidual": Block("se", start="dw_start"),
    f"{TIMM}ghostnet.GhostBottleneck": Block("se", start="ghost1", shortcut="shortcut"),
    f"{TIMM}ghostnet.GhostBottleneckV3": Block("se", start="ghost1", shortcut="shortcut"),
    f"{TIMM}convnext.ConvNeXtBlock": Block("drop_path", before=True, start="conv_dw", shortcut="shortcut"),
    f"{TIMM}cspnet.BottleneckBlock": Block("attn3", ("conv2",), start="conv1"),
    f"{TIMM}cspnet.DarkBlock": Block("drop_path", ("conv2",), before=True, start="conv1"),
    f"{TIMM}cspnet.EdgeBlock": Block("attn", ("conv1",), start="conv1"),
    f"{TIMM}dla.DlaBasic": Block("bn2", ("conv1", "bn1", "relu"), shared=True, start="conv1"),
    f"{TIMM}dla.DlaBottleneck": Block("bn3", ("conv2", "bn2", "relu"), shared=True, start="conv1"),
    f"{TIMM}dla.DlaBottle2neck": Block("bn3", start="conv1"),
    f"{TIMM}densenet.DenseLayer": Block("conv2"),
    **{f"{TIMM}inception_v3.Inception{kind}": Block("") for kind in "ABCDE"},
    **{f"{TIMM}inception_resnet_v2.Block{kind}": Block("conv2d") for kind in (35, 17, 8)},
    **{f"{TIMM}inception_resnet_v2.Mixed_{kind}": Block("") for kind in ("5b", "6a", "7a")},
    f"{TORCHVISION}resnet.BasicBlock": Block(
        "bn2", ("conv1", "bn1", "relu"), shared=True, start="conv1", shortcut="downsample"
    ),
    f"{TORCHVISION}resnet.Bottleneck": Block(
        "bn3", ("conv2", "bn2", "relu"), shared=True, start="conv1", shortcut="downsample"
    ),
    f"{TORCHVISION}regnet.ResBottleneckBlock": Block("f.b", ("f.b",), start="f.a", shortcut="proj"),
    f"{TORCHVISION}mobilenetv2.InvertedResidual": Block("conv.widest", ("conv.widest",), start="conv.0"),
    f"{TORCHVISION}mobilenetv3.InvertedResidual": Block("block.widest", ("block.widest",), start="block.0"),
    f"{TORCHVISION}efficientnet.MBConv": Block("block.widest", ("block.widest",), start="block.0"),
    f"{TORCHVISION}efficientnet.FusedMBConv": Block("block.widest", ("block.widest",), start="block.0"),
    f"{TORCHVISION}shufflenetv2.InvertedResidual": Block("branch2", ("branch2.3", "branch2.4")),
    f"{TORCHVISION}convnext.CNBlock": Block("stochastic_depth", before=True, start="block.0"),
    f"{TORCHVISION}densenet._DenseLayer": Block("conv2"),
    **{f"{TORCHVISION}inception.Inception{kind}": Block("") for kind in "ABCDE"},
    "foveal.networks.small_cnn.ConvBlock": Block("attention", ("conv", "norm", "act")),
}
CHAINS = {f"{TIMM}vgg.VGG": "features", f"{TORCHVISION}vgg.VGG": "features"}  # networks, and their Sequential of layers

T = TypeVar("T")
At = str | Iterable[str] | Callable[[str, nn.Module], bool]


def known_block(module: nn.Module) -> Block | None:
    """The row of a module's class, or of the class that it derives from."""
    return row_of(module, BLOCKS)


def row_of(module: nn.Module, table: Mapping[str, T]) -> T | None:
    names = (f"{cls.__module__}.{cls.__qualname__}" for cls in type(module).__mro__)
    return next((table[name] for name in names if name in table), None)


def path_within(block: nn.Module, path: str) -> str:
    """A row's path in a block; `widest` is the name of the child whose first convolution has the largest kernel."""
    parent, _, name = path.rpartition(".")
    if name != "widest":
        return path
    children = dict(block.get_submodule(parent).named_children())
    return f"{parent}.{max(children, key=lambda key: kernel_size(children[key]))}"


def kernel_size(module: nn.Module) -> int:
    return next((max(conv.kernel_size) for conv in module.modules() if isinstance(conv, nn.Conv2d)), 0)


def default_paths(model: nn.Module, stages: bool = True) -> list[str]:
    """Every known block, or the activations of a chain; in a timm model without any, the end of each stage it names.

    Args:
        model: the network.
        stages: whether the end of a stage serves as well.

    Raises:
        ValueError: there is nothing of this.
    """
    chain = row_of(model, CHAINS)
    if chain is not None:
        return activations(model, chain)
    named = [info["module"] for info in getattr(model, "feature_info", None) or []] if stages else []
    present = dict(model.named_modules())
    blocks = [path for path, module in present.items() if known_block(module)]
    found = blocks or [path for path in named if path in present]
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no known block: say where by at=, a pattern such as 'layer4.*'"
            + (", or 'residual'" if stages else "")
        )
    return found


def activations(model: nn.Module, chain: str) -> list[str]:
    """The last layer before each convolution but the first, and before each pooling."""
    layers = list(model.get_submodule(chain).named_children())
    pools = {name for name, layer in layers if "Pool" in type(layer).__name__}
    starts = {name for name, layer in layers if isinstance(layer, nn.Conv2d)} | pools
    return [
        f"{chain}.{name}" for (name, _), (following, _) in pairwise(layers) if following in starts and name not in pools
    ]


@dataclass(frozen=True)
class ListedPlace:
    """Where attention stands in a family's blocks, as `foveal list --places` prints it."""

    family: str
    blocks: str
    end: str
    convolution: str  # that a selective kernel can stand instead of
    positions: str


def list_places() -> list[ListedPlace]:
    """Every known block with its place, those of a family that share it together, and the networks that are chains."""
    alike: dict[tuple[str, Block], list[str]] = {}
    for name, block in BLOCKS.items():
        module, _, kind = name.rpartition(".")
        alike.setdefault((family_of(module), block), []).append(kind)
    rows = [
        ListedPlace(
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
        ListedPlace(family_of(module), kind, "after each activation", "", "standard") for module, _, kind in chains
    ]


def family_of(module: str) -> str:
    """`timm.models.resnet` as `timm resnet`."""
    return f"{module.partition('.')[0]} {module.rpartition('.')[2].removeprefix('_')}"


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
