"""Images, labels and boxes of a loader's batch.

Axes: B batch, C channel, H W image, K class.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

KEYS = {
    "images": ("images", "image", "pixel_values"),
    "labels": ("labels", "label"),
    "boxes": ("boxes", "masks"),  # what is known of objects, see foveal.evaluation.objects
}


def parts_of(batch: Any, name: str) -> list[Any]:
    """Return images, labels and boxes of a batch, as far as it holds them; NumPy arrays become tensors.

    Args:
        batch: a tensor of images alone; a list or tuple in this order; or a mapping with the keys `KEYS`.
        name: of the loader, for messages.

    Raises:
        TypeError: a mapping without a key for images, or with two keys for one part.
    """
    if isinstance(batch, Mapping):
        batch = values_of(batch, name)
    parts = batch[: len(KEYS)] if isinstance(batch, list | tuple) else [batch]
    return [as_tensor(each) for each in parts]


def values_of(batch: Mapping[str, Any], name: str) -> list[Any]:
    """Return the parts of a mapping in the order of `KEYS`, up to the first that is missing."""
    found = []
    described = f"{name}: a batch is a {type(batch).__name__} with {', '.join(map(repr, batch)) or 'no keys'}"
    for part, keys in KEYS.items():
        present = [key for key in keys if key in batch]
        if len(present) > 1:
            raise TypeError(f"{described}; give {part} by one key, {present[0]!r} or {present[1]!r}")
        if not present:
            break
        found.append(batch[present[0]])
    if not found:
        raise TypeError(f"{described}; images need the key {either(KEYS['images'])}")
    return found


def either(names: Sequence[str]) -> str:
    return f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"


def as_tensor(value: Any) -> Any:
    """Copy a NumPy array of numbers into a tensor; return anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    try:
        return torch.from_numpy(np.array(value, order="C"))
    except (TypeError, ValueError):  # objects, text, a foreign byte order
        return value


def type_names(parts: Sequence[Any]) -> str:
    return ", ".join(type(each).__name__ for each in parts)


def read_labels(labels: Tensor, outputs: int, where: str, named: bool = False) -> Tensor:
    """Return the class of each image: (B,), int64, on the CPU.

    Args:
        labels: classes (B,) or (B, 1), integers of any type from 0; or exact one-hot rows (B, K) of any type. For a
            model with one output also bool or float labels that are 0 or 1.
        outputs: the number of the model's outputs, 1 for a binary model.
        where: loader and batch, for messages.
        named: `outputs` is the number of class names that the caller gave; one name is then one class.

    Raises:
        ValueError: any other shape or type (soft labels, several classes for one image); a class out of range.
    """
    labels = labels.detach().cpu()
    described = f"{where}: labels of shape {tuple(labels.shape)} and type {dtype_name(labels)}"
    rows = f" or one-hot rows (B, {outputs})" if outputs > 1 else ""
    classes = outputs if named else max(outputs, 2)
    column = labels.ndim == 2 and labels.shape[1] == 1
    if labels.ndim == 2 and not column:
        if labels.shape[1] == outputs and is_one_hot(labels):
            return labels.long().argmax(1)
        raise ValueError(
            f"{described}, rows that are not one-hot; integers (B,) from 0 to {classes - 1}{rows} are needed"
        )
    flat = labels[:, 0] if column else labels
    fraction = flat.is_floating_point() or flat.dtype == torch.bool
    if flat.ndim != 1 or flat.is_complex() or (fraction and not is_binary(flat, classes, outputs == 1)):
        raise ValueError(f"{described}; integers (B,) from 0 to {classes - 1}{rows} are needed")
    flat = flat.long()
    if len(flat) and (flat.min() < 0 or flat.max() >= classes):
        has = f"the model has {outputs} outputs" if outputs > 1 else "the model has one output for two classes"
        reason = f"classes has {outputs} name{'s' * (outputs > 1)}" if named else has
        span = f"labels from {flat.min()} to {flat.max()}"
        possible = f"0 to {classes - 1} are" if classes > 1 else "0 alone is"
        raise ValueError(f"{where}: {span}; {possible} possible, as {reason}")
    return flat


def is_one_hot(rows: Tensor) -> bool:
    """Return True if each row holds a single 1 and zeros."""
    if rows.is_complex():
        return False
    values = rows.double()
    return bool((((values == 0) | (values == 1)).all(1) & (values.sum(1) == 1)).all())


def is_binary(labels: Tensor, classes: int, one_output: bool) -> bool:
    """Return True if bool labels are those of two classes, or float labels 0 or 1 those of a model with one output."""
    if labels.dtype == torch.bool:
        return classes == 2
    return one_output and classes == 2 and bool(((labels == 0) | (labels == 1)).all())


def dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
