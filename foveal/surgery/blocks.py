"""Table of the blocks of common networks: where attention is attached in each.

A row gives, by a block's full class name, where the end of its branch is and which modules are its larger convolution
with norm and activation. Class names alone would collide: five files of timm define a `Bottleneck`.

In a residual block the branch ends before the addition, and before stochastic depth (Hu et al., 2018, fig. 3). In
MobileNet, EfficientNet, RegNet, ReXNet and GhostNet the papers put squeeze-and-excitation after the grouped or
depthwise convolution, in every block, with or without a shortcut: timm has a slot `se` there. An Inception module's
branch is the whole module (sec. 3.3). ShuffleNet and DenseNet concatenate instead of adding: the branch is the newly
computed part, a unit's second half and a dense layer's new maps. In a network without branches, such as VGG, attention
follows the activation after each convolution (sec. 3.3).

A test checks each row: with the end zeroed, a block's output no longer depends on its branch's input.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

POSITIONS = ("standard", "pre", "post", "identity")


@dataclass(frozen=True)
class KnownBlock:
    """Row for one class of blocks, as paths within it; `widest` in a path is the child with the largest kernel.

    Attributes:
        end: module after which the branch ends; "" is the block itself. None or an identity there is an empty slot.
        convolution: the block's larger convolution, its norm and its activation; fewer paths if one module contains two
            of them. Empty if there is no such sequence.
        shared: True if other parts of the block use the activation too, so that it stays. It must be a ReLU, which is
            idempotent.
        before: True if attention is attached before the module at `end`, which drops paths or projects them.
        start: first layer of the branch alone; None if there is none, or if there are several.
        shortcut: a module on the shortcut alone; None if the shortcut contains no module. An empty slot there is the
            plain shortcut.
    """

    end: str
    convolution: tuple[str, ...] = ()
    shared: bool = False
    before: bool = False
    start: str | None = None
    shortcut: str | None = None

    def insertion(self, position: str) -> tuple[str, bool] | None:
        """Return the module within the block at which to attach, and True for before it; None if there is none.

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
        """Positions that the block has."""
        return [position for position in POSITIONS if self.insertion(position)]


TIMM, TORCHVISION = "timm.models.", "torchvision.models."
TRANSFORMERS, SMP = "transformers.models.", "segmentation_models_pytorch.encoders."

BLOCKS = {
    f"{TIMM}resnet.BasicBlock": KnownBlock("se", ("conv1", "bn1", "act1"), start="conv1", shortcut="downsample"),
    f"{TIMM}resnet.Bottleneck": KnownBlock("se", ("conv2", "bn2", "act2"), start="conv1", shortcut="downsample"),
    # pre-activation: a shortcut through `downsample` takes the activated input, a plain shortcut does not
    f"{TIMM}resnetv2.PreActBasic": KnownBlock("drop_path", ("conv1", "norm2"), before=True, start="conv1"),
    f"{TIMM}resnetv2.PreActBottleneck": KnownBlock("drop_path", ("conv2", "norm3"), before=True, start="conv1"),
    f"{TIMM}resnetv2.Bottleneck": KnownBlock(
        "drop_path", ("conv2", "norm2"), before=True, start="conv1", shortcut="downsample"
    ),
    # an empty `downsample` means that there is no shortcut
    f"{TIMM}regnet.Bottleneck": KnownBlock("se", ("conv2",), start="conv1"),
    f"{TIMM}regnet.PreBottleneck": KnownBlock("se", start="conv1"),
    f"{TIMM}rexnet.LinearBottleneck": KnownBlock("se", start="conv_exp"),
    f"{TIMM}_efficientnet_blocks.DepthwiseSeparableConv": KnownBlock("se", ("conv_dw", "bn1"), start="conv_dw"),
    f"{TIMM}_efficientnet_blocks.InvertedResidual": KnownBlock("se", ("conv_dw", "bn2"), start="conv_pw"),
    f"{TIMM}_efficientnet_blocks.EdgeResidual": KnownBlock("se", ("conv_exp", "bn1"), start="conv_exp"),
    f"{TIMM}_efficientnet_blocks.CondConvResidual": KnownBlock("se", start="conv_pw"),
    f"{TIMM}_efficientnet_blocks.UniversalInvertedResidual": KnownBlock("se", start="dw_start"),
    f"{TIMM}ghostnet.GhostBottleneck": KnownBlock("se", start="ghost1", shortcut="shortcut"),
    f"{TIMM}ghostnet.GhostBottleneckV3": KnownBlock("se", start="ghost1", shortcut="shortcut"),
    f"{TIMM}convnext.ConvNeXtBlock": KnownBlock("drop_path", before=True, start="conv_dw", shortcut="shortcut"),
    f"{TIMM}cspnet.BottleneckBlock": KnownBlock("attn3", ("conv2",), start="conv1"),
    f"{TIMM}cspnet.DarkBlock": KnownBlock("drop_path", ("conv2",), before=True, start="conv1"),
    f"{TIMM}cspnet.EdgeBlock": KnownBlock("attn", ("conv1",), start="conv1"),
    f"{TIMM}dla.DlaBasic": KnownBlock("bn2", ("conv1", "bn1", "relu"), shared=True, start="conv1"),
    f"{TIMM}dla.DlaBottleneck": KnownBlock("bn3", ("conv2", "bn2", "relu"), shared=True, start="conv1"),
    f"{TIMM}dla.DlaBottle2neck": KnownBlock("bn3", start="conv1"),
    f"{TIMM}densenet.DenseLayer": KnownBlock("conv2"),
    **{f"{TIMM}inception_v3.Inception{kind}": KnownBlock("") for kind in "ABCDE"},
    **{f"{TIMM}inception_resnet_v2.Block{kind}": KnownBlock("conv2d") for kind in (35, 17, 8)},
    **{f"{TIMM}inception_resnet_v2.Mixed_{kind}": KnownBlock("") for kind in ("5b", "6a", "7a")},
    f"{TORCHVISION}resnet.BasicBlock": KnownBlock(
        "bn2", ("conv1", "bn1", "relu"), shared=True, start="conv1", shortcut="downsample"
    ),
    f"{TORCHVISION}resnet.Bottleneck": KnownBlock(
        "bn3", ("conv2", "bn2", "relu"), shared=True, start="conv1", shortcut="downsample"
    ),
    f"{TORCHVISION}regnet.ResBottleneckBlock": KnownBlock("f.b", ("f.b",), start="f.a", shortcut="proj"),
    f"{TORCHVISION}mobilenetv2.InvertedResidual": KnownBlock("conv.widest", ("conv.widest",), start="conv.0"),
    f"{TORCHVISION}mobilenetv3.InvertedResidual": KnownBlock("block.widest", ("block.widest",), start="block.0"),
    f"{TORCHVISION}efficientnet.MBConv": KnownBlock("block.widest", ("block.widest",), start="block.0"),
    f"{TORCHVISION}efficientnet.FusedMBConv": KnownBlock("block.widest", ("block.widest",), start="block.0"),
    f"{TORCHVISION}shufflenetv2.InvertedResidual": KnownBlock("branch2", ("branch2.3", "branch2.4")),
    f"{TORCHVISION}convnext.CNBlock": KnownBlock("stochastic_depth", before=True, start="block.0"),
    f"{TORCHVISION}densenet._DenseLayer": KnownBlock("conv2"),
    **{f"{TORCHVISION}inception.Inception{kind}": KnownBlock("") for kind in "ABCDE"},
    f"{TRANSFORMERS}resnet.modeling_resnet.ResNetBasicLayer": KnownBlock(
        "layer", ("layer.0",), start="layer.0", shortcut="shortcut"
    ),
    f"{TRANSFORMERS}resnet.modeling_resnet.ResNetBottleNeckLayer": KnownBlock(
        "layer", ("layer.1",), start="layer.0", shortcut="shortcut"
    ),
    f"{TRANSFORMERS}convnext.modeling_convnext.ConvNextLayer": KnownBlock("drop_path", before=True, start="dwconv"),
    f"{TRANSFORMERS}convnextv2.modeling_convnextv2.ConvNextV2Layer": KnownBlock(
        "drop_path", before=True, start="dwconv"
    ),
    f"{SMP}_senet.Bottleneck": KnownBlock(
        "se_module", ("conv2", "bn2", "relu"), shared=True, start="conv1", shortcut="downsample"
    ),
    f"{SMP}_efficientnet.MBConvBlock": KnownBlock("_project_conv", before=True),  # after its own squeeze-and-excitation
    f"{SMP}mobileone.MobileOneBlock": KnownBlock("se"),
    f"{SMP}_xception.Block": KnownBlock("rep"),
    **{f"{SMP}_inceptionresnetv2.Block{kind}": KnownBlock("conv2d") for kind in (35, 17, 8)},
    **{f"{SMP}_inceptionresnetv2.Mixed_{kind}": KnownBlock("") for kind in ("5b", "6a", "7a")},
    **{f"{SMP}_inceptionv4.Inception_{kind}": KnownBlock("") for kind in "ABC"},
    **{f"{SMP}_inceptionv4.Reduction_{kind}": KnownBlock("") for kind in "AB"},
    "ultralytics.nn.modules.block.Bottleneck": KnownBlock("cv2", ("cv2",), start="cv1"),
    "foveal.networks.small_cnn.ConvBlock": KnownBlock("attention", ("conv", "norm", "act")),
}


CHAINS = {  # network to its Sequential of layers
    f"{TIMM}vgg.VGG": "features",
    f"{TORCHVISION}vgg.VGG": "features",
    f"{TORCHVISION}detection.ssd.SSDFeatureExtractorVGG": "features",
}


T = TypeVar("T")


def known_block(module: nn.Module) -> KnownBlock | None:
    """Return the row of a module's class, or of its nearest base class in the table."""
    return row_of(module, BLOCKS)


def row_of(module: nn.Module, table: Mapping[str, T]) -> T | None:
    """Return the entry of a module's class, or of its nearest base class in a table; None if there is none."""
    names = (f"{cls.__module__}.{cls.__qualname__}" for cls in type(module).__mro__)
    return next((table[name] for name in names if name in table), None)


def path_within(block: nn.Module, path: str) -> str:
    """Resolve a row's path in a block; `widest` is the child with the largest kernel in its first convolution."""
    parent, _, name = path.rpartition(".")
    if name != "widest":
        return path
    children = dict(block.get_submodule(parent).named_children())
    return f"{parent}.{max(children, key=lambda key: kernel_size(children[key]))}"


def kernel_size(module: nn.Module) -> int:
    """Return the kernel size of the first convolution in a module, 0 if there is none."""
    return next((max(conv.kernel_size) for conv in module.modules() if isinstance(conv, nn.Conv2d)), 0)
