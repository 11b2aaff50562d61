"""Each row of the table is checked on a real block: what stands at its end, what its convolution is."""

import copy
import re
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import timm
import torch
import torchvision
from conftest import randomise_norms
from torch import nn

import foveal
from foveal.surgery.blocks import BLOCKS, CHAINS, known_block, path_within
from foveal.surgery.placement import default_paths, list_placements, matching_paths

TIMM, TORCHVISION = "timm.models.", "torchvision.models."
TRIED = {  # a network with such blocks: timm's by name, torchvision's as it is made
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
}
WITHOUT_BRANCH = {name for name, block in BLOCKS.items() if block.end == "" or "small_cnn" in name}


@cache
def example(name: str) -> tuple[nn.Module, torch.Tensor]:
    """The last block of that class in a network that has one, most often one with a shortcut, and what it is given."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = TRIED[name]
        model = randomise_norms(timm.create_model(made) if isinstance(made, str) else made()).eval()
        given = {}
        for module in model.modules():
            if known_block(module) is BLOCKS[name]:
                module.register_forward_pre_hook(lambda module, args: given.update({module: joined(args[0])}))
        with torch.no_grad():
            model(torch.randn(2, 3, 96, 96))
    block, x = [*given.items()][-1]
    block._forward_pre_hooks.clear()
    return block, x


def joined(maps: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    """What a block is given; a dense layer is given the maps of all that stand before it."""
    return torch.cat(maps, 1) if isinstance(maps, list) else maps.clone()


def block_and_input(name: str) -> tuple[nn.Module, torch.Tensor]:
    block, x = example(name)
    return copy.deepcopy(block), x.clone()


def test_every_row_with_a_branch_is_tried():
    assert set(TRIED) | WITHOUT_BRANCH == set(BLOCKS)


class Zero(nn.Module):
    def forward(self, x):
        return x * 0


def zero_the_end(block: nn.Module, name: str) -> None:
    """As if an attention stood there that lets nothing through."""
    parent, _, attribute = path_within(block, BLOCKS[name].end).rpartition(".")
    owner = block.get_submodule(parent)
    host = getattr(owner, attribute) or nn.Identity()
    setattr(owner, attribute, nn.Sequential(Zero(), host) if BLOCKS[name].before else nn.Sequential(host, Zero()))


ASIDE = ("downsample", "shortcut", "proj", "branch1.", "layer_scale")  # not of a branch's layers


def branch_gradient(block: nn.Module, x: torch.Tensor) -> float:
    """How much a block's output depends on the first convolution of its branch."""
    first = next(weight for name, weight in block.named_parameters() if weight.ndim > 1 and not name.startswith(ASIDE))
    out = block(x.clone().requires_grad_() * 1)
    (gradient,) = torch.autograd.grad(out.square().sum(), [first], allow_unused=True)
    return 0.0 if gradient is None else gradient.abs().sum().item()


@pytest.mark.parametrize("name", TRIED)
def test_all_of_the_branch_flows_through_its_end(name):
    block, x = block_and_input(name)
    assert branch_gradient(block, x) > 0
    zero_the_end(block, name)
    assert branch_gradient(block, x) == 0


RESIDUAL = [name for name in TRIED if re.search(r"resnet|convnext|cspnet.Bottle|cspnet.Dark|dla", name)]


@pytest.mark.parametrize("name", RESIDUAL)
def test_with_its_end_zeroed_a_residual_block_is_its_shortcut(name):
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


@pytest.mark.parametrize("name", [name for name in TRIED if name.endswith("shufflenetv2.InvertedResidual")])
def test_with_its_end_zeroed_a_shuffle_unit_keeps_the_half_that_passes_by(name):
    block, x = block_and_input(name)
    zero_the_end(block, name)
    kept, new = block(x)[:, ::2], block(x)[:, 1::2]
    assert torch.equal(kept, x.chunk(2, 1)[0])
    assert not new.any()


@pytest.mark.parametrize("name", [name for name in TRIED if BLOCKS[name].convolution])
def test_the_convolution_has_its_norm_and_activation_behind_it(name):
    block, x = block_and_input(name)
    parts = [block.get_submodule(path_within(block, path)) for path in BLOCKS[name].convolution]
    order = []
    for index, part in enumerate(parts):
        part.register_forward_hook(lambda module, args, out, index=index: order.append((index, args[0], out)))
    block(x)
    start = next(place for place, (index, *_) in enumerate(order) if index == 0)
    run = order[start : start + len(parts)]
    assert [index for index, *_ in run] == list(range(len(parts)))
    for (_, _, given), (_, taken, _) in pairwise(run):
        assert taken is given or torch.equal(taken, given)
    assert any(isinstance(m, nn.Conv2d) and max(m.kernel_size) > 1 for m in parts[0].modules())


POSITIONED = [(name, position) for name in TRIED for position in BLOCKS[name].positions]


class Nothing(nn.Module):
    """An attention that lets nothing through."""

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
def test_at_birth_a_block_answers_as_before_in_every_position(name, position):
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
def test_before_the_branch_it_leaves_the_shortcut_alone(name):
    """With nothing at the branch's end, nothing at its start changes nothing."""
    block, x = block_and_input(name)
    model = attached(block, x, Nothing)
    with torch.no_grad():
        expected = model.block(x.clone())
        foveal.attach(model, Nothing, at="block", position="pre")
        assert torch.equal(model.block(x.clone()), expected)


@pytest.mark.parametrize("name", [name for name, position in POSITIONED if position == "post"])
def test_after_the_block_it_weighs_all_of_it(name):
    block, x = block_and_input(name)
    with torch.no_grad():
        expected = block(x.clone()) / 2
        assert torch.equal(attached(block, x, Half, position="post").block(x.clone()), expected)


@pytest.mark.parametrize("name", [name for name, position in POSITIONED if position == "identity"])
def test_on_the_shortcut_it_leaves_the_branch_alone(name):
    """The branch is still at work; with nothing at its end, too, a block forgets what it was given."""
    block, x = block_and_input(name)
    model = attached(block, x, Nothing, position="identity")
    with torch.no_grad():
        other = torch.randn_like(x)
        assert not torch.equal(model.block(x.clone()), model.block(other.clone()))
        foveal.attach(model, Nothing, at="block")
        assert torch.equal(model.block(x.clone()), model.block(other.clone()))


@pytest.mark.parametrize("make", [lambda: timm.create_model("resnet18"), torchvision.models.resnet18])
@pytest.mark.parametrize("path", ["layer2.0", "layer2.1"])
def test_the_four_positions_are_those_of_the_paper(make, path):
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


@pytest.mark.parametrize(
    ("make", "at"),
    [
        (lambda: timm.create_model("resnet18", drop_path_rate=0.2), "layer4.1"),
        (lambda: timm.create_model("convnext_atto"), "stages.0.blocks.0"),
        (lambda: timm.create_model("convnext_atto", drop_path_rate=0.2), "stages.3.blocks.1"),
        (torchvision.models.convnext_tiny, "features.1.0"),
    ],
)
def test_several_in_one_place_stand_in_the_order_of_attaching_and_before_paths_are_dropped(make, at):
    model, order = make().eval(), []
    for mechanism in ("se", "cbam"):
        foveal.attach(model, mechanism, at=at)
    for module in model.get_submodule(at).modules():
        if type(module).__name__ in ("SqueezeExcite", "CBAM", "DropPath", "StochasticDepth"):
            module.register_forward_hook(lambda module, *_: order.append(type(module).__name__))
    model(torch.randn(1, 3, 64, 64))
    assert order[:2] == ["SqueezeExcite", "CBAM"]
    assert len(order) == 3 or at == "stages.0.blocks.0"  # where no path is ever dropped, no module drops it


@pytest.mark.parametrize(
    ("make", "options", "says"),
    [
        (torchvision.models.resnet18, {"position": "posst"}, "unknown position 'posst'; did you mean 'post'?"),
        (torchvision.models.mobilenet_v2, {"position": "identity"}, "InvertedResidual, has no module on its shortcut"),
        (torchvision.models.densenet121, {"position": "pre"}, "_DenseLayer, has no single first layer of its branch"),
        (torchvision.models.vgg11, {"position": "post"}, "'features.1', a ReLU, is not a known block"),
        (torchvision.models.resnet18, {"position": "pre", "at": "residual"}, "finds only the ends of branches"),
        (
            torchvision.models.resnet18,
            {"position": "pre", "mechanism": "sk"},
            "sk is attached instead of a convolution",
        ),
    ],
)
def test_positions_that_are_not_there_are_refused(make, options, says):
    with torch.device("meta"):
        model = make()
    looks = repr(model)
    with pytest.raises(ValueError, match=re.escape(says)):
        foveal.attach(model, **{"mechanism": "se", **options})
    assert repr(model) == looks


def test_a_chain_has_attention_after_the_activation_of_each_convolution():
    with torch.device("meta"):
        plain, normed = torchvision.models.vgg11(), torchvision.models.vgg11_bn()
        theirs = timm.create_model("vgg11")
    assert default_paths(plain) == [f"features.{index}" for index in (1, 4, 7, 9, 12, 14, 17, 19)]
    assert default_paths(theirs) == default_paths(plain)
    for model in (plain, normed):
        assert all(isinstance(model.get_submodule(path), nn.ReLU) for path in default_paths(model))
    assert len(default_paths(normed)) == 8


def test_places_are_listed():
    rows = {(row.family, row.blocks): row for row in list_placements()}
    assert rows["timm resnet", "BasicBlock"].end == "after se"
    assert rows["timm resnet", "BasicBlock"].positions == "standard pre post identity"
    assert rows["torchvision resnet", "Bottleneck"].convolution == "conv2 bn2 relu"
    assert rows["timm convnext", "ConvNeXtBlock"].end == "before drop_path"
    assert rows["torchvision inception", "InceptionA InceptionB InceptionC InceptionD InceptionE"].convolution == ""
    assert rows["torchvision vgg", "VGG"].end == "after each activation"
    assert sum(len(row.blocks.split()) for row in rows.values()) == len(BLOCKS) + len(CHAINS)


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
