"""Networks by name: a backbone of timm or of foveal, a mechanism, a place.

A recipe (`foveal.networks.recipes`) is one line. `backbone+mechanism` needs no recipe.
"""

from typing import Any

import timm
import torch
from torch import nn

from foveal.core.arguments import check_arguments
from foveal.core.names import first_line, one_line, unknown_name_error
from foveal.mechanisms.registry import MECHANISMS
from foveal.networks.builders import OWN
from foveal.networks.key_layouts import load_matched, match_keys
from foveal.networks.options import check_no_file, check_options, checkpoint_options, option_names
from foveal.networks.recipes import RECIPES, list_models
from foveal.networks.scaling import SCALES, scaling_options
from foveal.networks.spec import named_options, parse_mechanism, parse_network
from foveal.surgery.attach import attach
from foveal.surgery.fused.fused_blocks import use_fused_blocks

PREFIX = "foveal_"  # of our networks' names in timm's registry, see `foveal.networks.timm_registry`


def create_model(
    name: str, pretrained: bool = False, num_classes: int = 1000, in_chans: int = 3, **options: Any
) -> nn.Module:
    """Create a network by its name, in training mode.

    Attention is attached at the end of each known block (`foveal.surgery.blocks`); a spatial transformer is attached in
    front of the image.

    Args:
        name: a name from `foveal.list_models()`, or any network of timm, alone or with attention: `resnet18+cbam`,
            `resnet18+stn:size=160+se`. Options follow a colon: `ram:glimpses=8`; `se:position=pre` and
            `se:at=residual` are arguments of `foveal.attach`. `width=1.2` and `extra_blocks=2` make many networks
            larger (`foveal.networks.scaling`). For a network of timm, a name may carry only the plain options of the
            architecture that `foveal.networks.options` lists.
        pretrained: load the weights of the whole network where timm has it; otherwise those of the backbone, and start
            the attention as the identity. Needs access to a network for the download.
        num_classes: number of logits, (B, num_classes); in training mode Inception returns auxiliary logits, too.
        in_chans: number of channels of the images.
        **options: an option of the mechanism, where it has one of that name (`reduction=8`), otherwise of the backbone,
            as `timm.create_model` accepts it; an option that reads a file (`checkpoint_path`, `pretrained_cfg`,
            `pretrained_cfg_overlay`, `cache_dir`) is refused, since timm may read it as a pickle. `identity` overrides
            how attention starts.

    Returns:
        The network; `foveal.attachments(model)` lists its attention.

    Raises:
        ValueError: an unknown name or option; an option that reads a file; pretrained weights that do not exist, or no
            access to a network to download them.

    Example:
        >>> import foveal, torch
        >>> model = foveal.create_model("resnet18+se:reduction=8", num_classes=10).eval()
        >>> model(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 10])
        >>> foveal.create_model("resnet18", drop_rte=0.1)
        Traceback (most recent call last):
        ValueError: network 'resnet18': ResNet.__init__() got an unexpected keyword argument 'drop_rte'
    """
    check_arguments("create_model", create_model, {"num_classes": num_classes, "in_chans": in_chans})
    if num_classes < 0 or in_chans < 1:
        raise ValueError(f"create_model: num_classes={num_classes}, in_chans={in_chans}; at least 0 and 1 are needed")
    head, colon, scale = name.partition(":")
    recipe = RECIPES.get(head) if "+" not in scale else None
    backbone, *rest = (recipe.backbone + colon + scale, recipe.mechanism) if recipe else name.split("+")
    backbone, named = parse_network(backbone)
    mechanisms = [parse_mechanism(each) for each in rest]
    check_named_options(backbone, named, mechanisms)
    options = {**named, **options}
    whole = recipe.whole if recipe and pretrained and not options.keys() & set(SCALES) else None
    identity = options.pop("identity", pretrained and not whole)
    common = {"num_classes": num_classes, "in_chans": in_chans}
    for mechanism, own in mechanisms:
        own.update({key: options[key] for key in named_options(mechanism) if key in options})
    for_backbone = {key: value for key, value in options.items() if not any(key in own for _, own in mechanisms)}
    model = build_backbone(backbone, pretrained and not whole, **common, **for_backbone)
    stored = {key: value for key, value in for_backbone.items() if key not in checkpoint_options(backbone)}
    model.__dict__["made_as"] = {"backbone": backbone, "options": {**common, **stored}}
    for mechanism, own in mechanisms:
        at = "input" if MECHANISMS[mechanism].attaches == "before" else recipe.at if recipe else None
        attach(model, mechanism, **{"at": at, "identity": identity, **own})
    if whole:
        load_matched(model, match_keys(model, build_backbone(whole, True, **common).state_dict()))
    return use_fused_blocks(model)  # attention of the backbone's own, too


def check_named_options(backbone: str, named: dict[str, Any], mechanisms: list[tuple[str, dict[str, Any]]]) -> None:
    """Check the options that a name carries, for the backbone and for the mechanisms.

    Raises:
        ValueError: as `check_options`; `num_classes` or `in_chans`, which are arguments of `create_model`.
    """
    known = check_network(backbone)
    for key in {"num_classes", "in_chans"} & named.keys():
        raise ValueError(f"{backbone}:{key}={named[key]!r}: write create_model({backbone!r}, {key}={named[key]!r})")
    for_mechanisms = {"identity", *(key for mechanism, _ in mechanisms for key in named_options(mechanism))}
    for_network = option_names(known) | checkpoint_options(known)
    check_options(backbone, named, (for_network | for_mechanisms) if mechanisms else for_network)
    for mechanism, own in mechanisms:
        check_options(mechanism, own, named_options(mechanism))


def check_network(name: str) -> str:
    """Return the name of a backbone without `timm:`; ValueError with the nearest name for an unknown one."""
    if name in OWN:
        return name
    plain = name.removeprefix("timm:")
    if plain.startswith(PREFIX):
        raise ValueError(f"network {name!r}: a name for timm.create_model; write {plain.removeprefix(PREFIX)!r}")
    if not timm.is_model(plain):
        theirs = timm.list_models(exclude_filters=f"{PREFIX}*")
        raise unknown_name_error("network", name, {*list_models(), *OWN, *theirs})
    return plain


def build_backbone(name: str, pretrained: bool, **options: Any) -> nn.Module:
    """Build a network of foveal or, by its name or `timm:NAME`, of timm.

    Raises:
        ValueError: an unknown network; weights that do not exist or cannot be downloaded; options that the network does
            not accept, or that read a file.
    """
    known = check_network(name)
    check_no_file(name, options)
    build = OWN.get(name) or (lambda **arguments: timm.create_model(known, **arguments))
    if build is OWN.get(name):
        check_arguments(f"network {name!r}", build, options)
    scale = {key: options.pop(key) for key in SCALES if key in options}
    if scale and pretrained:
        raise ValueError(f"network {name!r} with {scale}: there are no pretrained weights of a scaled network")
    try:
        if scale:
            with torch.device("meta"):
                plain = build(pretrained=False, **options)
            options.update(scaling_options(plain, **scale))
        return build(pretrained=pretrained, **options)
    except (TypeError, KeyError, AssertionError) as error:  # as timm refuses an argument or a name in one
        raise ValueError(f"network {name!r}: {one_line(error)}") from error
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise ValueError(
            f"network {name!r}: no pretrained weights ({first_line(error)}); foveal.load_weights reads a local file"
        ) from error
