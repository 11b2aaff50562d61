"""Plain networks made larger: their names, what grows, and whether they cost what they should."""

import re
from functools import partial

import pytest
import timm
import torch
from torch import nn

import foveal
from foveal.networks.match_cost import last_within, nearest, scale_to_cost
from foveal.networks.scaling import deepened, widened
from foveal.profiling.costs import count_macs, count_parameters
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


def made(name: str, **options: int) -> nn.Module:
    with torch.device("meta"):
        return foveal.create_model(name, **options)


def blocks(model: nn.Module, kind: str) -> int:
    return sum(type(module).__name__ == kind for module in model.modules())


@pytest.mark.parametrize("name", FAMILIES)
class TestNames:
    def test_a_wider_network_is_wider_everywhere(self, name):
        """All layers as they are, each with more channels out, but for the image's and the classes."""
        plain, wide = made(name, **IMAGENET), made(f"{name}:width=1.5", **IMAGENET)
        layers = [
            {path: module for path, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
            for model in (plain, wide)
        ]
        added = {"layer1.0.downsample.0"} if name == "resnet18" else set()  # from the fixed stem to a wider stage
        assert layers[1].keys() - layers[0].keys() == added
        alike = {path for path, layer in layers[0].items() if layer.weight.shape[0] >= layers[1][path].weight.shape[0]}
        last = [path for path, layer in layers[0].items() if layer.weight.shape[0] == 1000]
        fixed = {"conv1"} if isinstance(plain, timm.models.resnet.ResNet) and name != "resnet50d" else set()
        positions = {path for path in alike if "relative" in path}
        assert alike - positions == {*last, *fixed}

    def test_a_deeper_network_has_more_blocks_of_the_same_widths(self, name):
        plain, deep = made(name, **IMAGENET), made(f"{name}:extra_blocks=3", **IMAGENET)
        assert blocks(deep, FAMILIES[name]) == blocks(plain, FAMILIES[name]) + 3
        shapes = [{tuple(weight.shape) for weight in model.parameters()} for model in (plain, deep)]
        assert shapes[0] <= shapes[1]

    def test_the_plain_scale_is_the_plain_network(self, name):
        plain, same = made(name, **IMAGENET), made(f"{name}:width=1.0,extra_blocks=0", **IMAGENET)
        assert {path: weight.shape for path, weight in plain.named_parameters()} == {
            path: weight.shape for path, weight in same.named_parameters()
        }


@pytest.mark.parametrize(
    ("scaled", "same"),
    [
        ("convnext_atto:width=1.2", "convnext_femto"),
        ("resnet18:extra_blocks=1", "resnet18:layers=(3,2,2,2)"),
        ("vit_tiny_patch16_224:width=2.0", "vit_tiny_patch16_224:embed_dim=384"),
        ("small_cnn:width=0.5,extra_blocks=1", "small_cnn:widths=(16,32,32,32,64)"),
        ("resnet20:extra_blocks=3", "resnet20:blocks=(4,4,4)"),
    ],
)
def test_a_scale_is_what_others_call_otherwise(scaled, same):
    """ConvNeXt-Femto is ConvNeXt-Atto of 1.2 times its width: 48 channels and twice, four, eight times as many."""
    ours, theirs = made(scaled, **IMAGENET), made(same, **IMAGENET)
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
def test_a_scaled_network_survives_its_checkpoint(name, tmp_path):
    model = foveal.create_model(name, num_classes=4, in_chans=1).eval()
    save_checkpoint(tmp_path / "model.safetensors", model, {})
    again, _ = load_checkpoint(tmp_path / "model.safetensors")
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(again(images), model(images))


def test_a_recipe_scales_its_backbone_and_keeps_its_attention():
    model = made("seresnet50:extra_blocks=1", **IMAGENET)
    assert [len(stage) for stage in (model.layer1, model.layer2, model.layer3, model.layer4)] == [3, 4, 7, 3]
    assert len(foveal.attachments(model)) == 1
    assert blocks(model, "SqueezeExcite") == 17


def test_a_large_bam_finds_the_ends_of_small_cnns_stages():
    model = foveal.create_model("small_cnn:extra_blocks=2", **SMALL)
    assert [each["module"] for each in model.feature_info] == ["features.0", "features.5"]
    assert model(torch.rand(2, 1, 42, 42)).shape == (2, 10)


def test_norms_groups_and_heads_keep_dividing():
    normed = made("resnet50_gn:width=1.1")
    assert all(norm.num_channels % norm.num_groups == 0 for norm in normed.modules() if isinstance(norm, nn.GroupNorm))
    assert normed.layer4[0].conv1.out_channels == 512 + 64  # 51.2 is nearer to two groups of 32 than to one
    grouped = foveal.create_model("resnext26_32x4d:width=1.04", num_classes=3).eval()
    assert grouped(torch.rand(1, 3, 32, 32)).shape == (1, 3)
    vit = foveal.create_model("vit_tiny_patch16_224:width=1.1", num_classes=3).eval()
    assert (vit.embed_dim, vit.blocks[0].attn.num_heads) == (192 + 18, 3)  # 19.2 is 18 and less than half of 3
    assert vit(torch.rand(1, 3, 224, 224)).shape == (1, 3)


def test_widths_grow_by_multiples_from_where_they_are():
    assert [widened(each, 1.1, 8) for each in (64, 128, 12)] == [64 + 8, 128 + 16, 12]  # 6.4, 12.8 and 1.2 more
    assert [widened(each, 0.1, 8) for each in (64, 128, 12)] == [8, 16, 8]  # 57.6, 115.2, 10.8 less, but never none
    assert [widened(each, 1, 8) for each in (7, 13)] == [7, 13]


def test_blocks_go_where_the_least_was_added():
    def stages(*blocks: int) -> list[nn.Sequential]:
        return [nn.Sequential(*(nn.Identity() for _ in range(count))) for count in blocks]

    assert deepened(stages(3, 4, 6, 3), 2) == (3, 5, 7, 3)
    assert deepened(stages(2, 2, 2, 2), 5) == (4, 3, 3, 3)
    assert deepened(stages(3, 3, 9, 3), 18) == (6, 6, 18, 6)  # twice of all


MATCHES = [  # of a backbone, the attention whose cost is met, and how closely
    ("small_cnn", "small_cnn+se", SMALL, 0.05),
    ("small_cnn", "small_cnn+sk:groups=8", SMALL, 0.05),
    ("small_cnn", "small_cnn+stn", SMALL, 0.05),
    ("resnet20", "resnet20+se", SMALL, 0.05),
    ("resnet18", "seresnet18", IMAGENET, 0.03),
    ("resnet50", "seresnet50", IMAGENET, 0.03),
    pytest.param("resnext50_32x4d", "sknet50", IMAGENET, 0.03, marks=pytest.mark.slow),
    pytest.param("convnext_atto", "convnext_femto", IMAGENET, 0.03, marks=pytest.mark.slow),
    pytest.param("vit_tiny_patch16_224", "vit_tiny_patch16_224:depth=14", IMAGENET, 0.03, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("how", ["wider", "deeper"])
@pytest.mark.parametrize(("backbone", "target", "options", "error"), MATCHES)
def test_parameters_are_met(backbone, target, options, error, how):
    budget = count_parameters(made(target, **options))
    name = scale_to_cost(backbone, how, budget, **options)
    plain, found = made(backbone, **options), made(name, **options)
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
def test_macs_are_met(backbone, target, options, side, error, how):
    cost = partial(count_macs, shape=(options["in_chans"], side, side))
    budget = cost(made(target, **options))
    found = made(scale_to_cost(backbone, how, budget, cost, **options), **options)
    assert abs(cost(found) / budget - 1) < error


def test_any_cost_is_met_on_a_device_and_each_network_is_asked_once():
    asked = []

    def cost(model: nn.Module) -> float:
        assert next(model.parameters()).device.type == "cpu"
        asked.append(tuple(weight.shape for weight in model.parameters()))
        return float(model.head.in_features)

    assert scale_to_cost("small_cnn", "wider", 160, cost, device="cpu", **SMALL).startswith(
        "small_cnn:width=1.2"
    )  # 160 / 128
    assert len(asked) == len(set(asked))


def test_the_closest_of_a_rising_cost_is_found():
    costs = {1: 10.0, 2: 10.0, 3: 20.0, 4: 40.0, **dict.fromkeys(range(5, 70000), 100.0)}
    assert [nearest(costs.get, budget, 1) for budget in (1, 10, 14, 16, 29, 31, 100 - 31)] == [1, 2, 2, 3, 3, 4, 4]
    assert last_within(costs.get, 5, 1) == 0
    with pytest.raises(ValueError, match="budget=100: no scale reaches it"):
        last_within(costs.get, 100, 1)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mobilenetv2_100:width=1.2", "EfficientNet cannot be made wider or deeper by its name; small_cnn, the"),
        ("ram:extra_blocks=1", "RAM cannot be made wider"),
        ("resnet18:width=0", "width=0: a factor from 0.25 up"),
        ("resnet18:width=wide", "width='wide': a factor"),
        ("resnet18:extra_blocks=-1", "extra_blocks=-1: how many"),
        ("resnet18:extra_blocks=1.5", "extra_blocks=1.5: how many"),
        ("small_cnn:widths=(8,8)", "widths=(8, 8): four or more"),
    ],
)
def test_what_cannot_be_scaled_is_one_line(name, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        foveal.create_model(name)


@pytest.mark.parametrize("name", ["resnet18:width=1.1", "seresnet50:extra_blocks=1"])
def test_nobody_has_weights_of_a_scaled_network(name):
    with pytest.raises(ValueError, match="there are no pretrained weights of a scaled network"):
        foveal.create_model(name, pretrained=True)


def test_budgets_that_cannot_be_met_are_one_line():
    with pytest.raises(ValueError, match="how='larger': wider or deeper"):
        scale_to_cost("small_cnn", "larger", 1e6)
    with pytest.raises(ValueError, match="budget=10: 'small_cnn' costs"):
        scale_to_cost("small_cnn", "wider", 10, **SMALL)
    with pytest.raises(ValueError, match="EfficientNet cannot"):
        scale_to_cost("mobilenetv2_100", "wider", 1e7)
