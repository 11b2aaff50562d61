"""Inception-v3 with its auxiliary head, which speaks in training alone.

The network is timm's. Departure from it: `forward` returns logits in evaluation also where there is an auxiliary head,
as torchvision's does, and leaves that head out for images so small that it cannot be run.
"""

from collections.abc import Callable

import timm
from timm.models.inception_v3 import InceptionV3
from torch import Tensor, nn

AUXILIARY_WEIGHT = 0.4  # of the auxiliary loss
AUXILIARY_SIDE = 17  # of the map that the auxiliary head needs: an image of 299 pixels gives it


class AuxiliaryInceptionV3(InceptionV3):
    """timm's Inception-v3; in training it returns logits and auxiliary logits."""

    def forward_features(self, x: Tensor) -> Tensor:
        return self.forward_postaux(self.forward_preaux(x))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.forward_preaux(x)
        speaks = self.training and self.aux_logits and min(x.shape[2:]) >= AUXILIARY_SIDE
        auxiliary = self.AuxLogits(x) if speaks else None
        logits = self.forward_head(self.forward_postaux(x))
        return logits if auxiliary is None else (logits, auxiliary)

    def loss(self, outputs: Tensor | tuple[Tensor, Tensor], labels: Tensor, criterion: Callable[..., Tensor]) -> Tensor:
        """The loss of the logits and, weighted, of the auxiliary logits."""
        if isinstance(outputs, Tensor):
            return criterion(outputs, labels)
        logits, auxiliary = outputs
        return criterion(logits, labels) + AUXILIARY_WEIGHT * criterion(auxiliary, labels)


def inception_v3(pretrained: bool = False, aux_logits: bool = True, **options: object) -> nn.Module:
    """timm's `inception_v3`, as an `AuxiliaryInceptionV3`."""
    model = timm.create_model("inception_v3", pretrained=pretrained, aux_logits=aux_logits, **options)
    model.__class__ = AuxiliaryInceptionV3
    return model
