"""Other people's weights: their networks, written here as they name their modules, answer as ours that load them."""

from collections import OrderedDict

import pytest
import timm
import torch
import torchvision
from conftest import randomise_norms
from torch import nn

import foveal
from foveal.networks.key_layouts import LAYOUTS


def named(**parts: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(parts))


class AuthorsCBAM(nn.Module):
    """As CBAM's authors name it: `ChannelGate.mlp.1` and `.3`, `SpatialGate.spatial.conv` and `.bn`."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = channels // 16
        perceptron = nn.Sequential(nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.ChannelGate = named(mlp=perceptron)
        spatial = named(conv=nn.Conv2d(2, 1, 7, padding=3, bias=False), bn=nn.BatchNorm2d(1))
        self.SpatialGate = named(spatial=spatial)

    def forward(self, x):
        mean, largest = x.mean((2, 3)), x.flatten(2).max(2).values
        x = x * (self.ChannelGate(mean) + self.ChannelGate(largest)).sigmoid()[:, :, None, None]
        return x * self.SpatialGate(torch.stack([x.max(1).values, x.mean(1)], 1)).sigmoid()


class TheirSE(nn.Module):
    """As moskomule names it, and many who copied it: `fc.0` and `fc.2`, without biases."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = channels // 16
        first, second = nn.Linear(channels, hidden, bias=False), nn.Linear(hidden, channels, bias=False)
        self.fc = nn.Sequential(first, nn.ReLU(), second, nn.Sigmoid())

    def forward(self, x):
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class AuthorsBAM(nn.Module):
    """As BAM's authors name it; they multiply what the paper adds."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = channels // 16
        self.channel_att = named(
            gate_c=named(
                gate_c_fc_0=nn.Linear(channels, hidden),
                gate_c_bn_1=nn.BatchNorm1d(hidden),
                gate_c_relu_1=nn.ReLU(),
                gate_c_fc_final=nn.Linear(hidden, channels),
            )
        )
        layers = {"reduce0": nn.Conv2d(channels, hidden, 1)}
        layers |= {f"di_{index}": nn.Conv2d(hidden, hidden, 3, padding=4, dilation=4) for index in range(2)}
        parts = {}
        for name, layer in layers.items():
            kinds = {"conv": layer, "bn": nn.BatchNorm2d(hidden), "relu": nn.ReLU()}
            parts |= {f"gate_s_{kind}_{name}": module for kind, module in kinds.items()}
        self.spatial_att = named(gate_s=named(**parts, gate_s_conv_final=nn.Conv2d(hidden, 1, 1)))

    def forward(self, x):
        return x * (1 + (self.channel_att(x.mean((2, 3)))[:, :, None, None] * self.spatial_att(x)).sigmoid())


class BAMResNet(torchvision.models.ResNet):
    """BAM's authors' ResNet-18: `bam1` to `bam3` after the stages."""

    def __init__(self):
        super().__init__(torchvision.models.resnet.BasicBlock, [2, 2, 2, 2], num_classes=5)
        self.bam1, self.bam2, self.bam3 = AuthorsBAM(64), AuthorsBAM(128), AuthorsBAM(256)

    def forward(self, x):
        x = self.bam1(self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x))))))
        x = self.layer4(self.bam3(self.layer3(self.bam2(self.layer2(x)))))
        return self.fc(x.mean((2, 3)))


class AuthorsECA(nn.Module):
    """As ECA's authors name it, with three neighbours everywhere."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x):
        return x * self.conv(x.mean((2, 3))[:, None])[:, 0].sigmoid()[:, :, None, None]


def with_attention(name: str, made: type[nn.Module]) -> type[nn.Module]:
    """torchvision's block with an attention of a name at the end of its branch, which both authors build upon."""

    class Block(torchvision.models.resnet.BasicBlock):
        def __init__(self, inplanes, planes, *more, **options):
            super().__init__(inplanes, planes, *more, **options)
            setattr(self, name, made(planes))

        def forward(self, x):
            out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            return self.relu(getattr(self, name)(out) + (x if self.downsample is None else self.downsample(x)))

    return Block


def resnet18(name: str, made: type[nn.Module]) -> nn.Module:
    return torchvision.models.ResNet(with_attention(name, made), [2, 2, 2, 2], num_classes=5)


def small_resnet20() -> nn.Module:
    """moskomule's network for images of 32x32."""
    block, parts, channels = with_attention("se", TheirSE), [], 16
    for stage, out in enumerate((16, 32, 64)):
        blocks = []
        for index in range(3):
            stride = 2 if stage and not index else 1
            convs = nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            blocks.append(block(channels, out, stride, nn.Sequential(*convs) if channels != out else None))
            channels = out
        parts.append(nn.Sequential(*blocks))
    layers = {f"layer{stage + 1}": part for stage, part in enumerate(parts)}
    stem = {"conv1": nn.Conv2d(3, 16, 3, padding=1, bias=False), "bn1": nn.BatchNorm2d(16), "relu": nn.ReLU()}
    return named(**stem, **layers, avgpool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), fc=nn.Linear(64, 5))


def conv_block(channels: int, out: int, kernel: int, stride: int = 1, act: bool = True) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
    return named(conv=conv, bn=nn.BatchNorm2d(out), activ=nn.ReLU() if act else nn.Identity())


class CvSE(nn.Module):
    """As pytorchcv names it: 1x1 convolutions `conv1` and `conv2`."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, channels // 16, 1), nn.Conv2d(channels // 16, channels, 1)

    def forward(self, x):
        return x * self.conv2(self.conv1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class CvCBAM(nn.Module):
    """As pytorchcv names it: `ch_gate.mlp.fc1`, `sp_gate.conv.conv` and `.bn`."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = channels // 16
        perceptron = named(fc1=nn.Linear(channels, hidden), activ=nn.ReLU(), fc2=nn.Linear(hidden, channels))
        self.ch_gate, self.sp_gate = named(mlp=perceptron), named(conv=conv_block(2, 1, 7, act=False))

    def forward(self, x):
        x = x * (self.ch_gate(x.mean((2, 3))) + self.ch_gate(x.amax((2, 3)))).sigmoid()[:, :, None, None]
        return x * self.sp_gate(torch.stack([x.amax(1), x.mean(1)], 1)).sigmoid()


class CvUnit(nn.Module):
    def __init__(self, channels: int, out: int, stride: int, name: str, made: type[nn.Module]):
        super().__init__()
        self.body = named(conv1=conv_block(channels, out, 3, stride), conv2=conv_block(out, out, 3, act=False))
        if channels != out or stride != 1:
            self.identity_conv = conv_block(channels, out, 1, stride, act=False)
        self.attention_name = name
        setattr(self, name, made(out))

    def forward(self, x):
        shortcut = self.identity_conv(x) if hasattr(self, "identity_conv") else x
        return (getattr(self, self.attention_name)(self.body(x)) + shortcut).relu()


def pytorchcvs(name: str, made: type[nn.Module], widths: tuple[int, ...], blocks: int, stem: nn.Module) -> nn.Module:
    features, channels = {"init_block": stem}, widths[0]
    for stage, out in enumerate(widths):
        units = {}
        for index in range(blocks):
            units[f"unit{index + 1}"] = CvUnit(channels, out, 2 if stage and not index else 1, name, made)
            channels = out
        features[f"stage{stage + 1}"] = named(**units)
    return named(
        features=named(**features, final_pool=nn.AdaptiveAvgPool2d(1)), flat=nn.Flatten(), output=nn.Linear(channels, 5)
    )


def pytorchcvs_resnet18() -> nn.Module:
    stem = named(conv=conv_block(3, 64, 7, 2), pool=nn.MaxPool2d(3, 2, 1))
    return pytorchcvs("cbam", CvCBAM, (64, 128, 256, 512), 2, stem)


def pytorchcvs_resnet20() -> nn.Module:
    return pytorchcvs("se", CvSE, (16, 32, 64), 3, conv_block(3, 16, 3))


CASES = {  # their network, ours, the layout, the side of an image
    "CBAM's authors": (lambda: resnet18("cbam", AuthorsCBAM), "cbam_resnet18", {}, "attention-module", 64),
    "moskomule": (lambda: resnet18("se", TheirSE), "seresnet18", {"bias": False}, "moskomule", 64),
    "moskomule, small": (small_resnet20, "seresnet20", {"bias": False}, "moskomule", 32),
    "BAM's authors": (BAMResNet, "bam_resnet18", {"released": True}, "attention-module", 64),
    "ECA's authors": (lambda: resnet18("eca", AuthorsECA), "eca_resnet18", {"kernel_size": 3}, "ecanet", 64),
    "pytorchcv, CBAM": (pytorchcvs_resnet18, "cbam_resnet18", {}, "pytorchcv", 64),
    "pytorchcv, small": (pytorchcvs_resnet20, "seresnet20", {}, "pytorchcv", 32),
}


def as_trained(theirs: nn.Module) -> nn.Module:
    """Norms and attention away from their start, so that what is lost on the way shows in the logits."""
    for weight in randomise_norms(theirs).parameters():
        if weight.ndim == 2:
            weight.data *= 3
    return theirs.eval()


def alike(answer: torch.Tensor, expected: torch.Tensor) -> bool:
    return expected.std() > 0.01 and (answer - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@torch.no_grad()
def test_their_networks_answer_alike(case):
    make, name, options, layout, side = case
    theirs = as_trained(make())
    ours = foveal.create_model(name, num_classes=5, **options).eval()
    old = {key: value for key, value in theirs.state_dict().items() if not key.endswith("num_batches_tracked")}
    state = {"arch": "net", "state_dict": {f"module.{key}": value for key, value in old.items()}}
    assert foveal.load_weights(ours, state) == layout
    x = torch.randn(2, 3, side, side)
    assert alike(ours(x), theirs(x))


@torch.no_grad()
def test_attention_of_theirs_finds_ours_wherever_it_stands_and_counts_in_full():
    """Behind torchvision's bn2, started as the identity: not one name of its own is alike."""
    theirs = as_trained(resnet18("cbam", AuthorsCBAM))
    ours = foveal.attach(torchvision.models.resnet18(num_classes=5), "cbam").eval()
    foveal.load_weights(ours, theirs.state_dict())
    x = torch.randn(2, 3, 64, 64)
    assert ours.layer1[0].bn2.cbam.channel.strength.s.item() == 1
    assert alike(ours(x), theirs(x))


def test_selective_kernels_of_pytorchcv_are_renamed_to_ours():
    """Names alone: features.stage2.unit1 is our layer2.0, its branches 2 and 3 ours 0 and 1."""
    ours = foveal.create_model("sknet26", num_classes=5)
    there = {
        "layer2.0.conv1.weight": "body.conv1.conv.weight",
        "layer2.0.bn1.bias": "body.conv1.bn.bias",
        "layer2.0.conv2.branches.0.conv.weight": "body.conv2.branches.branch2.conv.weight",
        "layer2.0.conv2.branches.1.norm.weight": "body.conv2.branches.branch3.bn.weight",
        "layer2.0.conv2.fc1.weight": "body.conv2.fc1.conv.weight",
        "layer2.0.conv2.norm.running_var": "body.conv2.fc1.bn.running_var",
        "layer2.0.conv2.fc2.weight": "body.conv2.fc2.weight",
        "layer2.0.bn3.weight": "body.conv3.bn.weight",
        "layer2.0.downsample.1.weight": "identity_conv.bn.weight",
    }
    held = ours.state_dict()
    best = foveal.networks.key_layouts.match_keys(
        ours, {f"features.stage2.unit1.{theirs}": held[name] for name, theirs in there.items()}
    )
    assert best.layout == "pytorchcv"
    assert not best.unexpected + best.shapes
    assert len(best.state) == len(there)


def test_a_layout_may_be_named_and_then_is_the_only_one():
    model = foveal.create_model("cbam_resnet18", num_classes=5)
    state = resnet18("cbam", AuthorsCBAM).state_dict()
    assert foveal.load_weights(model, state, "attention-module") == "attention-module"
    with pytest.raises(ValueError, match=r"unexpected layer1\.0\.cbam.ChannelGate.mlp.1.weight"):
        foveal.load_weights(model, state, layout="plain")
    with pytest.raises(ValueError, match=f"layout='authors': must be one of {', '.join(LAYOUTS)}"):
        foveal.load_weights(model, state, layout="authors")


def test_what_fits_nothing_is_told_to_which_network_it_is_nearest():
    model = foveal.create_model("small_cnn")
    for state, nearest in (
        (resnet18("se", TheirSE).state_dict(), "match best 'seresnet18', in the layout 'moskomule'"),
        (timm.create_model("resnet34", num_classes=7).state_dict(), "match best 'resnet34', in the layout 'plain'"),
        ({"weight": torch.zeros(2, 2)}, "match no known network"),
    ):
        with pytest.raises(ValueError, match=f"do not fit this SmallCNN: .*; they {nearest}"):
            foveal.load_weights(model, state)
