"""Registry of the backbones and networks that foveal builds itself and `timm.create_model` does not have."""

from collections.abc import Callable
from functools import partial
from typing import Any

from timm.models.resnet import Bottleneck, ResNet
from torch import nn

from foveal.networks.botnet import botnet50
from foveal.networks.cifar import resnet, resnext29_16x32d
from foveal.networks.inception import inception_v3
from foveal.networks.ram import RAM
from foveal.networks.residual_attention import ResidualAttentionNetwork
from foveal.networks.shufflenet import shufflenet_v2_x1_0
from foveal.networks.small_cnn import SmallCNN
from foveal.networks.stn_cnn import STNCNN


def resnext26_32x4d(**options: Any) -> nn.Module:
    """Create the backbone of SKNet-26: two blocks in each stage. timm has no name for it."""
    return ResNet(Bottleneck, cardinality=32, base_width=4, **{"layers": (2, 2, 2, 2), **options})


UNTRAINED: dict[str, Callable[..., nn.Module]] = {
    "attention56": partial(ResidualAttentionNetwork, modules=(1, 1, 1)),
    "attention92": partial(ResidualAttentionNetwork, modules=(1, 2, 3)),
    "attention92_cifar": partial(ResidualAttentionNetwork, modules=(2, 2, 2), cifar=True),
    "botnet50": botnet50,
    "resnet20": resnet(20),
    "resnet32": resnet(32),
    "resnet56": resnet(56),
    "resnet110": resnet(110),
    "resnext26_32x4d": resnext26_32x4d,
    "resnext29_16x32d": resnext29_16x32d,
    "ram": RAM,
    "small_cnn": SmallCNN,
    "stn_cnn": STNCNN,
    "two_stn_cnn": partial(STNCNN, transformers=2),
}


def without_weights(name: str, constructor: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Wrap a constructor so that `pretrained=True` raises a ValueError."""

    def build(pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained:
            raise ValueError(f"pretrained=True: there are no pretrained weights of {name!r}; use pretrained=False")
        return constructor(**options)

    return build


OWN: dict[str, Callable[..., nn.Module]] = {
    "inception_v3": inception_v3,
    "shufflenet_v2_x1_0": shufflenet_v2_x1_0,
    **{name: without_weights(name, constructor) for name, constructor in UNTRAINED.items()},
}
