"""The networks by name: a backbone of timm's, a mechanism, a place.

A recipe is one line. `backbone+mechanism` works for every other backbone, without a recipe.
"""

import inspect
import re
from ast import literal_eval
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from typing import Any

import timm
import torch
from timm.models.resnet import Bottleneck, ResNet
from torch import nn

from foveal.fast import speed_up
from foveal.mechanisms import MECHANISMS, short_name
from foveal.naming import look_up, unknown
from foveal.networks.botnet import botnet50
from foveal.networks.cifar import resnet, resnext29_16x32d
from foveal.networks.inception import inception_v3
from foveal.networks.ram import RAM
from foveal.networks.residual_attention import ResidualAttentionNetwork
from foveal.networks.scaling import SCALES, scaling_options
from foveal.networks.shufflenet import shufflenet_v2_x1_0
from foveal.networks.small_cnn import SmallCNN
from foveal.networks.stn_cnn import STNCNN
from foveal.surgery import attach
from foveal.weights import best_fit, first_line, take_over


@dataclass(frozen=True)
class Recipe:
    """A network of the papers: a backbone and a mechanism at its place.

    Attributes:
        backbone: a name of timm's or of `OWN`.
        mechanism: with its options where the paper's differ from the mechanism's own.
        at: where it stands; left out where `foveal.places` says.
        whole: timm's name for the same network, whose pretrained weights fit.
    """

    backbone: str
    mechanism: str
    at: str | None = None
    whole: str | None = None


RECIPES = {
    "seresnet18": Recipe("resnet18", "se"),
    "seresnet34": Recipe("resnet34", "se"),
    "seresnet50": Recipe("resnet50", "se", whole="seresnet50"),
    "seresnet101": Recipe("resnet101", "se"),
    "seresnet152": Recipe("resnet152", "se"),
    "seresnext50_32x4d": Recipe("resnext50_32x4d", "se", whole="seresnext50_32x4d"),
    "seresnext101_32x4d": Recipe("resnext101_32x4d", "se"),
    "se_inception_v3": Recipe("inception_v3", "se"),
    "se_mobilenetv1_100": Recipe("mobilenetv1_100", "se", at="blocks.*.*.bn2"),
    "se_mobilenetv2_100": Recipe("mobilenetv2_100", "se"),
    "se_shufflenet_v2_x1_0": Recipe("shufflenet_v2_x1_0", "se"),
    "seresnet20": Recipe("resnet20", "se"),
    "seresnet32": Recipe("resnet32", "se"),
    "seresnet56": Recipe("resnet56", "se"),
    "seresnet110": Recipe("resnet110", "se"),
    "sknet26": Recipe("resnext26_32x4d", "sk"),
    "sknet50": Recipe("resnext50_32x4d", "sk", whole="skresnext50_32x4d"),
    "sknet101": Recipe("resnext101_32x4d", "sk"),
    # The branches and r of SKNet-29 are not told by the paper's text but by its count, see the test.
    "sknet29": Recipe("resnext29_16x32d", "sk:dilations=(1,0),reduction=32,floor=16"),
    "cbam_resnet18": Recipe("resnet18", "cbam"),
    "cbam_resnet34": Recipe("resnet34", "cbam"),
    "cbam_resnet50": Recipe("resnet50", "cbam"),
    "cbam_resnet101": Recipe("resnet101", "cbam"),
    "bam_resnet18": Recipe("resnet18", "bam"),
    "bam_resnet34": Recipe("resnet34", "bam"),
    "bam_resnet50": Recipe("resnet50", "bam"),
    "bam_resnet101": Recipe("resnet101", "bam"),
    "eca_resnet18": Recipe("resnet18", "eca"),
    "eca_resnet34": Recipe("resnet34", "eca"),
    "eca_resnet50": Recipe("resnet50", "eca"),
    "eca_resnet101": Recipe("resnet101", "eca"),
    "sk_shufflenet_v2_x1_0": Recipe("shufflenet_v2_x1_0", "sk"),
}


def resnext26_32x4d(**options: Any) -> nn.Module:
    """The backbone of SKNet-26, two blocks a stage, which timm has no name for."""
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


def without_weights(name: str, made: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    def build(pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained:
            raise ValueError(f"{name}: nobody offers pretrained weights")
        return made(**options)

    return build


OWN: dict[str, Callable[..., nn.Module]] = {
    "inception_v3": inception_v3,
    "shufflenet_v2_x1_0": shufflenet_v2_x1_0,
    **{name: without_weights(name, made) for name, made in UNTRAINED.items()},
}
WHOLE = ("attention56", "attention92", "attention92_cifar", "botnet50", "ram", "small_cnn", "stn_cnn", "two_stn_cnn")
NAMES = (*RECIPES, *WHOLE)  # that `list_models` gives


def create_model(
    name: str, pretrained: bool = False, num_classes: int = 1000, in_chans: int = 3, **options: Any
) -> nn.Module:
    """A network by its name, in training mode.

    Args:
        name: of `foveal.list_models()`, or any timm network, alone or with attention: `resnet18+cbam`,
            `resnet18+stn:size=160+se`; with options of the network, `ram:glimpses=8`, of which `width=1.2` and
            `extra_blocks=2` make many larger (`foveal.networks.scaling`). Attention stands where `foveal.places` says,
            a spatial transformer in front of the image; `se:position=pre` and `se:at=residual` are those of
            `foveal.attach`.
        pretrained: take timm's weights of the whole network where it has one; else of the backbone, with the attention
            at the identity. Needs a network to fetch from.
        num_classes: of the answer, (B, num_classes) logits; in training Inception answers auxiliary logits too.
        in_chans: channels of the images.
        options: for the mechanism, where it has one of that name (`reduction=8`), else for the backbone. `identity`
            overrides how attention starts.

    Raises:
        ValueError: an unknown name; pretrained weights that nobody has, or no network to fetch them from.
    """
    head, colon, scale = name.partition(":")
    recipe = RECIPES.get(head) if "+" not in scale else None
    backbone, *rest = (recipe.backbone + colon + scale, recipe.mechanism) if recipe else name.split("+")
    backbone, given = parse_network(backbone)
    options = {**given, **options}
    mechanisms = [parse_mechanism(each) for each in rest]
    whole = recipe.whole if recipe and pretrained and not options.keys() & set(SCALES) else None
    identity = options.pop("identity", pretrained and not whole)
    common = {"num_classes": num_classes, "in_chans": in_chans}
    for mechanism, own in mechanisms:
        own.update({key: options[key] for key in named_options(mechanism) if key in options})
    for_backbone = {key: value for key, value in options.items() if not any(key in own for _, own in mechanisms)}
    model = build_backbone(backbone, pretrained and not whole, **common, **for_backbone)
    model.__dict__["made_as"] = {"backbone": backbone, "options": {**common, **for_backbone}}
    for mechanism, own in mechanisms:
        at = "input" if MECHANISMS[mechanism].attaches == "before" else recipe.at if recipe else None
        attach(model, mechanism, **{"at": at, "identity": identity, **own})
    if whole:
        take_over(model, best_fit(model, build_backbone(whole, True, **common).state_dict()))
    return speed_up(model)  # attention of the backbone's own, too


def parse_mechanism(spec: str) -> tuple[str, dict[str, Any]]:
    """`sk:groups=8,dilations=(1,3)` as the mechanism's short name and its options.

    Raises:
        ValueError: an unknown mechanism or option, or one that is not NAME=VALUE.
    """
    name, _, given = spec.partition(":")
    mechanism = short_name(name)
    options = parse_options(spec, given)
    for key in options:
        look_up(f"option of {name}", key, dict.fromkeys(named_options(mechanism)))
    return mechanism, options


def parse_network(spec: str) -> tuple[str, dict[str, Any]]:
    """`ram:glimpses=8` as the network's name and its options."""
    timms = "timm:" if spec.startswith("timm:") else ""
    name, _, given = spec.removeprefix("timm:").partition(":")
    return timms + name, parse_options(spec, given)


def parse_options(spec: str, given: str) -> dict[str, Any]:
    """`groups=8,dilations=(1,3)` as options; ValueError for one that is not NAME=VALUE."""
    options: dict[str, Any] = {}
    for pair in re.split(r",(?![^(]*\))", given) if given else ():  # not at a comma within parentheses
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{spec!r}: {pair!r} is not an option, NAME=VALUE")
        try:
            options[key] = literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
    return options


def named_options(mechanism: str) -> list[str]:
    """The options that somebody may give for a mechanism: where it stands, and its arguments after the channels."""
    names = list(inspect.signature(MECHANISMS[mechanism]).parameters)[1:]
    return ["at", "position", *(name for name in names if name != "identity")]


def build_backbone(name: str, pretrained: bool, **options: Any) -> nn.Module:
    """A network of ours or, under its name or `timm:NAME`, of timm's.

    Raises:
        ValueError: nobody has such a network, or such weights, or they cannot be fetched; options it does not take.
    """
    if name not in OWN and not timm.is_model(name.removeprefix("timm:")):
        raise unknown("network", name, {*list_models(), *OWN, *timm.list_models()})
    build = OWN.get(name) or (lambda **given: timm.create_model(name.removeprefix("timm:"), **given))
    scale = {key: options.pop(key) for key in SCALES if key in options}
    if scale and pretrained:
        raise ValueError(f"network {name!r} with {scale}: nobody offers pretrained weights of a scaled network")
    try:
        if scale:
            with torch.device("meta"):
                plain = build(pretrained=False, **options)
            options.update(scaling_options(plain, **scale))
        return build(pretrained=pretrained, **options)
    except TypeError as error:
        raise ValueError(f"network {name!r}: {error}") from error
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise ValueError(
            f"network {name!r}: no pretrained weights ({first_line(error)}); foveal.load_weights takes a local file"
        ) from error


def list_models(pattern: str = "*") -> list[str]:
    """The networks by name, those that match a shell pattern; beside them any `backbone+mechanism`."""
    return [name for name in sorted(NAMES) if fnmatch(name, pattern)]
