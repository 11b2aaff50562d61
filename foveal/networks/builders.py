"""Registry of the backbones and networks that foveal builds itself and `timm.create_model` does not have."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import PretrainedCfg
from timm.models.resnet import Bottleneck, ResNet
from torch import nn

from foveal.networks.botnet import botnet50
from foveal.networks.cifar import resnet, resnext29_16x32d
from foveal.networks.co_localizer import CoLocalizer
from foveal.networks.inception import inception_v3
from foveal.networks.jaderberg import JaderbergCNN, JaderbergFCN
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
    "co_localizer": CoLocalizer,
    "jaderberg_cnn": JaderbergCNN,
    "jaderberg_fcn": JaderbergFCN,
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


def config(
    side: int,
    pool: int | None,
    first_conv: str | tuple[str, ...] | None,
    classifier: str,
    channels: int = 3,
    **more: Any,
) -> dict[str, Any]:
    """Return a network's properties as timm states them: its usual image, the size of its last map, two layers."""
    scaled = {"mean": (0.5,) * channels, "std": (0.5,) * channels, "interpolation": "bilinear"}
    size = {"input_size": (channels, side, side), "pool_size": pool and (pool, pool)}
    return PretrainedCfg(**{**scaled, **size, "first_conv": first_conv, "classifier": classifier, **more}).to_dict()


SMALL_RESNET = config(32, 8, "conv1", "fc", num_classes=10, crop_pct=1.0)
DIGITS: dict[str, Any] = {"channels": 1, "num_classes": 10, "crop_pct": 1.0}
CONFIGS = {
    "attention56": config(224, 7, "stem.0", "head"),
    "attention92": config(224, 7, "stem.0", "head"),
    "attention92_cifar": config(32, 8, "stem.0", "head", num_classes=10, crop_pct=1.0),
    "botnet50": config(224, 7, "conv1", "fc"),
    "resnext26_32x4d": config(224, 7, "conv1", "fc"),
    "shufflenet_v2_x1_0": config(224, 7, "conv1.0", "fc", mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD),
    **dict.fromkeys(("resnet20", "resnet32", "resnet56", "resnet110", "resnext29_16x32d"), SMALL_RESNET),
    "co_localizer": config(84, 3, None, "head", **DIGITS),
    "jaderberg_cnn": config(42, 5, "stem.1", "fc", **DIGITS),
    "jaderberg_fcn": config(42, None, None, "fc", **DIGITS),
    "ram": config(60, None, None, "head", **DIGITS),
    "small_cnn": config(42, 5, "stem.0", "head", **DIGITS),
    "stn_cnn": config(42, 4, ("stn.localisation.features", "conv1"), "fc2", **DIGITS),
    "two_stn_cnn": config(42, 4, None, "fc2", **DIGITS),
}


def for_images(stated: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """Return a network's properties with the channels of the images that it, or its first convolution, takes.

    A network with an `img_size` of its own takes images of that side alone.
    """
    if hasattr(model, "img_size"):
        size = {"input_size": (stated["input_size"][0], model.img_size, model.img_size)}
        stated = {**stated, **size, "pool_size": getattr(model, "pool_size", None)}
    stated_channels, *sides = stated["input_size"]
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    channels = getattr(model, "in_chans", None) or (first.in_channels if first else stated_channels)
    if channels == stated_channels:
        return stated
    return {**stated, "input_size": (channels, *sides), "mean": (0.5,) * channels, "std": (0.5,) * channels}


def with_config(name: str, constructor: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Wrap a constructor: the network states its `CONFIGS`, and `pretrained=True` raises if it has no weights."""

    @wraps(constructor)
    def build(pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained and name in UNTRAINED:
            raise ValueError(f"pretrained=True: there are no pretrained weights of {name!r}; use pretrained=False")
        model: Any = constructor(**options, **({"pretrained": True} if pretrained else {}))
        model.pretrained_cfg = model.default_cfg = {**for_images(CONFIGS[name], model), "architecture": name}
        return model

    return build


OWN: dict[str, Callable[..., nn.Module]] = {
    "inception_v3": inception_v3,
    "shufflenet_v2_x1_0": with_config("shufflenet_v2_x1_0", shufflenet_v2_x1_0),
    **{name: with_config(name, constructor) for name, constructor in UNTRAINED.items()},
}
