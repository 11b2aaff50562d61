"""Networks and attention modules as other repositories write them, with the names of their weights."""

from collections import OrderedDict

import torch
import torchvision
from torch import nn


def sequential(**parts: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(parts))


class AuthorsCBAM(nn.Module):
    """CBAM of its authors: `ChannelGate.mlp.1` and `.3`, `SpatialGate.spatial.conv` and `.bn`."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = channels // 16
        perceptron = nn.Sequential(nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.ChannelGate = sequential(mlp=perceptron)
        spatial = sequential(conv=nn.Conv2d(2, 1, 7, padding=3, bias=False), bn=nn.BatchNorm2d(1))
        self.SpatialGate = sequential(spatial=spatial)

    def forward(self, x):
        mean, largest = x.mean((2, 3)), x.flatten(2).max(2).values
        x = x * (self.ChannelGate(mean) + self.ChannelGate(largest)).sigmoid()[:, :, None, None]
        return x * self.SpatialGate(torch.stack([x.max(1).values, x.mean(1)], 1)).sigmoid()


class TheirSE(nn.Module):
    """SE of moskomule and its copies: `fc.0` and `fc.2`, without biases."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = channels // 16
        first, second = nn.Linear(channels, hidden, bias=False), nn.Linear(hidden, channels, bias=False)
        self.fc = nn.Sequential(first, nn.ReLU(), second, nn.Sigmoid())

    def forward(self, x):
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class AuthorsBAM(nn.Module):
    """BAM of its authors, who multiply what the paper adds."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = channels // 16
        self.channel_att = sequential(
            gate_c=sequential(
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
        self.spatial_att = sequential(gate_s=sequential(**parts, gate_s_conv_final=nn.Conv2d(hidden, 1, 1)))

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
    """ECA of its authors, with three neighbours everywhere."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x):
        return x * self.conv(x.mean((2, 3))[:, None])[:, 0].sigmoid()[:, :, None, None]


def with_attention(name: str, attention: type[nn.Module]) -> type[nn.Module]:
    """torchvision's block with attention at the end of its branch, which several authors build upon."""

    class Block(torchvision.models.resnet.BasicBlock):
        def __init__(self, inplanes, planes, *more, **options):
            super().__init__(inplanes, planes, *more, **options)
            setattr(self, name, attention(planes))

        def forward(self, x):
            out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            return self.relu(getattr(self, name)(out) + (x if self.downsample is None else self.downsample(x)))

    return Block


def resnet18(name: str, attention: type[nn.Module]) -> nn.Module:
    return torchvision.models.ResNet(with_attention(name, attention), [2, 2, 2, 2], num_classes=5)


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
    return sequential(**stem, **layers, avgpool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), fc=nn.Linear(64, 5))


def conv_block(channels: int, out: int, kernel: int, stride: int = 1, act: bool = True) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
    return sequential(conv=conv, bn=nn.BatchNorm2d(out), activ=nn.ReLU() if act else nn.Identity())


class CvSE(nn.Module):
    """SE of pytorchcv: 1x1 convolutions `conv1` and `conv2`."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, channels // 16, 1), nn.Conv2d(channels // 16, channels, 1)

    def forward(self, x):
        return x * self.conv2(self.conv1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class CvCBAM(nn.Module):
    """CBAM of pytorchcv: `ch_gate.mlp.fc1`, `sp_gate.conv.conv` and `.bn`."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = channels // 16
        perceptron = sequential(fc1=nn.Linear(channels, hidden), activ=nn.ReLU(), fc2=nn.Linear(hidden, channels))
        self.ch_gate, self.sp_gate = sequential(mlp=perceptron), sequential(conv=conv_block(2, 1, 7, act=False))

    def forward(self, x):
        x = x * (self.ch_gate(x.mean((2, 3))) + self.ch_gate(x.amax((2, 3)))).sigmoid()[:, :, None, None]
        return x * self.sp_gate(torch.stack([x.amax(1), x.mean(1)], 1)).sigmoid()


class CvUnit(nn.Module):
    def __init__(self, channels: int, out: int, stride: int, name: str, attention: type[nn.Module]):
        super().__init__()
        self.body = sequential(conv1=conv_block(channels, out, 3, stride), conv2=conv_block(out, out, 3, act=False))
        if channels != out or stride != 1:
            self.identity_conv = conv_block(channels, out, 1, stride, act=False)
        self.attention_name = name
        setattr(self, name, attention(out))

    def forward(self, x):
        shortcut = self.identity_conv(x) if hasattr(self, "identity_conv") else x
        return (getattr(self, self.attention_name)(self.body(x)) + shortcut).relu()


def pytorchcvs(
    name: str, attention: type[nn.Module], widths: tuple[int, ...], blocks: int, stem: nn.Module
) -> nn.Module:
    features, channels = {"init_block": stem}, widths[0]
    for stage, out in enumerate(widths):
        units = {}
        for index in range(blocks):
            units[f"unit{index + 1}"] = CvUnit(channels, out, 2 if stage and not index else 1, name, attention)
            channels = out
        features[f"stage{stage + 1}"] = sequential(**units)
    return sequential(
        features=sequential(**features, final_pool=nn.AdaptiveAvgPool2d(1)),
        flat=nn.Flatten(),
        output=nn.Linear(channels, 5),
    )


def pytorchcvs_resnet18() -> nn.Module:
    stem = sequential(conv=conv_block(3, 64, 7, 2), pool=nn.MaxPool2d(3, 2, 1))
    return pytorchcvs("cbam", CvCBAM, (64, 128, 256, 512), 2, stem)


def pytorchcvs_resnet20() -> nn.Module:
    return pytorchcvs("se", CvSE, (16, 32, 64), 3, conv_block(3, 16, 3))
