"""Wider and deeper networks by name."""

import re
from functools import cache

import pytest
import timm
import torch
from torch import nn

import foveal
from foveal.networks.scaling import deepened, widened
from foveal.training.checkpoint import load_checkpoint, save_checkpoint

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


@cache
def create(name: str, **options: int) -> nn.Module:
    with torch.device("meta"):
        return foveal.create_model(name, **options)


def blocks(model: nn.Module, kind: str) -> int:
    return sum(type(module).__name__ == kind for module in model.modules())


@pytest.mark.parametrize("name", FAMILIES)
class TestScaledNames:
    def test_create_model_width_widens_every_layer(self, name):
        """The same layers with more output channels, except for image and class channels."""
        plain, wide = create(name, **IMAGENET), create(f"{name}:width=1.5", **IMAGENET)
        layers = [
            {path: module for path, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
            for model in (plain, wide)
        ]
        added = {"layer1.0.downsample.0"} if name == "resnet18" else set()  # from the fixed stem to a wider stage
        assert layers[1].keys() - layers[0].keys() == added
        unscaled = {
            path for path, layer in layers[0].items() if layer.weight.shape[0] >= layers[1][path].weight.shape[0]
        }
        last = [path for path, layer in layers[0].items() if layer.weight.shape[0] == 1000]
        fixed = {"conv1"} if isinstance(plain, timm.models.resnet.ResNet) and name != "resnet50d" else set()
        positions = {path for path in unscaled if "relative" in path}
        assert unscaled - positions == {*last, *fixed}

    def test_create_model_extra_blocks_deepen_at_the_same_widths(self, name):
        plain, deep = create(name, **IMAGENET), create(f"{name}:extra_blocks=3", **IMAGENET)
        assert blocks(deep, FAMILIES[name]) == blocks(plain, FAMILIES[name]) + 3
        shapes = [{tuple(weight.shape) for weight in model.parameters()} for model in (plain, deep)]
        assert shapes[0] <= shapes[1]

    def test_create_model_of_scale_one_is_the_plain_network(self, name):
        plain, same = create(name, **IMAGENET), create(f"{name}:width=1.0,extra_blocks=0", **IMAGENET)
        assert {path: weight.shape for path, weight in plain.named_parameters()} == {
            path: weight.shape for path, weight in same.named_parameters()
        }


@pytest.mark.parametrize(
    ("scaled", "same"),
    [
        ("convnext_atto:width=1.2", "convnext_femto"),
        ("resnet18:extra_blocks=1", "resnet18:layers=(3,2,2,2)"),
        ("vit_tiny_patch16_224:width=2.0", "vit_tiny_patch16_224:embed_dim=384"),
        ("small_cnn:width=0.5,extra_blocks=1", "small_cnn:widths=(16,16,32,32,32)"),
        ("resnet20:extra_blocks=3", "resnet20:blocks=(4,4,4)"),
    ],
)
def test_create_model_scaled_is_a_known_network(scaled, same):
    """ConvNeXt-Femto is ConvNeXt-Atto of 1.2 times its width: 48 channels and twice, four, eight times as many."""
    ours, theirs = create(scaled, **IMAGENET), create(same, **IMAGENET)
    assert [(path, weight.shape) for path, weight in ours.named_parameters()] == [
        (path, weight.shape) for path, weight in theirs.named_parameters()
    ]


@pytest.mark.parametrize(
    "name",
    [
        "small_cnn:width=1.3,extra_blocks=2+se",
        "resnet20:width=0.7,extra_blocks=1",
        "timm:resnet18:width=0.3+cbam",
        "seresnet18:width=0.25,extra_blocks=1",
    ],
)
def test_create_model_scaled_survives_a_checkpoint(name, tmp_path):
    model = foveal.create_model(name, num_classes=4, in_chans=1).eval()
    save_checkpoint(tmp_path / "model.safetensors", model, {})
    again, _ = load_checkpoint(tmp_path / "model.safetensors")
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(again(images), model(images))


def test_create_model_scales_the_backbone_of_a_recipe():
    model = create("seresnet50:extra_blocks=1", **IMAGENET)
    assert [len(stage) for stage in (model.layer1, model.layer2, model.layer3, model.layer4)] == [3, 4, 7, 3]
    assert len(foveal.attachments(model)) == 1
    assert blocks(model, "SqueezeExcite") == 17


def test_create_model_small_cnn_scaled_takes_bam_between_stages():
    model = foveal.create_model("small_cnn:extra_blocks=2", **SMALL)
    assert [each["module"] for each in model.feature_info] == ["stem.2", "features.0", "features.5"]
    assert model(torch.rand(2, 1, 42, 42)).shape == (2, 10)


def test_create_model_scaled_keeps_norms_groups_and_heads_dividing():
    normed = create("resnet50_gn:width=1.1")
    assert all(norm.num_channels % norm.num_groups == 0 for norm in normed.modules() if isinstance(norm, nn.GroupNorm))
    assert normed.layer4[0].conv1.out_channels == 512 + 64  # 51.2 is nearer to two groups of 32 than to one
    grouped = foveal.create_model("resnext26_32x4d:width=1.04", num_classes=3).eval()
    assert grouped(torch.rand(1, 3, 32, 32)).shape == (1, 3)
    vit = foveal.create_model("vit_tiny_patch16_224:width=1.1", num_classes=3).eval()
    assert (vit.embed_dim, vit.blocks[0].attn.num_heads) == (192 + 18, 3)  # 19.2 is 18 and less than half of 3
    assert vit(torch.rand(1, 3, 224, 224)).shape == (1, 3)


def test_widened_grows_by_multiples():
    assert [widened(each, 1.1, 8) for each in (64, 128, 12)] == [64 + 8, 128 + 16, 12]  # 6.4, 12.8 and 1.2 more
    assert [widened(each, 0.1, 8) for each in (64, 128, 12)] == [8, 16, 8]  # 57.6, 115.2, 10.8 less, but never none
    assert [widened(each, 1, 8) for each in (7, 13)] == [7, 13]


def test_deepened_adds_where_least_was_added():
    def stages(*blocks: int) -> list[nn.Sequential]:
        return [nn.Sequential(*(nn.Identity() for _ in range(count))) for count in blocks]

    assert deepened(stages(3, 4, 6, 3), 2) == (3, 5, 7, 3)
    assert deepened(stages(2, 2, 2, 2), 5) == (4, 3, 3, 3)
    assert deepened(stages(3, 3, 9, 3), 18) == (6, 6, 18, 6)  # twice of all


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mobilenetv2_100:width=1.2", "EfficientNet does not support width and extra_blocks; supported: small_cnn"),
        ("ram:extra_blocks=1", "RAM does not support width"),
        ("resnet18:width=0", "width=0: must be a factor of at least 0.25"),
        ("resnet18:width=wide", "width='wide': must be a factor"),
        ("resnet18:extra_blocks=-1", "extra_blocks=-1: must be"),
        ("resnet18:extra_blocks=1.5", "extra_blocks=1.5: must be"),
        ("small_cnn:widths=(8,8)", "widths=(8, 8): must have four"),
    ],
)
def test_create_model_refuses_what_cannot_be_scaled(name, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        foveal.create_model(name)


@pytest.mark.parametrize("name", ["resnet18:width=1.1", "seresnet50:extra_blocks=1"])
def test_create_model_scaled_has_no_pretrained_weights(name):
    with pytest.raises(ValueError, match="there are no pretrained weights of a scaled network"):
        foveal.create_model(name, pretrained=True)
