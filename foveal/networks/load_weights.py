"""Weights from a file or a state dict into a network; and where they do not fit, into which one they would."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveal.core.validation import check_model
from foveal.networks.factory import create_model
from foveal.networks.key_layouts import load_matched, match_keys, read
from foveal.networks.recipes import RECIPES

OFTEN = ("wide_resnet50_2", "efficientnet_b0", "convnext_tiny")  # met beside the backbones of our own networks


def load_weights(model: nn.Module, source: str | Path | Mapping[str, Any], layout: str | None = None) -> str:
    """Load weights in our layout or somebody else's into a model, in place.

    Weights without any attention fit as well: the attention that was attached keeps its values, with a warning where
    it did not start as the identity. Weights of an attention of others fit one that did: it then counts in full.
    Optional are the auxiliary head of Inception and BatchNorm's counters.

    Args:
        model: of `foveal.create_model`, or anybody's, with or without attachments.
        source: a safetensors file, a file that `torch.save` wrote (read without executing anything), or a state dict.
        layout: one of `foveal.networks.key_layouts.LAYOUTS`: plain (ours, timm's and torchvision's), timm-sknet,
            attention-module (CBAM's authors), moskomule (moskomule/senet.pytorch, for a model of SE with `bias=False`),
            pytorchcv; left out, that which fits.

    Returns:
        The name of the layout that fitted.

    Raises:
        TypeError: `model` is no module.
        ValueError: no layout fits, or not the named one; the first names that differ are listed with the network that
            the weights are nearest to, and the model is as it was. A file that cannot be read; an unknown layout.

    >>> load_weights(create_model("seresnet18"), create_model("seresnet18").state_dict())
    'plain'
    """
    check_model(model)
    state = source if isinstance(source, Mapping) else read(Path(source))
    best = match_keys(model, state, layout)
    try:
        load_matched(model, best)
    except ValueError as error:
        raise ValueError(f"{error}; {nearest(state)}") from None
    return best.layout


def nearest(state: Mapping[str, Any]) -> str:
    """Which network by name a state dict is nearest to: first which backbone, then which attention in it."""
    backbones = dict.fromkeys([*(recipe.backbone for recipe in RECIPES.values()), *OFTEN])
    backbone = max(backbones, key=lambda name: match_keys(shapes_of(name), state).likeness)
    recipes = [name for name, recipe in RECIPES.items() if recipe.backbone == backbone]
    fits = {name: match_keys(shapes_of(name), state) for name in (backbone, *recipes)}
    name = max(fits, key=lambda name: fits[name].likeness)
    if fits[name].likeness < 0.5:
        return "they are near to no network that is known by name"
    return f"they are nearest to {name}, in the layout {fits[name].layout!r}"


@cache
def shapes_of(name: str) -> nn.Module:
    """A network without its weights' values."""
    with torch.device("meta"):
        return create_model(name)
