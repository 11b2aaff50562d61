"""Scaling of backbones: every stage wider by a factor, or with added blocks.

The controls of a comparison need it: attention adds parameters and time, and a larger network without attention may
gain as much accuracy for the same cost. `resnet18:width=1.1` and `resnet18:extra_blocks=2` are names of networks; this
file translates the two options into the arguments of each family of networks.

Widths change by multiples of 8 channels, or of 4 below 128 channels (efficient on most devices, and fine enough for
the budgets); of the number of groups of a GroupNorm; of 2 in our networks for small images; of the number of heads in
a transformer, so that its heads become wider. The first convolution of timm's ResNets without a deep stem always has
64 channels; a 1x1 convolution then connects it to a first stage of another width.

Blocks are added one by one to the stage with the smallest relative growth, the first one of a tie.
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
LEAST = 0.25  # smallest width: below it, the groups of ResNeXt-50 (32x4d) would have no channels


def small_cnn(network: SmallCNN, width: float, extra: int) -> dict[str, Any]:
    first, second, third, *rest = (widened(each, width, SMALL_STEP) for each in network.widths)
    return {"widths": (first, second, third, *[third] * extra, *rest)}


def cifar_resnet(network: CifarResNet, width: float, extra: int) -> dict[str, Any]:
    return {
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
    """Return the constructor arguments of a scaled network.

    Args:
        network: The plain network; it may be on the meta device.
        width: Factor for the channels of every stage, 0.25 or more.
        extra_blocks: Number of blocks added in all stages together.

    Raises:
        ValueError: If the network's family is unknown, or `width` or `extra_blocks` is out of range.
    """
    if isinstance(width, bool) or not isinstance(width, int | float) or not LEAST <= width < float("inf"):
        raise ValueError(f"width={width!r}: must be a factor of at least {LEAST}")
    if isinstance(extra_blocks, bool) or not isinstance(extra_blocks, int) or extra_blocks < 0:
        raise ValueError(f"extra_blocks={extra_blocks!r}: must be a number of blocks, 0 or more")
    for family, options in FAMILIES.items():
        if isinstance(network, family):
            return options(network, width, extra_blocks)
    raise ValueError(f"{type(network).__name__} does not support width and extra_blocks; supported: {KNOWN}")


def widened(channels: int, width: float, multiple: int) -> int:
    """Scale a number of channels, rounded so that it changes by a multiple of `multiple`; never 0."""
    return max(channels + multiple * floor(channels * (width - 1) / multiple + 0.5), min(channels, multiple))


def step(network: nn.Module, channels: int) -> int:
    """Return the number of channels of which the width of a stage changes by multiples."""
    groups = (norm.num_groups for norm in network.modules() if isinstance(norm, nn.GroupNorm))
    return lcm(8 if channels >= WIDE else 4, *groups)


def deepened(stages: Sequence[nn.Sequential], extra: int) -> tuple[int, ...]:
    """Return the number of blocks in each stage after `extra` blocks were added in total."""
    plain = [len(stage) for stage in stages]
    blocks = list(plain)
    for _ in range(extra):
        least = min(range(len(blocks)), key=lambda stage: (blocks[stage] + 1) / plain[stage])
        blocks[least] += 1
    return tuple(blocks)
