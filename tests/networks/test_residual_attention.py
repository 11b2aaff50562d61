"""Residual attention networks: parameters, depth, masks."""

import re

import pytest
import torch
from helpers import randomise_norms
from torch import nn

import foveal
from foveal.mechanisms.residual_mask import ResidualMask
from foveal.profiling.costs import count_macs, count_parameters

PAPER = {  # millions of parameters and, where the paper says it, billions of multiplications; how far ours may be off
    "attention56": (1000, 224, 31.9, 6.2, 0.013),
    "attention92": (1000, 224, 51.3, 10.4, 0.024),
    "attention92_cifar": (10, 32, 1.9, None, 0.035),
    "botnet50": (1000, 224, 20.85, None, 0.001),  # 20.8 in the paper, which cuts: its ResNet-50 has 25.5 of 25.56
}


@pytest.mark.parametrize("name", PAPER)
def test_residual_attention_size_and_macs_agree_with_the_papers(name):
    classes, side, millions, billions, off = PAPER[name]
    with torch.device("meta"):
        model = foveal.create_model(name, num_classes=classes)
        assert count_parameters(model) / 1e6 == pytest.approx(millions, rel=off)
        if billions:
            assert count_macs(model, (3, side, side)) / 1e9 == pytest.approx(billions, rel=off)


@pytest.mark.parametrize(("name", "layers"), [("attention56", 56), ("attention92", 92), ("attention92_cifar", 92)])
def test_residual_attention_trunk_is_as_deep_as_its_name(name, layers):
    """Layers with weights on the way of the trunk, shortcuts not counted: the paper's 36 m + 20."""
    with torch.device("meta"):
        model = foveal.create_model(name)
    named = [path for path, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len([path for path in named if ".mask." not in path and "shortcut" not in path]) == layers


def test_residual_attention_records_a_mask_of_each_module():
    side = 24
    model = randomise_norms(foveal.create_model("attention92_cifar", num_classes=7, in_chans=1)).eval()
    with foveal.watch(model) as seen, torch.no_grad():
        logits = model(torch.rand(2, 1, side, side))
    assert logits.shape == (2, 7)
    assert seen.paths() == [f"stages.{stage}.{module}.mask" for stage in range(3) for module in (1, 2)]
    assert not seen.unseen
    for record, halved in zip(seen, (1, 1, 2, 2, 4, 4), strict=True):
        assert record.values.shape == (2, 64 * halved, side // halved, side // halved)
        assert record.values.std() > 0


def test_attention56_masks_reach_the_last_map():
    with torch.device("meta"):
        model = foveal.create_model("attention56")
    masks = [module for module in model.modules() if isinstance(module, ResidualMask)]
    assert [len(mask.down) for mask in masks] == [3, 2, 1]
    assert [len(mask.skip) for mask in masks] == [2, 1, 0]


@pytest.mark.parametrize("modules", ["(0, 0, 0)", "(1, 1)", "(1, 1, 1, 1)", "(1, -1, 1)"])
def test_residual_attention_has_modules_in_three_stages(modules):
    says = ": must be three whole numbers" if modules.count(",") == 2 else "; tuple[int, int, int] is needed"
    with pytest.raises(ValueError, match=re.escape(f"modules={modules}{says}")):
        foveal.create_model(f"attention56:modules={modules.replace(' ', '')}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["attention56", "attention92_cifar", "botnet50"])
def test_residual_attention_trains_every_weight(name):
    model = randomise_norms(foveal.create_model(name, num_classes=3))
    model(torch.rand(4, 3, 64, 64)).square().sum().backward()
    assert not [name for name, weight in model.named_parameters() if not weight.grad.abs().sum() > 0]
