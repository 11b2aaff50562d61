"""Each row of the table is checked on a real block: what stands at its end, what its convolution is."""

import re
from itertools import pairwise

import pytest
import timm
import torch
import torchvision
from conftest import randomise_norms
from torch import nn

from foveal.places import BLOCKS, known_block, matching_paths

FAMILIES = {
    "timm.models.resnet.BasicBlock": lambda: timm.create_model("resnet18"),
    "timm.models.resnet.Bottleneck": lambda: timm.create_model("resnet50"),
    "timm.models.regnet.Bottleneck": lambda: timm.create_model("regnetx_002"),
    "timm.models.regnet.PreBottleneck": lambda: timm.create_model("regnetv_040"),
    "timm.models.rexnet.LinearBottleneck": lambda: timm.create_model("rexnet_100"),
    "timm.models._efficientnet_blocks.DepthwiseSeparableConv": lambda: timm.create_model("efficientnet_b0"),
    "timm.models._efficientnet_blocks.InvertedResidual": lambda: timm.create_model("mobilenetv3_large_100"),
    "timm.models._efficientnet_blocks.EdgeResidual": lambda: timm.create_model("efficientnetv2_rw_t"),
    "timm.models._efficientnet_blocks.CondConvResidual": lambda: timm.create_model("tf_efficientnet_cc_b0_4e"),
    "timm.models._efficientnet_blocks.UniversalInvertedResidual": lambda: timm.create_model("mobilenetv4_conv_small"),
    "torchvision.models.resnet.BasicBlock": lambda: torchvision.models.resnet18(),
    "torchvision.models.resnet.Bottleneck": lambda: torchvision.models.resnet50(),
}
WITHOUT_BRANCH = {name for name in BLOCKS if "inception" in name or "small_cnn" in name}


def block_of(name: str) -> nn.Module:
    """The last block of that class in a network that has one: most often one with a shortcut."""
    model = randomise_norms(FAMILIES[name]()).eval()
    full = [m for m in model.modules() if f"{type(m).__module__}.{type(m).__qualname__}" == name]
    return full[-1]


def width_of(block: nn.Module) -> int:
    return next(m.in_channels for m in block.modules() if hasattr(m, "in_channels"))


def test_every_row_with_a_branch_is_tried():
    assert set(FAMILIES) | WITHOUT_BRANCH == set(BLOCKS)


class Zero(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


def branch_gradient(block: nn.Module) -> float:
    """How much a block's output depends on the first convolution of its branch."""
    first = next(weight for name, weight in block.named_parameters() if weight.ndim > 1 and "downsample" not in name)
    out = block(torch.randn(2, width_of(block), 14, 14, requires_grad=True))
    (gradient,) = torch.autograd.grad(out.square().sum(), [first], allow_unused=True)
    return 0.0 if gradient is None else gradient.abs().sum().item()


@pytest.mark.parametrize("name", FAMILIES)
def test_all_of_the_branch_flows_through_its_end(name):
    block = block_of(name)
    assert branch_gradient(block) > 0
    setattr(block, BLOCKS[name].end, Zero())
    assert branch_gradient(block) == 0


@pytest.mark.parametrize("name", [name for name in FAMILIES if "resnet" in name])
def test_with_its_end_zeroed_a_residual_block_is_its_shortcut(name):
    block = block_of(name)
    setattr(block, BLOCKS[name].end, Zero())
    shortcut = block.downsample or nn.Identity()
    x = torch.randn(2, width_of(block), 14, 14)
    assert torch.equal(block(x), torch.relu(shortcut(x)))


@pytest.mark.parametrize("name", [name for name in FAMILIES if BLOCKS[name].convolution])
def test_the_convolution_has_its_norm_and_activation_behind_it(name):
    block, row = block_of(name), BLOCKS[name]
    parts = [getattr(block, attribute) for attribute in row.convolution]
    order = []
    handles = [
        part.register_forward_hook(lambda module, args, out, index=index: order.append((index, args[0], out)))
        for index, part in enumerate(parts)
    ]
    block(torch.randn(1, width_of(block), 14, 14))
    for handle in handles:
        handle.remove()
    start = next(place for place, (index, *_) in enumerate(order) if index == 0)
    run = order[start : start + len(parts)]
    assert [index for index, *_ in run] == list(range(len(parts)))
    for (_, _, given), (_, taken, _) in pairwise(run):
        assert taken is given or torch.equal(taken, given)
    assert any(isinstance(m, nn.Conv2d) and max(m.kernel_size) > 1 for m in parts[0].modules())


def test_class_names_alone_would_collide():
    shorts = [name.rpartition(".")[2] for name in BLOCKS]
    assert len(set(shorts)) < len(shorts)


def test_a_subclass_counts_as_its_parent():
    class Mine(torchvision.models.resnet.BasicBlock):
        pass

    assert known_block(Mine(8, 8)) is BLOCKS["torchvision.models.resnet.BasicBlock"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("layer4.*", ["layer4.0", "layer4.1"]),
        ("layer4", ["layer4"]),
        ("layer*.0", ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]),
        ("**.bn2", [f"layer{s}.{b}.bn2" for s in (1, 2, 3, 4) for b in (0, 1)]),
        (["layer1.0", "layer2.1"], ["layer1.0", "layer2.1"]),
        (lambda path, module: isinstance(module, nn.Linear), ["fc"]),
    ],
)
def test_patterns(pattern, expected):
    with torch.device("meta"):
        assert matching_paths(torchvision.models.resnet18(), pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("layr4.*", "unknown place 'layr4.*'; did you mean 'layer4"),
        (["layer4.*", "layer4.1"], "'layer4.1' is matched twice, by 'layer4.*' and by 'layer4.1'"),
        (lambda path, module: False, "chose none"),
    ],
)
def test_bad_patterns_are_named(pattern, says):
    with torch.device("meta"), pytest.raises(ValueError, match=re.escape(says)):
        matching_paths(torchvision.models.resnet18(), pattern)
