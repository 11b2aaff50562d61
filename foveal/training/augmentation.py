"""Augmentation of batches by timm: mixup, CutMix, random erasing. Augmentation of single images is that of the data."""

from collections.abc import Iterator

import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from foveal.training.config import TrainConfig

Batches = Iterator[tuple[Tensor, Tensor]]


class BatchAugmentation:
    """Mix and erase images (B, C, H, W); labels (B,) become shares of classes (B, classes) where images are mixed."""

    def __init__(self, config: TrainConfig, classes: int, device: torch.device):
        mixed = config.mixup or config.cutmix
        self.mix = Mixup(config.mixup, config.cutmix, label_smoothing=0.0, num_classes=classes) if mixed else None
        self.erase = RandomErasing(config.reprob, mode="pixel", device=str(device)) if config.reprob else None

    def __call__(self, batches: Batches) -> Batches:
        for images, labels in batches:
            mixed = (images, labels) if self.mix is None else self.mix(images, labels)
            yield mixed if self.erase is None else (self.erase(mixed[0]), mixed[1])


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Compute N / (K n) of each class with n of N images; 0 for a class without any. K counts the others."""
    counts = torch.bincount(labels, minlength=classes).float()
    return torch.where(counts > 0, len(labels) / ((counts > 0).sum() * counts), 0.0)
