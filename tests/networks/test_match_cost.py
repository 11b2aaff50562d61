"""Networks scaled to the cost of another."""

from functools import partial

import pytest
import torch
from torch import nn

import foveal
from foveal.networks.match_cost import last_within, nearest, scale_to_cost
from foveal.profiling.costs import count_macs, count_parameters

IMAGENET, SMALL = {"num_classes": 1000, "in_chans": 3}, {"num_classes": 10, "in_chans": 1}


FAMILIES = {  # a backbone of each, and its block
    "small_cnn": "ConvBlock",
    "resnet20": "BasicBlock",
    "resnext29_16x32d": "Bottleneck",
    "resnet18": "BasicBlock",
    "resnet50": "Bottleneck",
    "resnet50d": "Bottleneck",
    "resnext26_32x4d": "Bottleneck",
    "convnext_atto": "ConvNeXtBlock",
    "vit_tiny_patch16_224": "Block",
    "botnet50": "Bottleneck",
}


def create(name: str, **options: int) -> nn.Module:
    with torch.device("meta"):
        return foveal.create_model(name, **options)


def blocks(model: nn.Module, kind: str) -> int:
    return sum(type(module).__name__ == kind for module in model.modules())


MATCHES = [  # of a backbone, the attention whose cost is met, and how closely
    ("small_cnn", "small_cnn+se", SMALL, 0.05),
    ("small_cnn", "small_cnn+sk:groups=8", SMALL, 0.05),
    ("small_cnn", "small_cnn+stn", SMALL, 0.05),
    ("resnet20", "resnet20+se", SMALL, 0.05),
    ("resnet18", "seresnet18", IMAGENET, 0.03),
    pytest.param("resnet50", "seresnet50", IMAGENET, 0.03, marks=pytest.mark.exhaustive),
    pytest.param("resnext50_32x4d", "sknet50", IMAGENET, 0.03, marks=pytest.mark.exhaustive),
    pytest.param("convnext_atto", "convnext_femto", IMAGENET, 0.03, marks=pytest.mark.exhaustive),
    pytest.param("vit_tiny_patch16_224", "vit_tiny_patch16_224:depth=14", IMAGENET, 0.03, marks=pytest.mark.exhaustive),
]


@pytest.mark.parametrize("how", ["wider", "deeper"])
@pytest.mark.parametrize(("backbone", "target", "options", "error"), MATCHES)
def test_scale_to_cost_meets_parameters(backbone, target, options, error, how):
    budget = count_parameters(create(target, **options))
    name = scale_to_cost(backbone, how, budget, **options)
    plain, found = create(backbone, **options), create(name, **options)
    assert abs(count_parameters(found) / budget - 1) < error
    kind = FAMILIES.get(backbone, "Bottleneck")
    if how == "wider":
        assert count_parameters(found) > count_parameters(plain)
        assert blocks(found, kind) == blocks(plain, kind)
    else:
        assert blocks(found, kind) > blocks(plain, kind)


@pytest.mark.parametrize("how", ["wider", "deeper"])
@pytest.mark.parametrize(
    ("backbone", "target", "options", "side", "error"),
    [
        ("small_cnn", "small_cnn+sk:groups=8", SMALL, 42, 0.05),
        ("small_cnn", "small_cnn+stn", SMALL, 42, 0.05),
        pytest.param("resnet18", "resnet18+sk:groups=32", IMAGENET, 224, 0.03, marks=pytest.mark.slow),
    ],
)
def test_scale_to_cost_meets_macs(backbone, target, options, side, error, how):
    cost = partial(count_macs, shape=(options["in_chans"], side, side))
    budget = cost(create(target, **options))
    found = create(scale_to_cost(backbone, how, budget, cost, **options), **options)
    assert abs(cost(found) / budget - 1) < error


def test_scale_to_cost_meets_any_cost_and_asks_each_network_once():
    measured = []

    def cost(model: nn.Module) -> float:
        assert next(model.parameters()).device.type == "cpu"
        measured.append(tuple(weight.shape for weight in model.parameters()))
        return float(model.head.in_features)

    wider = scale_to_cost("small_cnn", "wider", 80, cost, device="cpu", **SMALL)
    assert wider.startswith("small_cnn:width=1.2")  # 80 / 64
    assert len(measured) == len(set(measured))


def test_nearest_finds_the_closest_of_a_rising_cost():
    costs = {1: 10.0, 2: 10.0, 3: 20.0, 4: 40.0, **dict.fromkeys(range(5, 70000), 100.0)}
    assert [nearest(costs.get, budget, 1) for budget in (1, 10, 14, 16, 29, 31, 100 - 31)] == [1, 2, 2, 3, 3, 4, 4]
    assert last_within(costs.get, 5, 1) == 0
    with pytest.raises(ValueError, match="budget=100 is too large"):
        last_within(costs.get, 100, 1)


def test_scale_to_cost_refuses_impossible_budgets():
    with pytest.raises(ValueError, match="how='larger': must be 'wider' or 'deeper'"):
        scale_to_cost("small_cnn", "larger", 1e6)
    with pytest.raises(ValueError, match="budget=10 is too small: 'small_cnn' costs"):
        scale_to_cost("small_cnn", "wider", 10, **SMALL)
    with pytest.raises(ValueError, match="EfficientNet does not support"):
        scale_to_cost("mobilenetv2_100", "wider", 1e7)
