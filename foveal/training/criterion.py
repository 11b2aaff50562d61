"""The loss that a run minimizes: cross-entropy where an image has one class, else a binary one for each class.

With label smoothing s, the binary targets are s / 2 and 1 - s / 2, as those of the cross-entropy over two classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.data.labels import count_by_class
from foveal.data.parts import Data
from foveal.training.config import TrainConfig


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy with logits (B, K) and labels (B, K) of 0 and 1, mean over both."""

    weights: Tensor | None

    def __init__(self, weights: Tensor | None, label_smoothing: float):
        super().__init__()
        self.register_buffer("weights", weights)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        targets = labels * (1 - self.label_smoothing) + self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=self.weights)


def create_criterion(config: TrainConfig, data: Data) -> nn.Module:
    """Create the loss of logits and labels, with class weights where the settings ask for them."""
    labels, classes = data.train.labels, len(data.classes)
    if data.multi_label:
        return BinaryCrossEntropy(positive_weights(labels) if config.class_weights else None, config.smoothing)
    weights = class_weights(labels, classes) if config.class_weights else None
    return nn.CrossEntropyLoss(weights, label_smoothing=config.smoothing)


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Compute N / (K n) of each class with n of N images; 0 for a class without any. K counts the others."""
    counts = count_by_class(labels, classes).float()
    return torch.where(counts > 0, len(labels) / ((counts > 0).sum() * counts), 0.0)


def positive_weights(labels: Tensor) -> Tensor:
    """Compute the weight (N - n) / n of images that have a class, n of N; 1 for a class that all images have, or none.

    Both kinds of images of a class then have the same weight in sum.
    """
    counts = count_by_class(labels, labels.shape[1]).float()
    return torch.where((counts > 0) & (counts < len(labels)), (len(labels) - counts) / counts, 1.0)


def check_mixing(config: TrainConfig, data: Data) -> None:
    """Refuse mixup and CutMix of images that have any number of classes."""
    if data.multi_label and (config.mixup or config.cutmix):
        raise ValueError(f"mixup and cutmix: data {data.name!r} has any number of classes for an image, not one")


def check_loss(config: TrainConfig, data: Data, name: str, network: nn.Module) -> None:
    """Refuse a network whose own loss needs one class for each image, where images have several, or are mixed.

    A network's own loss is its method `loss`; its attribute `soft_labels` states that labels may be (B, K).
    """
    if not hasattr(network, "loss") or getattr(network, "soft_labels", False):
        return
    if config.mixup or config.cutmix:
        raise ValueError(f"mixup and cutmix: network {name!r} computes its loss from single labels")
    if data.multi_label:
        raise ValueError(
            f"network {name!r} computes its loss from one class for each image; data {data.name!r} has any number of "
            "classes for each"
        )
