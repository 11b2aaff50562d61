"""Loading of weights from a file or a state dict; if they do not fit, the error names the nearest known network."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveal.core.validation import check_model
from foveal.networks.factory import create_model
from foveal.networks.key_layouts import load_matched, match_keys, read
from foveal.networks.recipes import RECIPES, WHOLE

OFTEN = ("wide_resnet50_2", "efficientnet_b0", "convnext_tiny")  # common networks beside the backbones of our recipes
VARIANTS = {  # options, by network or mechanism, of networks whose weights other people publish
    "stn_cnn": "localisation=note,padding=0",
    "bam": "released=True",
    "eca": "kernel_size=3",
    "se": "bias=False",
}


def load_weights(model: nn.Module, source: str | Path | Mapping[str, Any], layout: str | None = None) -> str:
    """Load weights into a model in place, from the key layout of foveal or of another library.

    Weights of the plain backbone also fit a model with attached mechanisms: the mechanisms keep their values, with a
    warning if they did not start as the identity. Weights of an attached mechanism must be there in every place. If it
    started as the identity and the loaded mechanism has no strength parameter anywhere, its strength is set to one. The
    auxiliary head of Inception and BatchNorm's counters (`num_batches_tracked`) are optional. Layers that their network
    registers and never calls, as in the published SE-Inception-v3, are not loaded; a warning names them.

    Args:
        model (torch.nn.Module): A model of `foveal.create_model` or any other, with or without attached mechanisms, or
            a mechanism alone.
        source (str | Path | Mapping[str, Any]): A safetensors file, a file written by `torch.save` (read with
            `weights_only=True`, which executes no code), or a state dict.
        layout (str | None): One of `foveal.networks.key_layouts.LAYOUTS`: "plain" (foveal, timm and torchvision),
            "timm-sknet", "attention-module" (CBAM's authors), "ecanet" (ECA's authors), "moskomule"
            (moskomule/senet.pytorch, for SE with `bias=False`), "study-note" (`SKNet50`, `SKConv` and `Net` of the
            study note) or "pytorchcv". None selects the best match.

    Returns:
        The name of the layout that was used.

    Raises:
        TypeError: If `model` is not a module.
        ValueError: If no layout, or not the named one, fits (the message lists the first differing names and the
            nearest known network), a weight would get integers or values that are not finite, the file cannot be read,
            or the layout is unknown. The model is unchanged.

    Examples:
        >>> import foveal
        >>> model = foveal.create_model("small_cnn+se", num_classes=10, in_chans=1)
        >>> foveal.load_weights(model, model.state_dict())
        'plain'
    """
    check_model(model)
    state = source if isinstance(source, Mapping) else read(Path(source))
    best = match_keys(model, state, layout)
    try:
        load_matched(model, best)
    except ValueError as error:
        if not best.problems:
            raise
        raise ValueError(f"{error}; {nearest(state)}") from None
    return best.layout


def nearest(state: Mapping[str, Any]) -> str:
    """Describe the known network that a state dict matches best: first the backbone, then the mechanism in it."""
    backbones = dict.fromkeys([*(recipe.backbone for recipe in RECIPES.values()), *OFTEN, *with_variants(WHOLE)])
    backbone = max(backbones, key=lambda name: match_keys(shapes_of(name), state).likeness)
    recipes = with_variants(name for name, recipe in RECIPES.items() if recipe.backbone == backbone)
    fits = {name: match_keys(shapes_of(name), state) for name in (backbone, *recipes)}
    name = max(fits, key=lambda name: fits[name].likeness)
    if fits[name].likeness < 0.5:
        return "they match no known network"
    return f"they match best {name!r}, in the layout {fits[name].layout!r}"


def with_variants(names: Iterable[str]) -> Iterator[str]:
    """Yield each name, and after it the name with the options of its variant, if it has one."""
    for name in names:
        yield name
        options = VARIANTS.get(RECIPES[name].mechanism if name in RECIPES else name)
        if options:
            yield f"{name}:{options}"


@cache
def shapes_of(name: str) -> nn.Module:
    """Create a network on the meta device, with shapes but without values."""
    with torch.device("meta"):
        return create_model(name)
