"""A network and data as a user may define them: bright halves of 12x12 images, and a small residual network."""

import torch
from torch import nn
from torch.utils.data import Dataset

SIDE, COUNT = 12, 80


class Halves(Dataset):
    """The brighter half is the class."""

    classes = ("left", "right")

    def __init__(self, count: int = COUNT):
        self.targets = [index % 2 for index in range(count)]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int):
        image = torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(index)) / 2
        start = SIDE // 2 * self.targets[index]
        image[:, :, start : start + SIDE // 2] += 0.5
        return image, self.targets[index]


class Net(nn.Module):
    """A stem, one residual branch, a head."""

    def __init__(self, num_classes: int, in_chans: int):
        super().__init__()
        self.stem = nn.Conv2d(in_chans, 8, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        return self.head((x + self.block(x)).relu().mean((2, 3)))


def halves() -> Halves:
    return Halves()


def net(num_classes: int, in_chans: int) -> Net:
    return Net(num_classes, in_chans)
