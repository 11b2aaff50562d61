"""Benchmark of networks at inference, as created and deployed, and of a network after `foveal.watch`."""

import copy
from collections.abc import Iterator
from functools import partial
from itertools import product

import timm
import torch

from benchmarks.measuring import Case, Goal
from benchmarks.others import BATCH, LAYOUTS
from foveal.deployment.deploy import deploy
from foveal.inspection.watch import watch
from foveal.networks.factory import create_model

IMAGE = 224
NETWORKS = {  # name: timm's network, the plain network, goals in single and half precision, goal against the plain one
    "seresnet50": ("seresnet50", "resnet50", 0.70, 0.40, 1.05),
    "sknet50": ("skresnext50_32x4d", "resnext50_32x4d", 0.70, 0.38, 1.20),
}


def deployed() -> Iterator[Case]:
    """Yield deployed networks against timm's networks, and against the deployed network without attention."""
    images = torch.randn(BATCH, 3, IMAGE, IMAGE)
    for (name, what), (layout, memory_format) in product(NETWORKS.items(), LAYOUTS.items()):
        timms, plain, single, half, beside = what
        ours = create_model(name).eval()
        small = images[:2, :, :64, :64]
        ready = {
            "ours deployed": deploy(ours, small).network,
            "ours deployed, bfloat16": deploy(ours, small, dtype=torch.bfloat16, tolerance=0.2).network,
            "plain deployed": deploy(timm.create_model(plain).eval(), small).network,
        }
        models = {"ours": ours, "timm": timm.create_model(timms)}
        models = {key: model.eval().to(memory_format=memory_format) for key, model in models.items()} | ready
        inputs = images.to(memory_format=memory_format)
        goals = [
            Goal("ours deployed", "timm", single),
            Goal("ours deployed, bfloat16", "timm", half),
            Goal("ours deployed", "plain deployed", beside),
            Goal("ours", "timm"),
        ]
        runs = {key: torch.no_grad()(partial(model, inputs)) for key, model in models.items()}
        yield Case(f"{name} {BATCH}x3x{IMAGE}x{IMAGE} {layout}", runs, goals)


def watching() -> Iterator[Case]:
    """Yield a network after `foveal.watch` against the same network that was never watched."""
    images = torch.randn(BATCH, 3, 64, 64)
    never = create_model("resnet18+se").eval()
    models = {"never watched": never, "watched before": copy.deepcopy(never)}
    with torch.no_grad(), watch(models["watched before"]):
        models["watched before"](images)
    runs = {name: torch.no_grad()(partial(model, images)) for name, model in models.items()}
    yield Case(f"resnet18+se {BATCH}x3x64x64", runs, [Goal("watched before", "never watched", 1.0)])
