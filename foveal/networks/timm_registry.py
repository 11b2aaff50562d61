"""Our networks in timm's registry, under their names with a prefix; imported for this effect alone.

    import foveal.networks.timm_registry
    timm.create_model("foveal_sknet50", num_classes=10)

timm's training script takes them after this import (`python -c "import foveal.networks.timm_registry, runpy;
runpy.run_path('train.py', run_name='__main__')" --model foveal_sknet50`), segmentation_models_pytorch as
`tu-foveal_sknet50`. `features_only=True` returns the maps at the ends of the stages, by `feature_cls="getter"` unless
another one is given. Weights of `pretrained=True` are those of `foveal.create_model`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from foveal.networks.builders import CONFIGS, OWN
from foveal.networks.factory import PREFIX, create_model
from foveal.networks.recipes import NAMES, RECIPES

REGISTERED = tuple(dict.fromkeys((*NAMES, *OWN)))
KEPT = (
    "input_size",
    "pool_size",
    "num_classes",
    "crop_pct",
    "interpolation",
    "mean",
    "std",
    "first_conv",
    "classifier",
)


def config_of(name: str) -> dict[str, Any]:
    """Return the properties of a network as timm states them: those of its backbone, without a source of weights."""
    backbone = RECIPES[name].backbone if name in RECIPES else name
    stated = CONFIGS.get(backbone) or timm.get_pretrained_cfg(backbone).to_dict()
    return {key: stated[key] for key in KEPT}


def entrypoint(name: str) -> Callable[..., nn.Module]:
    """Return the function by which timm creates a network."""

    def create(pretrained: bool = False, **options: Any) -> nn.Module:
        if options.get("features_only"):
            options = {"feature_cls": "getter", "out_indices": feature_indices(name), **options}
        return build_model_with_cfg(partial(create_model, name, pretrained), PREFIX + name, False, **options)

    create.__name__ = create.__qualname__ = PREFIX + name
    return create


def feature_indices(name: str) -> tuple[int, ...]:
    """Return the indices of the ends of a network's stages.

    Raises:
        ValueError: The network has no stages.
    """
    with torch.device("meta"):
        outline: Any = create_model(name)
    if not outline.feature_info:
        raise ValueError(f"{PREFIX}{name}: features_only=True: the network has no stages whose maps could be returned")
    return tuple(range(len(outline.feature_info)))


default_cfgs = generate_default_cfgs({PREFIX + name: config_of(name) for name in REGISTERED})
for registered in REGISTERED:
    register_model(entrypoint(registered))
