"""Inception-v3 with its auxiliary head, which is used only in training.

The network is timm's. Departure from it: in evaluation mode `forward` returns only the logits even if the network has
an auxiliary head, as torchvision's does; and the head is skipped for images that are too small for it.
"""

from collections.abc import Callable

import timm
import torch
from timm.models.inception_v3 import InceptionV3
from torch import Tensor, nn

AUXILIARY_WEIGHT = 0.4  # weight of the auxiliary loss
AUXILIARY_SIDE = 17  # minimum side of the auxiliary head's input map; an image of 299 pixels gives 17


class AuxiliaryInceptionV3(InceptionV3):
    """timm's Inception-v3 that returns logits and auxiliary logits in training, and logits in evaluation."""

    soft_labels = True  # its loss takes labels (B, K), too

    def forward_features(self, x: Tensor) -> Tensor:
        return self.forward_postaux(self.forward_preaux(x))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.forward_preaux(x)
        use_head = self.training and self.aux_logits and min(x.shape[2:]) >= AUXILIARY_SIDE
        auxiliary = self.AuxLogits(x) if use_head else None
        logits = self.forward_head(self.forward_postaux(x))
        if auxiliary is not None:
            return logits, auxiliary
        return logits + self.unused_head() if self.training and self.aux_logits else logits

    def unused_head(self) -> Tensor:
        """Return 0, with zero gradients for the auxiliary head: DistributedDataParallel needs one for each weight."""
        return torch.stack([weight.flatten()[:0].sum() for weight in self.AuxLogits.parameters()]).sum()

    def loss(self, outputs: Tensor | tuple[Tensor, Tensor], labels: Tensor, criterion: Callable[..., Tensor]) -> Tensor:
        """Compute the loss of the logits plus the weighted loss of the auxiliary logits."""
        if isinstance(outputs, Tensor):
            return criterion(outputs, labels)
        logits, auxiliary = outputs
        return criterion(logits, labels) + AUXILIARY_WEIGHT * criterion(auxiliary, labels)


def inception_v3(pretrained: bool = False, aux_logits: bool = True, **options: object) -> nn.Module:
    """Create timm's `inception_v3` as an `AuxiliaryInceptionV3`."""
    model = timm.create_model("inception_v3", pretrained=pretrained, aux_logits=aux_logits, **options)
    model.__class__ = AuxiliaryInceptionV3
    return model
