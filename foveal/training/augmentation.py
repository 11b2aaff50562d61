"""Augmentation of batches by timm: mixup, CutMix, random erasing. Augmentation of single images is that of the data.

The share and the rectangle of a mixed batch are drawn from numpy's random stream; what is erased of an image, from one
of its own.
"""

from collections.abc import Iterator

import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from foveal.data.seeded import seed_streams, streams_kept
from foveal.training.config import TrainConfig

Batches = Iterator[tuple[Tensor, Tensor, Tensor]]  # of indices, images and labels


class BatchAugmentation:
    """Mix and erase images (B, C, H, W); labels (B,) become shares of classes (B, classes) where images are mixed."""

    def __init__(self, config: TrainConfig, classes: int, device: torch.device):
        mixed = config.mixup or config.cutmix
        self.mix = Mixup(config.mixup, config.cutmix, label_smoothing=0.0, num_classes=classes) if mixed else None
        self.erase = RandomErasing(config.reprob, mode="pixel", device=str(device)) if config.reprob else None
        self.device = device

    def __call__(self, batches: Batches, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Augment batches of an epoch, whose number is one among those of all seeds."""
        for indices, images, labels in batches:
            mixed = (images, labels) if self.mix is None else self.mix(images, labels)
            if self.erase is not None:
                with streams_kept(self.device):
                    for index, image in zip(indices.tolist(), mixed[0], strict=True):
                        seed_streams(f"{epoch} {index} erased", self.device)
                        self.erase(image)  # in place
            yield mixed
