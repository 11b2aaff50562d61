"""Checks of models and loaders, each with an error of one line.

Axes: B batch, C channel, H W image.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foveal.core.batches import KEYS, as_tensor, dtype_name, parts_of, read_labels, type_names


def check_model(model: object) -> None:
    """Raise TypeError for an object that is not a module, such as a network's name."""
    if not isinstance(model, nn.Module):
        text = repr(model) if isinstance(model, str) else f"a {type(model).__name__}"
        hint = "; foveal.create_model makes one by its name" if isinstance(model, str) else ""
        raise TypeError(f"model: {text}; a torch.nn.Module is needed{hint}")


def device_of(model: nn.Module) -> torch.device:
    return next((weight.device for weight in model.parameters()), torch.device("cpu"))


def has_inference_weights(model: nn.Module) -> bool:
    """Return True if a weight or buffer was made under `torch.inference_mode`; autograd cannot use such tensors."""
    return any(each.is_inference() for each in (*model.parameters(), *model.buffers()))


def to_model(images: Tensor, model: nn.Module) -> Tensor:
    """Move images to the model's device; float64, NumPy's default, becomes the type of the model's weights."""
    weights = (weight.dtype for weight in model.parameters() if weight.is_floating_point())
    double = images.dtype == torch.float64
    return images.to(device_of(model), next(weights, images.dtype) if double else images.dtype)


def check_read_again(loader: object, name: str = "loader") -> None:
    """Raise ValueError for an iterator, which is empty when it is read a second time."""
    if isinstance(loader, Iterator):
        kind = type(loader).__name__
        raise ValueError(
            f"{name}: {kind} given, which can be read once; it is read several times; a list or a DataLoader"
        )


def iter_batches(loader: Any, name: str = "loader") -> Iterator[Any]:
    """Yield the batches of a loader; an error of the loader is raised again with the number of the batch, from 0."""
    if isinstance(loader, Tensor | np.ndarray | str | dict) or not hasattr(type(loader), "__iter__"):
        raise TypeError(f"{name}: {type(loader).__name__} given; batches are needed, in a list or a DataLoader")
    batches, read = iter(loader), 0
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except Exception as error:  # any error that the caller's loader may raise
            raise ValueError(f"{name}: batch {read} could not be read: {type(error).__name__}: {error}") from error
        yield batch
        read += 1


def iter_images(loader: Iterable[Any], model: nn.Module, name: str = "loader") -> Iterator[Tensor]:
    """Yield the images of each batch, (B, C, H, W), on the model's device; a batch may be images alone.

    Raises:
        TypeError: a batch without a tensor or an array of images.
        ValueError: images that are not (B, C, H, W), or none of them.
    """
    for index, batch in enumerate(iter_batches(loader, name)):
        images = next(iter(parts_of(batch, name)), None)
        if not isinstance(images, Tensor):
            raise TypeError(f"{name}: a batch is a {type(batch).__name__}; its first element must be images, a tensor")
        check_images(images, f"{name}: batch {index}: images")
        yield to_model(images, model)


def iter_labelled(
    loader: Iterable[Any], model: nn.Module, outputs: int, name: str = "loader", named: bool = False
) -> Iterator[tuple[Any, ...]]:
    """Yield images (B, C, H, W) on the model's device, labels (B,) of int64 and, where they are known, boxes as given.

    Args:
        loader: batches in one of the forms of `foveal.core.batches.parts_of`.
        model: with `outputs` outputs, 1 for a binary model.
        outputs, named: the labels must be classes of such a model, see `foveal.core.batches.read_labels`.
        name: of the loader, for messages.

    Raises:
        TypeError: a batch without images and labels.
        ValueError: parts of different lengths; images of another shape; labels that are not one class for each image.
    """
    for index, batch in enumerate(iter_batches(loader, name)):
        parts = parts_of(batch, name)
        of_tensors = all(isinstance(each, Tensor) for each in parts[:2])
        if len(parts) < 2 or not (of_tensors and all(isinstance(each, Tensor | list | tuple) for each in parts[2:])):
            several = isinstance(batch, list | tuple) and batch
            given = f"a {type(batch).__name__}{f' of {type_names(batch[: len(KEYS)])}' if several else ''}"
            raise TypeError(f"{name}: a batch is {given}; images and labels are needed, and boxes where they are known")
        images, labels, *boxes = parts
        check_images(images, f"{name}: batch {index}: images")
        counts = [len(each) if getattr(each, "ndim", 1) else None for each in parts]
        if counts != [len(images)] * len(parts):
            sizes = ("a scalar for" if count is None else count for count in counts)
            text = ", ".join(f"{size} {part}" for size, part in zip(sizes, KEYS, strict=False))
            raise ValueError(f"{name}: a batch of {text} (batch {index}); each image needs one")
        yield (to_model(images, model), read_labels(labels, outputs, f"{name}: batch {index}", named), *boxes)


def as_model_input(images: Any) -> Tensor:
    """Return images as a model expects them: (B, C, H, W), of floats.

    Args:
        images: a tensor or NumPy array of floats, or a list or tuple of tensors or arrays (C, H, W) of one shape.

    Raises:
        TypeError: integers or PIL images, whose normalization is not known; another type.
        ValueError: another shape; a list of several shapes.
    """
    way_out = "normalize them as the model expects, into a float tensor (B, C, H, W)"
    value = [as_tensor(each) for each in images] if isinstance(images, list | tuple) else as_tensor(images)
    if isinstance(value, list):
        if not value or not all(isinstance(each, Tensor) for each in value):
            raise TypeError(
                f"images: {type(images).__name__} of {type_names(images[:1]) or 'nothing'} given; {way_out}"
            )
        shapes = list(dict.fromkeys(tuple(each.shape) for each in value))
        if len(shapes) > 1:
            raise ValueError(f"images of several shapes, {shapes[0]} and {shapes[1]}: (B, C, H, W) is needed")
        value = torch.stack(value)
    if not isinstance(value, Tensor):
        raise TypeError(f"images: {type(images).__name__} given; {way_out}")
    if not value.is_floating_point():
        raise TypeError(f"images of type {dtype_name(value)}: {way_out}")
    check_images(value, "images")
    return value


def check_images(images: Tensor, where: str) -> None:
    """Raise ValueError for a batch of images that is not (B, C, H, W), or is empty."""
    if images.ndim != 4 or not len(images):
        hint = "; images[None] makes a batch of one image" if images.ndim == 3 else ""
        raise ValueError(f"{where} of shape {tuple(images.shape)}: (B, C, H, W) is needed, with B from 1{hint}")
