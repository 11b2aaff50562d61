"""Known blocks: each row of the table against a real block."""

import copy
import re
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import timm
import torch
import torchvision
from helpers import randomise_norms
from torch import nn

import foveal
from foveal.surgery.blocks import BLOCKS, known_block, path_within

TIMM, TORCHVISION = "timm.models.", "torchvision.models."
TRANSFORMERS, SMP = "transformers.models.", "segmentation_models_pytorch.encoders."


def hugging_face(kind: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        transformers = pytest.importorskip("transformers", reason="the extra third-party is not installed")
        config = getattr(transformers, f"{kind}Config")(depths=[1, 1, 1, 2], hidden_sizes=[8, 16, 24, 32], **options)
        return getattr(transformers, f"{kind}Model")(config)

    return build


def encoder(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        smp = pytest.importorskip("segmentation_models_pytorch", reason="the extra third-party is not installed")
        return smp.encoders.get_encoder(name, weights=None)

    return build


def yolo() -> nn.Module:
    tasks = pytest.importorskip("ultralytics.nn.tasks", reason="ultralytics is not installed")
    return tasks.DetectionModel("yolo11n.yaml", verbose=False)


EXAMPLES = {  # a network with such blocks: timm's by name, torchvision's as it is made
    f"{TIMM}resnet.BasicBlock": "resnet18",
    f"{TIMM}resnet.Bottleneck": "resnet50",
    f"{TIMM}resnetv2.PreActBasic": "resnetv2_18",
    f"{TIMM}resnetv2.PreActBottleneck": "resnetv2_50",
    f"{TIMM}resnetv2.Bottleneck": lambda: timm.models.resnetv2.ResNetV2(
        [1, 1, 1, 1], preact=False, norm_layer=timm.layers.BatchNormAct2d, conv_layer=timm.layers.create_conv2d
    ),
    f"{TIMM}regnet.Bottleneck": "regnetx_002",
    f"{TIMM}regnet.PreBottleneck": "regnetv_040",
    f"{TIMM}rexnet.LinearBottleneck": "rexnet_100",
    f"{TIMM}_efficientnet_blocks.DepthwiseSeparableConv": "efficientnet_b0",
    f"{TIMM}_efficientnet_blocks.InvertedResidual": "mobilenetv3_large_100",
    f"{TIMM}_efficientnet_blocks.EdgeResidual": "efficientnetv2_rw_t",
    f"{TIMM}_efficientnet_blocks.CondConvResidual": "tf_efficientnet_cc_b0_4e",
    f"{TIMM}_efficientnet_blocks.UniversalInvertedResidual": "mobilenetv4_conv_small",
    f"{TIMM}ghostnet.GhostBottleneck": "ghostnet_100",
    f"{TIMM}ghostnet.GhostBottleneckV3": "ghostnetv3_100",
    f"{TIMM}convnext.ConvNeXtBlock": "convnext_atto",
    f"{TIMM}cspnet.BottleneckBlock": "cspresnet50",
    f"{TIMM}cspnet.DarkBlock": "darknet17",
    f"{TIMM}cspnet.EdgeBlock": "cs3edgenet_x",
    f"{TIMM}dla.DlaBasic": "dla34",
    f"{TIMM}dla.DlaBottleneck": "dla46_c",
    f"{TIMM}dla.DlaBottle2neck": "dla60_res2net",
    f"{TIMM}densenet.DenseLayer": "densenet121",
    f"{TIMM}inception_resnet_v2.Block35": "inception_resnet_v2",
    f"{TIMM}inception_resnet_v2.Block17": "inception_resnet_v2",
    f"{TIMM}inception_resnet_v2.Block8": "inception_resnet_v2",
    f"{TORCHVISION}resnet.BasicBlock": torchvision.models.resnet18,
    f"{TORCHVISION}resnet.Bottleneck": torchvision.models.resnet50,
    f"{TORCHVISION}regnet.ResBottleneckBlock": torchvision.models.regnet_y_400mf,
    f"{TORCHVISION}mobilenetv2.InvertedResidual": torchvision.models.mobilenet_v2,
    f"{TORCHVISION}mobilenetv3.InvertedResidual": torchvision.models.mobilenet_v3_large,
    f"{TORCHVISION}efficientnet.MBConv": torchvision.models.efficientnet_b0,
    f"{TORCHVISION}efficientnet.FusedMBConv": torchvision.models.efficientnet_v2_s,
    f"{TORCHVISION}shufflenetv2.InvertedResidual": torchvision.models.shufflenet_v2_x0_5,
    f"{TORCHVISION}convnext.CNBlock": torchvision.models.convnext_tiny,
    f"{TORCHVISION}densenet._DenseLayer": torchvision.models.densenet121,
    f"{TRANSFORMERS}resnet.modeling_resnet.ResNetBasicLayer": hugging_face("ResNet", layer_type="basic"),
    f"{TRANSFORMERS}resnet.modeling_resnet.ResNetBottleNeckLayer": hugging_face("ResNet"),
    f"{TRANSFORMERS}convnext.modeling_convnext.ConvNextLayer": hugging_face("ConvNext", layer_scale_init_value=1.0),
    f"{TRANSFORMERS}convnextv2.modeling_convnextv2.ConvNextV2Layer": hugging_face("ConvNextV2"),
    f"{SMP}_senet.Bottleneck": encoder("se_resnet50"),
    f"{SMP}_efficientnet.MBConvBlock": encoder("efficientnet-b0"),
    f"{SMP}mobileone.MobileOneBlock": encoder("mobileone_s0"),
    f"{SMP}_xception.Block": encoder("xception"),
    f"{SMP}_inceptionresnetv2.Block35": encoder("inceptionresnetv2"),
    f"{SMP}_inceptionresnetv2.Block17": encoder("inceptionresnetv2"),
    f"{SMP}_inceptionresnetv2.Block8": encoder("inceptionresnetv2"),
    "ultralytics.nn.modules.block.Bottleneck": yolo,
}


WITHOUT_BRANCH = {name for name, block in BLOCKS.items() if block.end == "" or "small_cnn" in name}


@cache
def example(name: str) -> tuple[nn.Module, torch.Tensor]:
    """Last block of that class in a network, usually one with a shortcut, and its input."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        builder = EXAMPLES[name]
        model = randomise_norms(timm.create_model(builder) if isinstance(builder, str) else builder()).eval()
        inputs = {}
        for module in model.modules():
            if known_block(module) is BLOCKS[name]:
                module.register_forward_pre_hook(lambda module, args: inputs.update({module: as_block_input(args[0])}))
        with torch.no_grad():
            model(torch.randn(2, 3, 96, 96))
    block, x = [*inputs.items()][-1]
    block._forward_pre_hooks.clear()
    return block, x


def as_block_input(maps: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    """Input of a block; a dense layer takes the maps of all layers before it."""
    return torch.cat(maps, 1) if isinstance(maps, list) else maps.clone()


def block_and_input(name: str) -> tuple[nn.Module, torch.Tensor]:
    block, x = example(name)
    return copy.deepcopy(block), x.clone()


def test_every_block_with_a_branch_has_an_example():
    assert set(EXAMPLES) | WITHOUT_BRANCH == set(BLOCKS)


class Zero(nn.Module):
    def forward(self, x):
        return x * 0


def zero_the_end(block: nn.Module, name: str) -> None:
    """Multiply the end of the branch by zero."""
    parent, _, attribute = path_within(block, BLOCKS[name].end).rpartition(".")
    owner = block.get_submodule(parent)
    host = getattr(owner, attribute) or nn.Identity()
    setattr(owner, attribute, nn.Sequential(Zero(), host) if BLOCKS[name].before else nn.Sequential(host, Zero()))


NOT_IN_BRANCH = ("downsample", "shortcut", "skip", "proj", "branch1.", "layer_scale")  # not of a branch's layers


def branch_gradient(block: nn.Module, x: torch.Tensor) -> float:
    """How much a block's output depends on the first convolution of its branch."""
    first = next(
        weight for name, weight in block.named_parameters() if weight.ndim > 1 and not name.startswith(NOT_IN_BRANCH)
    )
    out = block(x.clone().requires_grad_() * 1)
    (gradient,) = torch.autograd.grad(out.square().sum(), [first], allow_unused=True)
    return 0.0 if gradient is None else gradient.abs().sum().item()


@pytest.mark.parametrize("name", EXAMPLES)
def test_known_block_end_carries_the_whole_branch(name):
    block, x = block_and_input(name)
    assert branch_gradient(block, x) > 0
    zero_the_end(block, name)
    assert branch_gradient(block, x) == 0


RESIDUAL = [name for name in EXAMPLES if re.search(r"resnet|convnext|cspnet.Bottle|cspnet.Dark|dla", name)]


@pytest.mark.parametrize("name", RESIDUAL)
def test_known_block_with_zero_end_is_its_shortcut(name):
    block, x = block_and_input(name)
    if "Pre" in name:
        block.downsample = None  # else it takes the activated input
    zero_the_end(block, name)
    shortcut = getattr(block, BLOCKS[name].shortcut or "", None) or nn.Identity()
    activated = "convnext" not in name and "Pre" not in name and "Dark" not in name
    activation = getattr(block, "act3", nn.ReLU()) if activated else nn.Identity()
    if getattr(block, "relu", 1) is None:
        activation = nn.Identity()  # the last of Inception-ResNet
    with torch.no_grad():
        assert torch.equal(block(x.clone()), activation(shortcut(x)))


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name.endswith("shufflenetv2.InvertedResidual")])
def test_known_block_shuffle_unit_with_zero_end_keeps_the_other_half(name):
    block, x = block_and_input(name)
    zero_the_end(block, name)
    kept, new = block(x)[:, ::2], block(x)[:, 1::2]
    assert torch.equal(kept, x.chunk(2, 1)[0])
    assert not new.any()


@pytest.mark.parametrize("name", [name for name in EXAMPLES if BLOCKS[name].convolution])
def test_known_block_convolution_is_followed_by_norm_and_activation(name):
    block, x = block_and_input(name)
    parts = [block.get_submodule(path_within(block, path)) for path in BLOCKS[name].convolution]
    order = []
    for index, part in enumerate(parts):
        part.register_forward_hook(lambda module, args, out, index=index: order.append((index, args[0], out)))
    block(x)
    start = next(place for place, (index, *_) in enumerate(order) if index == 0)
    run = order[start : start + len(parts)]
    assert [index for index, *_ in run] == list(range(len(parts)))
    for (_, _, inputs), (_, taken, _) in pairwise(run):
        assert taken is inputs or torch.equal(taken, inputs)
    assert any(isinstance(m, nn.Conv2d) and max(m.kernel_size) > 1 for m in parts[0].modules())


POSITIONED = [(name, position) for name in EXAMPLES for position in BLOCKS[name].positions]


class Nothing(nn.Module):
    """Attention whose output is zero."""

    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return torch.zeros_like(x)


class Half(Nothing):
    def forward(self, x):
        return x / 2


class Host(nn.Module):
    """A network of one block."""

    def __init__(self, block: nn.Module, x: torch.Tensor):
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, x.shape[1], 1), block

    def forward(self, x):
        return self.block(self.stem(x))


def attached(block: nn.Module, x: torch.Tensor, *mechanisms: Any, **options: Any) -> nn.Module:
    model = Host(block, x)
    for mechanism in mechanisms:
        foveal.attach(model, mechanism, at="block", **options)
    return model


@pytest.mark.parametrize(("name", "position"), POSITIONED)
def test_attach_keeps_block_outputs_bitwise_in_every_position(name, position):
    block, x = block_and_input(name)
    names = set(block.state_dict())
    with torch.no_grad():
        before = block(x.clone())
        model = attached(block, x, "se", position=position)
        assert torch.equal(model.block(x.clone()), before)
        for key, weight in model.named_parameters():
            if key.endswith("strength.s"):
                weight.fill_(1)
        assert not torch.equal(model.block(x.clone()), before)
        assert torch.equal(foveal.detach(model).block(x.clone()), before)
    assert set(model.block.state_dict()) == names


@pytest.mark.parametrize("name", [name for name, position in POSITIONED if position == "pre"])
def test_attach_pre_leaves_the_shortcut_alone(name):
    """With zeros at the end of the branch, zeros at its start change nothing."""
    block, x = block_and_input(name)
    model = attached(block, x, Nothing)
    with torch.no_grad():
        expected = model.block(x.clone())
        foveal.attach(model, Nothing, at="block", position="pre")
        assert torch.equal(model.block(x.clone()), expected)


@pytest.mark.parametrize("name", [name for name, position in POSITIONED if position == "post"])
def test_attach_post_weighs_the_whole_block(name):
    block, x = block_and_input(name)
    with torch.no_grad():
        expected = block(x.clone()) / 2
        assert torch.equal(attached(block, x, Half, position="post").block(x.clone()), expected)


@pytest.mark.parametrize("name", [name for name, position in POSITIONED if position == "identity"])
def test_attach_identity_position_leaves_the_branch_alone(name):
    """The branch still works; with zeros at its end, too, the output does not depend on the input."""
    block, x = block_and_input(name)
    model = attached(block, x, Nothing, position="identity")
    with torch.no_grad():
        other = torch.randn_like(x)
        assert not torch.equal(model.block(x.clone()), model.block(other.clone()))
        foveal.attach(model, Nothing, at="block")
        assert torch.equal(model.block(x.clone()), model.block(other.clone()))


@pytest.mark.parametrize("make", [lambda: timm.create_model("resnet18"), torchvision.models.resnet18])
@pytest.mark.parametrize("path", ["layer2.0", "layer2.1"])
def test_attach_positions_are_those_of_the_paper(make, path):
    model = randomise_norms(make()).eval()
    block = copy.deepcopy(model.get_submodule(path))
    x = torch.randn(2, block.conv1.in_channels, 9, 9)
    shortcut = block.downsample or nn.Identity()

    def branch(x):
        return block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))

    expected = {
        "standard": (branch(x) / 2 + shortcut(x)).relu(),
        "pre": (branch(x / 2) + shortcut(x)).relu(),
        "post": (branch(x) + shortcut(x)).relu() / 2,
        "identity": (branch(x) + shortcut(x) / 2).relu(),
    }
    for position, answer in expected.items():
        foveal.attach(model, Half, at=path, position=position)
        assert torch.equal(model.get_submodule(path)(x), answer), position
        foveal.detach(model)


def test_known_block_needs_module_names():
    shorts = [name.rpartition(".")[2] for name in BLOCKS]
    assert len(set(shorts)) < len(shorts)


def test_known_block_includes_subclasses():
    class Mine(torchvision.models.resnet.BasicBlock):
        pass

    assert known_block(Mine(8, 8)) is BLOCKS["torchvision.models.resnet.BasicBlock"]
