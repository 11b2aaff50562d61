"""Objects that a hard crop shows whole."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from foveal.evaluation.central_objects import iter_boxed
from foveal.evaluation.co_localization import shown_boxes
from foveal.evaluation.paper_analyses import passes

ROUNDED = 1e-3  # pixels by which an object may seem to extend beyond a crop, since transforms are rounded


def whole_in_crops(model: nn.Module, loader: Iterable[Any]) -> dict[str, Tensor]:
    """Find the images with their object whole in one of the crops that the network gets, by place.

    Args:
        model: A model with hard crops. It is run in evaluation mode and not changed.
        loader: Batches in a form of `foveal.score`: inputs (B, C, H, W) of the model, labels, which are not read, and
            boxes (B, 4) as x0, y0, x1, y1 in pixels.

    Returns:
        By place, (N,) of bool.

    Raises:
        TypeError: If `model` is no module, or a batch is without images.
        ValueError: If the model has no hard crop, the loader has no images or boxes, or a box is outside its image.

    Examples:
        >>> import foveal, torch
        >>> from foveal.evaluation.objects_in_crops import whole_in_crops
        >>> model = foveal.create_model("small_cnn+hard_crop:size=32", num_classes=10, in_chans=1)
        >>> batch = torch.rand(1, 1, 32, 32), torch.tensor([0]), torch.tensor([[0.0, 0.0, 32.0, 32.0]])
        >>> whole_in_crops(model, [batch])["stem.0.hard_crop.crops"].tolist()
        [True]
    """
    found: dict[str, list[Tensor]] = {}
    for (images, boxes), seen in passes(model, iter_boxed(loader, model), "crop", ("B K 2 3",)):
        for path, record in seen.items():
            theta = record.values.float()
            crops = shown_boxes(theta.flatten(0, 1), *images.shape[2:]).unflatten(0, theta.shape[:2])
            inside = (crops[..., :2] <= boxes[:, None, :2] + ROUNDED) & (crops[..., 2:] >= boxes[:, None, 2:] - ROUNDED)
            found.setdefault(path, []).append(inside.all(2).any(1))
    return {path: torch.cat(parts) for path, parts in found.items()}
