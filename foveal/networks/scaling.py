"""The same plain network, larger: every stage wider by a factor, or with blocks added.

The controls of a comparison need it: attention costs weights and time, and a larger network without attention may buy
as much for them. `resnet18:width=1.1` and `resnet18:extra_blocks=2` are names as any other; what the two options mean
for a family of networks is said here, as that family's own options.

Widths change by whole multiples of 8 channels, of 4 where there are fewer than 128, as devices want them and budgets
allow; of the groups of a GroupNorm; of 2 in our networks for small images; of the number of heads in a transformer,
whose heads grow with it. The first convolution of timm's ResNets without a deep stem always has 64 channels: a 1x1
convolution then joins it to a first stage of another width.

Blocks are added one by one to the stage that has grown least in proportion, the first of equals.
"""

from collections.abc import Callable, Sequence
from math import floor, lcm
from typing import Any

from timm.models.convnext import ConvNeXt
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from foveal.networks.cifar import CifarResNet
from foveal.networks.small_cnn import SmallCNN

SCALES = ("width", "extra_blocks")
SMALL_STEP, WIDE = 2, 128
LEAST = 0.25  # of a width: below, the groups of ResNeXt-50 (32x4d) would have no channels


def small_cnn(network: SmallCNN, width: float, extra: int) -> dict[str, Any]:
    first, second, third, *rest = (widened(each, width, SMALL_STEP) for each in network.widths)
    return {"widths": (first, second, third, *[third] * extra, *rest)}


def cifar_resnet(network: CifarResNet, width: float, extra: int) -> dict[str, Any]:
    return {
        "stem": widened(network.conv1.out_channels, width, SMALL_STEP),
        "widths": tuple(widened(each, width, SMALL_STEP) for each in network.widths),
        "blocks": deepened((network.layer1, network.layer2, network.layer3), extra),
    }


def resnet(network: ResNet, width: float, extra: int) -> dict[str, Any]:
    widths = [stage["num_chs"] // network.layer1[0].expansion for stage in network.feature_info[1:]]
    options = {
        "channels": tuple(widened(each, width, step(network, each)) for each in widths),
        "layers": deepened((network.layer1, network.layer2, network.layer3, network.layer4), extra),
    }
    first: Any = network.conv1
    if isinstance(first, nn.Conv2d):
        return options
    stem = first[-1].out_channels // 2  # a deep stem ends with twice its width
    return {**options, "stem_width": widened(stem, width, step(network, stem))}


def convnext(network: ConvNeXt, width: float, extra: int) -> dict[str, Any]:
    widths = [stage["num_chs"] for stage in network.feature_info]
    return {
        "dims": tuple(widened(each, width, step(network, each)) for each in widths),
        "depths": deepened([stage.blocks for stage in network.stages], extra),
    }


def vision_transformer(network: VisionTransformer, width: float, extra: int) -> dict[str, Any]:
    heads = network.blocks[0].attn.num_heads
    return {"embed_dim": widened(network.embed_dim, width, heads), "depth": len(network.blocks) + extra}


FAMILIES: dict[type[nn.Module], Callable[[Any, float, int], dict[str, Any]]] = {
    SmallCNN: small_cnn,
    CifarResNet: cifar_resnet,
    ResNet: resnet,
    ConvNeXt: convnext,
    VisionTransformer: vision_transformer,
}
KNOWN = "small_cnn, the ResNets for small images, and timm's ResNets, ConvNeXts and vision transformers"


def scaling_options(network: nn.Module, width: float = 1.0, extra_blocks: int = 0) -> dict[str, Any]:
    """The options with which a plain network is built larger.

    Args:
        network: the plain one; on the meta device will do.
        width: by which the channels of every stage are multiplied, 0.25 or more.
        extra_blocks: in all stages together.

    Raises:
        ValueError: a network of no family that is known here; a width or a number of blocks that makes no sense.
    """
    if isinstance(width, bool) or not isinstance(width, int | float) or not LEAST <= width < float("inf"):
        raise ValueError(f"width={width!r}: a factor from {LEAST} up")
    if isinstance(extra_blocks, bool) or not isinstance(extra_blocks, int) or extra_blocks < 0:
        raise ValueError(f"extra_blocks={extra_blocks!r}: how many, 0 or more")
    for family, options in FAMILIES.items():
        if isinstance(network, family):
            return options(network, width, extra_blocks)
    raise ValueError(f"{type(network).__name__} cannot be made wider or deeper by its name; {KNOWN} can")


def widened(channels: int, width: float, multiple: int) -> int:
    """Channels times a factor, to the nearest that lies whole multiples away from them; never none."""
    return max(channels + multiple * floor(channels * (width - 1) / multiple + 0.5), min(channels, multiple))


def step(network: nn.Module, channels: int) -> int:
    """By multiples of what the channels of a stage change."""
    groups = (norm.num_groups for norm in network.modules() if isinstance(norm, nn.GroupNorm))
    return lcm(8 if channels >= WIDE else 4, *groups)


def deepened(stages: Sequence[nn.Sequential], extra: int) -> tuple[int, ...]:
    """The number of blocks in each stage, after so many were added in all."""
    plain = [len(stage) for stage in stages]
    blocks = list(plain)
    for _ in range(extra):
        least = min(range(len(blocks)), key=lambda stage: (blocks[stage] + 1) / plain[stage])
        blocks[least] += 1
    return tuple(blocks)
