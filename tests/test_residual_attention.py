"""The residual attention network and BoTNet: their size, their Records, their sizes of image."""

import pytest
import torch
from conftest import randomise_norms
from torch import nn

import foveal
from foveal.mechanisms.residual_mask import ResidualMask
from foveal.mechanisms.self_attention import RelativeAttention
from foveal.profiling.costs import count_macs, count_parameters

PAPER = {  # millions of parameters and, where the paper says it, billions of multiplications; how far ours may be off
    "attention56": (1000, 224, 31.9, 6.2, 0.013),
    "attention92": (1000, 224, 51.3, 10.4, 0.024),
    "attention92_cifar": (10, 32, 1.9, None, 0.035),
    "botnet50": (1000, 224, 20.85, None, 0.001),  # 20.8 in the paper, which cuts: its ResNet-50 has 25.5 of 25.56
}


@pytest.mark.parametrize("name", PAPER)
def test_size_and_work_are_those_of_the_papers(name):
    classes, side, millions, billions, off = PAPER[name]
    with torch.device("meta"):
        model = foveal.create_model(name, num_classes=classes)
        assert count_parameters(model) / 1e6 == pytest.approx(millions, rel=off)
        if billions:
            assert count_macs(model, (3, side, side)) / 1e9 == pytest.approx(billions, rel=off)


@pytest.mark.parametrize(("name", "layers"), [("attention56", 56), ("attention92", 92), ("attention92_cifar", 92)])
def test_the_trunk_is_as_deep_as_its_name(name, layers):
    """Layers with weights on the way of the trunk, shortcuts not counted: the paper's 36 m + 20."""
    with torch.device("meta"):
        model = foveal.create_model(name)
    named = [path for path, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len([path for path in named if ".mask." not in path and "shortcut" not in path]) == layers


def test_each_modules_mask_is_seen():
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


def test_masks_of_attention56_halve_to_the_networks_last_map():
    with torch.device("meta"):
        model = foveal.create_model("attention56")
    masks = [module for module in model.modules() if isinstance(module, ResidualMask)]
    assert [len(mask.down) for mask in masks] == [3, 2, 1]
    assert [len(mask.skip) for mask in masks] == [2, 1, 0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["attention56", "attention92_cifar", "botnet50"])
def test_every_weight_learns(name):
    model = randomise_norms(foveal.create_model(name, num_classes=3))
    model(torch.rand(4, 3, 64, 64)).square().sum().backward()
    assert not [name for name, weight in model.named_parameters() if not weight.grad.abs().sum() > 0]


def test_botnet_attends_in_its_last_stage():
    with torch.device("meta"):
        model = foveal.create_model("botnet50")
    places = [path for path, module in model.named_modules() if isinstance(module, RelativeAttention)]
    assert places == ["layer4.0.conv2.attention", "layer4.1.conv2", "layer4.2.conv2"]
    with pytest.raises(ValueError, match=r"no pretrained weights of .botnet50."):
        foveal.create_model("botnet50", pretrained=True)


@pytest.mark.parametrize("size", [(64, 96), (70, 33)])
def test_botnet_takes_images_of_any_size(size):
    model = randomise_norms(foveal.create_model("botnet50", num_classes=3)).eval()
    images = torch.rand(1, 3, *size)
    with torch.no_grad():
        plain = model(images)
        with foveal.watch(model) as seen:
            watched = model(images)
    torch.testing.assert_close(watched, plain, rtol=1e-4, atol=1e-5)
    rows, columns = (-(-side // 16) for side in size)
    assert seen["layer4.0.conv2"].values.shape == (1, 4, rows, columns, rows, columns)
    assert len(seen) == 3


def test_they_are_listed():
    assert foveal.list_models("attention*") == ["attention56", "attention92", "attention92_cifar"]
    assert "botnet50" in foveal.list_models()
    assert "inception_v3" not in foveal.list_models()
