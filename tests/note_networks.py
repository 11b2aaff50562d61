"""The networks of the study note, written from its description: the same layers under the same names of weights."""

import torch
import torchvision
from torch import nn
from torch.nn import functional as F


def conv_norm(channels: int, out: int, kernel: int, stride: int = 1, relu: bool = True, **options) -> nn.Sequential:
    """A convolution without bias, its norm and ReLU: children `0`, `1` and `2`."""
    conv = nn.Conv2d(channels, out, kernel, stride, bias=False, **options)
    return nn.Sequential(conv, nn.BatchNorm2d(out), *([nn.ReLU()] if relu else []))


class Net(nn.Module):
    """The spatial transformer network, for images (B, 1, 28, 28); log-probabilities."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5), nn.Conv2d(10, 20, 5)
        self.conv2_drop = nn.Dropout2d()
        self.fc1, self.fc2 = nn.Linear(320, 50), nn.Linear(50, 10)
        first = nn.Conv2d(1, 8, 7), nn.MaxPool2d(2), nn.ReLU()
        self.localization = nn.Sequential(*first, nn.Conv2d(8, 10, 5), nn.MaxPool2d(2), nn.ReLU())
        self.fc_loc = nn.Sequential(nn.Linear(90, 32), nn.ReLU(), nn.Linear(32, 6))
        nn.init.zeros_(self.fc_loc[2].weight)
        self.fc_loc[2].bias.data = torch.tensor([1.0, 0, 0, 0, 1, 0])

    def forward(self, x):
        theta = self.fc_loc(self.localization(x).flatten(1)).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        x = F.grid_sample(x, grid, align_corners=False)
        x = F.max_pool2d(self.conv1(x), 2).relu()
        x = F.max_pool2d(self.conv2_drop(self.conv2(x)), 2).relu()
        return self.fc2(F.dropout(self.fc1(x.flatten(1)).relu(), training=self.training)).log_softmax(1)


class SELayer(nn.Module):
    def __init__(self, channel: int, reduction: int = 16):
        super().__init__()
        hidden = channel // reduction
        first, second = nn.Linear(channel, hidden, bias=False), nn.Linear(hidden, channel, bias=False)
        self.fc = nn.Sequential(first, nn.ReLU(), second, nn.Sigmoid())

    def forward(self, x):
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class SEBottleneck(torchvision.models.resnet.Bottleneck):
    def __init__(self, inplanes: int, planes: int, *more, **options):
        super().__init__(inplanes, planes, *more, **options)
        self.se = SELayer(4 * planes)

    def forward(self, x):
        out = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        return self.relu(self.se(self.bn3(self.conv3(out))) + (x if self.downsample is None else self.downsample(x)))


def se_resnet50() -> nn.Module:
    return torchvision.models.ResNet(SEBottleneck, [3, 4, 6, 3])


SE_CHANNELS = {  # of the Inception modules, as the note counts them
    "Mixed_5b": 192, "Mixed_5c": 256, "Mixed_5d": 288, "Mixed_6a": 288, "Mixed_6b": 768, "Mixed_6c": 768,
    "Mixed_6d": 768, "Mixed_6e": 768, "AuxLogits": 768, "Mixed_7a": 768, "Mixed_7b": 1280, "Mixed_7c": 2048,
}  # fmt: skip


class SEInception3(nn.Module):
    """Inception-v3 with a squeeze-and-excitation layer in each module, none of which the modules call."""

    def __init__(self, num_classes: int, aux_logits: bool = True):
        super().__init__()
        model = torchvision.models.Inception3(num_classes=num_classes, aux_logits=aux_logits, init_weights=False)
        for name, channels in SE_CHANNELS.items():
            if name != "AuxLogits" or aux_logits:
                model.get_submodule(name).add_module("SELayer", SELayer(channels))
        self.model = model

    def forward(self, x):
        if x.shape[2:] != (299, 299):
            raise ValueError("images of 299x299 pixels are needed")
        return self.model(x)


class SKConv(nn.Module):
    def __init__(self, channels: int, out: int, stride: int = 1, M: int = 2, r: int = 16, L: int = 32):  # noqa: N803
        super().__init__()
        width = max(channels // r, L)
        branches = (conv_norm(channels, out, 3, stride, padding=d, dilation=d, groups=32) for d in range(1, M + 1))
        self.conv = nn.ModuleList(branches)
        self.fc1 = conv_norm(out, width, 1)
        self.fc2 = nn.Conv2d(width, M * out, 1, bias=False)

    def forward(self, x):
        maps = torch.stack([conv(x) for conv in self.conv], 1)  # (B, M, C, H, W)
        logits = self.fc2(self.fc1(maps.sum(1).mean((2, 3), keepdim=True)))
        return (maps * logits.view(*maps.shape[:3], 1, 1).softmax(1)).sum(1)


class SKBlock(nn.Module):
    def __init__(self, channels: int, width: int, stride: int = 1):
        super().__init__()
        self.conv1 = conv_norm(channels, width, 1)
        self.conv2 = SKConv(width, width, stride)
        self.conv3 = conv_norm(width, 2 * width, 1, relu=False)
        changes = stride != 1 or channels != 2 * width
        self.downsample = conv_norm(channels, 2 * width, 1, stride, relu=False) if changes else None

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        return (self.conv3(self.conv2(self.conv1(x))) + shortcut).relu()


class SKNet(nn.Module):
    """SKNet-50, or 101 by its number of blocks; probabilities, by the softmax at its end."""

    def __init__(self, classes: int = 1000, blocks: tuple[int, ...] = (3, 4, 6, 3)):
        super().__init__()
        self.conv = conv_norm(3, 64, 7, 2, padding=3)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for index, count in enumerate(blocks):
            width = 128 << index
            first = SKBlock(channels, width, 2 if index else 1)
            channels = 2 * width
            rest = (SKBlock(channels, width) for _ in range(count - 1))
            setattr(self, f"layer{index + 1}", nn.Sequential(first, *rest))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.maxpool(self.conv(x))))))
        return self.fc(x.mean((2, 3))).softmax(1)
