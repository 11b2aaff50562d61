"""The networks by name: a backbone of timm's, a mechanism, a place.

A recipe is one line. `backbone+mechanism` works for every other backbone, without a recipe.
"""

from typing import Any

import timm
import torch
from torch import nn

from foveal.core.names import first_line, unknown_name_error
from foveal.mechanisms.registry import MECHANISMS
from foveal.networks.builders import OWN
from foveal.networks.key_layouts import load_matched, match_keys
from foveal.networks.recipes import RECIPES, list_models
from foveal.networks.scaling import SCALES, scaling_options
from foveal.networks.spec import named_options, parse_mechanism, parse_network
from foveal.surgery.attach import attach
from foveal.surgery.fused.fused_blocks import use_fused_blocks


def create_model(
    name: str, pretrained: bool = False, num_classes: int = 1000, in_chans: int = 3, **options: Any
) -> nn.Module:
    """A network by its name, in training mode.

    Args:
        name: of `foveal.list_models()`, or any timm network, alone or with attention: `resnet18+cbam`,
            `resnet18+stn:size=160+se`; with options of the network, `ram:glimpses=8`, of which `width=1.2` and
            `extra_blocks=2` make many larger (`foveal.networks.scaling`). Attention stands where
            `foveal.surgery.blocks` says, a spatial transformer in front of the image; `se:position=pre` and
            `se:at=residual` are those of `foveal.attach`.
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
        load_matched(model, match_keys(model, build_backbone(whole, True, **common).state_dict()))
    return use_fused_blocks(model)  # attention of the backbone's own, too


def build_backbone(name: str, pretrained: bool, **options: Any) -> nn.Module:
    """A network of ours or, under its name or `timm:NAME`, of timm's.

    Raises:
        ValueError: nobody has such a network, or such weights, or they cannot be fetched; options it does not take.
    """
    if name not in OWN and not timm.is_model(name.removeprefix("timm:")):
        raise unknown_name_error("network", name, {*list_models(), *OWN, *timm.list_models()})
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
