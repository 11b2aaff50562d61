"""Objects of images, as a loader gives them: boxes or masks, several in an image or none.

Each of these is understood, for B images of H x W pixels; an array of NumPy as a tensor:

    (B, 4)          one box for each image: x0, y0, x1, y1 in pixels
    (B, N, 4)       up to N boxes; rows of zeros, or of -1, are padding
    (B, H, W)       one mask for each image, of 0 and 1; of zeros where there is no object
    (B, N, H, W)    up to N masks
    list of B       for each image boxes (N, 4), masks (N, H, W), or torchvision's detection target, a dict with
                    `boxes` (N, 4) or `masks` (N, H, W), which are preferred

Axes: B batch, N objects, H W image.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from foveal.core.batches import as_tensor, type_names

FORMS = "(B, 4) or (B, N, 4) in pixels, masks (B, H, W), or a list of (N, 4), of masks (N, H, W) or of targets"
PADDING = (0, -1)


def read_objects(given: Any, images: Tensor) -> list[Tensor]:
    """Return the objects of each image: boxes (N, 4) of floats, or masks (N, H, W) of bool, without empty ones.

    Args:
        given: in one of the forms above.
        images: (B, C, H, W).

    Raises:
        TypeError: another type.
        ValueError: another shape; boxes that are not within their image; values of a mask other than 0 and 1.
    """
    size = images.shape[2], images.shape[3]
    found = [read_image(each, size) for each in split(given, len(images), size)]
    edges = [each.max().item() for each in found if each.ndim == 2 and len(each)]
    if edges and max(edges) <= 1:
        raise ValueError(f"boxes from 0 to {max(edges):g}, shares of the image as it seems; pixels are needed")
    return found


def split(given: Any, count: int, size: tuple[int, int]) -> list[Any]:
    """Split what is given for `count` images into that of each: boxes (N, 4), masks (N, H, W), or a target."""
    if isinstance(given, list | tuple):
        if len(given) != count:
            raise ValueError(f"boxes: a list of {len(given)} for {count} images; one element for each is needed")
        return list(given)
    if not isinstance(given, Tensor):
        raise TypeError(f"boxes: {type(given).__name__} given; {FORMS} are needed")
    shape = tuple(given.shape)
    if shape == (count, 4):
        return list(corners(given, size)[:, None])
    if shape[:1] == (count,) and len(shape) == 4 and shape[2:] == size:
        return list(given)
    if shape[:1] != (count,) or len(shape) != 3 or (shape[1:] != size and shape[2] != 4):
        text = f"({count}, 4), ({count}, N, 4) or masks {(count, *size)} are needed"
        raise ValueError(f"boxes of shape {shape}: {text}, x0, y0, x1, y1 in pixels")
    if shape[1:] == size and shape[2] == 4 and given.dtype != torch.bool:
        raise ValueError(f"boxes of shape {shape} may be masks too; give masks as bool, or boxes as a list of (N, 4)")
    if shape[1:] == size:
        return list(given[:, None])
    return [rows[~is_padding(rows)] for rows in corners(given, size)]


def is_padding(rows: Tensor) -> Tensor:
    """Return whether each row (N, 4) is padding, (N,)."""
    return torch.stack([(rows == value).all(1) for value in PADDING]).any(0)


def read_image(given: Any, size: tuple[int, int]) -> Tensor:
    """Return the objects of one image of a size, in one of the forms of a list's element."""
    if isinstance(given, Mapping):
        parts = [given[key] for key in ("masks", "boxes") if given.get(key) is not None]
        if not parts:
            keys = ", ".join(map(repr, given)) or "no keys"
            raise ValueError(f"boxes: a target with {keys}; it needs 'boxes' (N, 4) or 'masks' (N, H, W)")
        given = parts[0]
    value = as_tensor(given)
    if isinstance(value, list | tuple):
        try:
            value = torch.tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"boxes: a list of {type_names(value[:1])}; {FORMS} are needed") from error
    if not isinstance(value, Tensor):
        raise TypeError(f"boxes: a {type(value).__name__} for an image; {FORMS} are needed")
    if tuple(value.shape) in ((0,), (0, 4), (0, *size)):
        return torch.zeros(0, 4)
    if value.ndim == 3 and tuple(value.shape[1:]) == size:
        masks = as_mask(value)
        return masks[masks.flatten(1).any(1)]
    if value.ndim != 2 or value.shape[1] != 4:
        raise ValueError(
            f"boxes of shape {tuple(value.shape)} for an image: (N, 4), or masks {('N', *size)} are needed"
        )
    return within(corners(value, size), size)


def as_mask(values: Tensor) -> Tensor:
    """Return masks of bool; ValueError for other values than 0 and 1."""
    values = values.detach().as_subclass(Tensor).cpu()
    if values.dtype != torch.bool and not ((values == 0) | (values == 1)).all():
        least, most = values.min().item(), values.max().item()
        raise ValueError(f"boxes: masks of values {least:g} to {most:g}; 0 and 1 are needed, as of `masks == 1`")
    return values.bool()


def corners(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return boxes (..., 4) as x0, y0, x1, y1, float on the CPU, from torchvision's BoundingBoxes of any format too."""
    stated = getattr(boxes, "canvas_size", size)
    if tuple(stated) != size:
        raise ValueError(f"boxes: on a canvas of {stated[1]}x{stated[0]} pixels; the image has {size[1]}x{size[0]}")
    form = getattr(getattr(boxes, "format", None), "value", "XYXY")
    if form != "XYXY":
        from torchvision.transforms.v2.functional import convert_bounding_box_format

        boxes = convert_bounding_box_format(boxes, new_format="XYXY")
    plain = boxes.detach().as_subclass(Tensor).cpu()
    if plain.is_complex() or plain.dtype == torch.bool or plain.shape[-1] != 4:
        raise ValueError(f"boxes of type {plain.dtype} and shape {tuple(plain.shape)}; four numbers each are needed")
    return plain.float()


def within(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return boxes (N, 4); ValueError for a box that is not within an image of a size."""
    height, width = size
    inside = (boxes[:, :2] >= 0).all(1) & (boxes[:, 2] <= width) & (boxes[:, 3] <= height)
    inside &= (boxes[:, 2:] > boxes[:, :2]).all(1)  # false also for NaN
    if not inside.all():
        box = boxes[~inside][0].tolist()
        raise ValueError(f"box {box}: x0, y0, x1, y1 within an image of {width}x{height} pixels")
    return boxes


def one_box_each(given: Any, images: Tensor) -> Tensor:
    """Return boxes (B, 4) of images with one box each; ValueError for anything else."""
    if not isinstance(given, Tensor) or given.shape != (len(images), 4):
        shape = f"of shape {tuple(given.shape)}" if isinstance(given, Tensor) else f"in a {type(given).__name__}"
        raise ValueError(f"boxes {shape}: ({len(images)}, 4) is needed, x0, y0, x1, y1 in pixels")
    return torch.cat(read_objects(given, images))
