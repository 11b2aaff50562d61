"""Localization of objects by transformers: intersection over union of the region shown and the object's box.

Jaderberg et al., 2015, appendix, counts a digit as localized if the intersection over union (IoU) of the crop and the
digit's box is above 0.5. Two boxes are possible. The frame is the square of 28x28 pixels in which a digit was drawn; a
crop of this size can have an IoU of 1 with it. The box of the ink is tight, and for a narrow digit, such as a 1, the
IoU with a crop of 28x28 pixels stays below 0.5 wherever the crop is.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from foveal.core.validation import iter_batches
from foveal.evaluation.central_objects import iter_boxed
from foveal.evaluation.paper_analyses import passes
from foveal.ops.warps import outline

LOCALIZED = 0.5  # IoU above which an object counts as localized


@dataclass(frozen=True, eq=False)
class Localization:
    """IoU of the region that a transformer shows and the object's box, for N images.

    Attributes:
        ious: (N,), from 0 to 1.
        labels: (N,), of the images.
    """

    ious: Tensor
    labels: Tensor

    def share(self, threshold: float = LOCALIZED) -> float:
        """Compute the share of images whose IoU is above a threshold."""
        return (self.ious > threshold).float().mean().item()

    def share_by_class(self, threshold: float = LOCALIZED) -> dict[int, float]:
        """Compute the share of the images of each label that occurs."""
        found = self.ious > threshold
        return {label: found[self.labels == label].float().mean().item() for label in self.labels.unique().tolist()}


def shown_boxes(values: Tensor, height: int, width: int) -> Tensor:
    """Compute the smallest boxes around the regions that transforms show.

    For the true transforms of distorted digits, these are the digits' frames.

    Args:
        values: B transforms of any family, as in a Record.
        height: H of the image, in pixels.
        width: W of the image, in pixels.

    Returns:
        Boxes (B, 4) as x0, y0, x1, y1 in pixels.
    """
    pixels = (outline(values) + 1) / 2 * torch.tensor([width, height], device=values.device)
    return torch.cat([pixels.amin(1), pixels.amax(1)], dim=1)


def localization_of_objects(model: nn.Module, loader: Iterable[Any]) -> dict[str, Localization]:
    """Compute the IoU of each transformer's region and the object of each image, by place.

    Args:
        model: A model with affine transformers. It is run in evaluation mode and not changed.
        loader: Batches in a form of `foveal.score`: inputs (B, C, H, W) of the model, labels (B,), and boxes (B, 4) as
            x0, y0, x1, y1 in pixels.

    Raises:
        TypeError: If `model` is no module, or a batch is without images.
        ValueError: If the model has no transformer, the loader has no images or boxes, or a box is outside its image.

    Examples:
        >>> import foveal, torch
        >>> from foveal.evaluation.co_localization import localization_of_objects
        >>> model = foveal.create_model("co_localizer", num_classes=10, in_chans=1)
        >>> batch = torch.rand(1, 1, 42, 42), torch.tensor([0]), torch.tensor([[7.0, 7.0, 35.0, 35.0]])
        >>> localization_of_objects(model, [batch])["crop"].share()
        1.0
    """
    ious: dict[str, list[Tensor]] = {}
    labels: list[Tensor] = []

    def noting_labels() -> Iterator[Any]:
        for batch in iter_batches(loader):
            if isinstance(batch, tuple | list) and len(batch) > 1:  # any other is refused by `iter_boxed`
                labels.append(torch.as_tensor(batch[1]).flatten())
            yield batch

    boxed = iter_boxed(noting_labels(), model)
    for (images, boxes), seen in passes(model, boxed, "transform", ("B 2 3", "B 3 3")):
        for path, record in seen.items():
            shown = shown_boxes(record.values.float(), *images.shape[2:])
            ious.setdefault(path, []).append(box_iou(shown, boxes).diagonal())
    return {path: Localization(torch.cat(parts), torch.cat(labels)) for path, parts in ious.items()}
