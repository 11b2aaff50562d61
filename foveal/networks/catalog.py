"""Costs of the networks by name, and the costs reported in their papers.

Our costs are stored in `catalog.json`, so that listing them does not import torch; a test compares them with computed
costs.

The papers are Hu et al., 2018, Li et al., 2019, and Woo et al., 2018.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

from foveal.networks.recipes import NAMES, RECIPES


@dataclass(frozen=True)
class Reported:
    """Cost of a network as its paper reports it, in millions. MACs are multiply-adds; the papers call them FLOPs."""

    source: str
    parameters: float | None = None
    macs: float | None = None


REPORTED = {
    "seresnet50": Reported("Hu, Table 2", 28.1, 3870),  # the first figure from its Table 10
    "seresnet101": Reported("Hu, Table 2", macs=7600),
    "seresnet152": Reported("Hu, Table 2", macs=11320),
    "seresnext50_32x4d": Reported("Li, Table 2", 27.7, 4250),
    "seresnext101_32x4d": Reported("Li, Table 2", 49.2, 8000),
    "se_mobilenetv1_100": Reported("Hu, Table 3", 4.7),
    "se_shufflenet_v2_x1_0": Reported("Li, Table 4", macs=141.73),
    "sk_shufflenet_v2_x1_0": Reported("Li, Table 4", macs=145.66),
    "sknet50": Reported("Li, Table 2", 27.5, 4470),
    "sknet101": Reported("Li, Table 2", 48.9, 8460),
    "sknet29": Reported("Li, Table 5", 27.7),
    "cbam_resnet50": Reported("Woo", 28.09, 3864),
}

SMALL = dict.fromkeys(("seresnet20", "seresnet32", "seresnet56", "seresnet110", "sknet29"), (3, 32, 32))
SMALL_DIGITS = dict.fromkeys(("jaderberg_cnn", "jaderberg_fcn", "small_cnn", "stn_cnn"), (1, 42, 42))
DIGITS = {"co_localizer": (1, 84, 84), **SMALL_DIGITS}
IMAGES = {"se_inception_v3": (3, 299, 299), **DIGITS, **SMALL}
IMAGENET = (3, 224, 224)  # image size of all other networks, with 1,000 classes; smaller image sizes have 10 classes


@dataclass(frozen=True)
class ListedModel:
    """Properties of one network, as printed by `foveal list --models`."""

    name: str
    backbone: str
    mechanism: str  # empty if the network is not a backbone with an attached mechanism
    image: tuple[int, int, int]  # (C, H, W) for which the cost is counted
    parameters: int
    macs: int  # for one image
    reported: Reported | None


def describe_models() -> Iterator[ListedModel]:
    """Yield each network with its cost at its image size, and the cost reported in its paper."""
    stored = json.loads(files("foveal.networks").joinpath("catalog.json").read_text())
    for name in NAMES:
        spec = RECIPES.get(name)
        parts = (spec.backbone, spec.mechanism.partition(":")[0]) if spec else (name, "")
        yield ListedModel(name, *parts, IMAGES.get(name, IMAGENET), **stored[name], reported=REPORTED.get(name))


def classes_of(image: tuple[int, int, int]) -> int:
    """Return the number of classes for a network on images (C, H, W): 1,000 from 224 pixels, else 10."""
    return 1000 if image[1] >= IMAGENET[1] else 10
