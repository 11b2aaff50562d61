"""Images whose object is in their centre, and its enlargement (Li et al., 2019, Figures 3 and 4).

Axes: B batch, C channel, H W image.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from foveal.core.batches import parts_of
from foveal.core.validation import check_images, iter_batches, to_model
from foveal.evaluation.objects import one_box_each, read_objects
from foveal.ops.geometry import affine_grid, sample


def iter_boxed(loader: Iterable[Any], model: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images (B, C, H, W) on the model's device, and boxes (B, 4) on the CPU."""
    for images, boxes in iter_with_objects(loader, "boxes"):
        yield to_model(images, model), one_box_each(boxes, images)


def iter_with_objects(loader: Iterable[Any], objects: str) -> Iterator[tuple[Tensor, Any]]:
    """Yield images (B, C, H, W) and the third part of each batch, which a message names `objects`."""
    for index, batch in enumerate(iter_batches(loader)):
        parts = parts_of(batch, "loader")
        if len(parts) < 3 or not isinstance(parts[0], Tensor):
            raise ValueError(f"loader: batch {index} must have three parts: images, labels and {objects}")
        check_images(parts[0], f"loader: batch {index}: images")
        yield parts[0], parts[2]


def iter_central(loader: Iterable[Any], model: nn.Module, scale: float) -> Iterator[Tensor]:
    """Yield the images (B, C, H, W) whose objects all stay whole when the centre is enlarged.

    Args:
        loader: batches of images, labels, which are not read, and objects in a form of `foveal.evaluation.objects`.
        model: the images are moved to its device.
        scale: largest enlargement; the crop is 1 / `scale` of each side.

    Raises:
        ValueError: no image whose objects are in the central crop; a batch without objects.
    """
    empty = True
    for images, objects in iter_with_objects(loader, "objects"):
        size = torch.tensor([images.shape[3], images.shape[2]])
        extents = [extent(each) for each in read_objects(objects, images)]
        central = torch.tensor([bool(len(each)) and is_central(each, size, scale) for each in extents])
        if central.any():
            empty = False
            yield to_model(images[central.to(images.device)], model)
    if empty:
        raise ValueError(f"no image has its objects whole in the centre, enlarged {scale:g} times")


def extent(objects: Tensor) -> Tensor:
    """Return x0, y0 and x1, y1 (N, 2, 2), or of masks (N, H, W) the corners of their pixels."""
    if objects.ndim == 2:
        return objects.unflatten(1, (2, 2))
    pixels = [mask.nonzero().flip(1) for mask in objects]  # x, y
    corners = [torch.stack([each.amin(0), each.amax(0) + 1]) for each in pixels]
    return torch.stack(corners).float() if corners else torch.zeros(0, 2, 2)


def is_central(corners: Tensor, size: Tensor, scale: float) -> bool:
    """Return True if all corners (N, 2, 2) are in the central crop, 1 / `scale` of each side of a size (W, H)."""
    return bool(((2 * corners / size - 1).abs() <= 1 / scale).all())


def enlarged(images: Tensor, scale: float) -> Tensor:
    """Crop the centre of images (B, C, H, W), 1 / `scale` of each side, and resize it to full size."""
    theta = torch.tensor([[[1 / scale, 0.0, 0.0], [0.0, 1 / scale, 0.0]]], device=images.device)
    grid = affine_grid(theta, images.shape[2], images.shape[3])
    return images if scale == 1 else sample(images, grid.expand(len(images), -1, -1, -1))
