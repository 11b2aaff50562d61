"""What a user hands over, a model and a loader, and what is wrong with either in one line.

Axes: B batch, C channel, H W image.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


def check_model(model: object) -> None:
    """TypeError for what is no module, such as a network's name."""
    if not isinstance(model, nn.Module):
        told = repr(model) if isinstance(model, str) else f"a {type(model).__name__}"
        hint = "; foveal.create_model makes one by its name" if isinstance(model, str) else ""
        raise TypeError(f"model: {told}; a torch.nn.Module is needed{hint}")


def device_of(model: nn.Module) -> torch.device:
    return next((weight.device for weight in model.parameters()), torch.device("cpu"))


def check_read_again(loader: object, name: str = "loader") -> None:
    """ValueError for what can be read only once: read again it is empty, and figures would tell of no image."""
    if isinstance(loader, Iterator):
        kind = type(loader).__name__
        raise ValueError(
            f"{name}: {kind} given, which can be read once; it is read several times; a list or a DataLoader"
        )


def iter_batches(loader: Any, name: str = "loader") -> Iterator[Any]:
    """The batches of a loader; an error of its own is told with the number of the batch, from 0."""
    if isinstance(loader, Tensor | str | dict) or not hasattr(type(loader), "__iter__"):
        raise TypeError(f"{name}: {type(loader).__name__} given; batches are needed, in a list or a DataLoader")
    batches, read = iter(loader), 0
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except Exception as error:  # whatever somebody's loader raises
            raise ValueError(f"{name}: batch {read} could not be read: {type(error).__name__}: {error}") from error
        yield batch
        read += 1


def iter_images(loader: Iterable[Any], model: nn.Module) -> Iterator[Tensor]:
    """The images of each batch, (B, C, H, W), on the model's device; a batch may be images alone."""
    device = device_of(model)
    for batch in iter_batches(loader):
        images = batch if isinstance(batch, Tensor) else batch[0] if isinstance(batch, list | tuple) else None
        if not isinstance(images, Tensor):
            raise TypeError(f"loader: a batch is a {type(batch).__name__}; its first element must be images, a tensor")
        yield images.to(device)


def iter_labelled(loader: Iterable[Any], model: nn.Module, name: str = "loader") -> Iterator[tuple[Tensor, ...]]:
    """Batches of images, on the model's device, labels and, where they are known, boxes."""
    device = device_of(model)
    for batch in iter_batches(loader, name):
        if not isinstance(batch, list | tuple) or len(batch) < 2 or not all(isinstance(x, Tensor) for x in batch[:3]):
            held = ", ".join(type(each).__name__ for each in batch) if isinstance(batch, list | tuple) else ""
            given = f"a {type(batch).__name__}{f' of {held}' if held else ''}"
            raise TypeError(f"{name}: a batch is {given}; images and labels are needed, and boxes where they are known")
        images, labels, *boxes = batch[:3]
        if any(len(each) != len(images) for each in (labels, *boxes)):
            counts = ", ".join(
                f"{len(each)} {what}" for each, what in zip(batch, ("images", "labels", "boxes"), strict=False)
            )
            raise ValueError(f"{name}: a batch of {counts}; each image needs one")
        yield (images.to(device), labels, *boxes)
