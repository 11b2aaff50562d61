"""Adapters that reshape the attention weights of a third-party module to the axes of a Record, and back."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn


class NotRecordable(Exception):  # noqa: N818 (no error)
    """Reason why weights cannot be recorded; never raised to the user."""


class Call(NamedTuple):
    """Call in which weights were computed."""

    module: nn.Module  # the module that returned them, or in the forward pass of which they were computed
    x: Any  # its first argument
    batch: int | None  # images in the pass over the model; None if only a part is called


Form = Callable[[Tensor, Call], Tensor]


def flat(weights: Tensor, _: Call) -> Tensor:
    """Reshape (B, C, 1, 1), (B, 1, C) or (B, 1, 1, C) to (B, C)."""
    if weights.numel() > len(weights) * max(weights.shape[1:]):
        raise NotRecordable(f"weights of shape {tuple(weights.shape)} are not a gate of each channel")
    return weights.flatten(1)


def plane(weights: Tensor, _: Call) -> Tensor:
    """Reshape (B, 1, H, W) to (B, H, W)."""
    return weights.squeeze(1)


def positions(weights: Tensor, call: Call) -> Tensor:
    """Reshape (B, 1, H W) to (B, H, W)."""
    return weights.reshape(len(weights), *call.x.shape[2:])


def column(weights: Tensor, _: Call) -> Tensor:
    """Reshape (B, C, H, 1) to (B, C, H)."""
    return weights.squeeze(-1)


def row(weights: Tensor, _: Call) -> Tensor:
    """Reshape (B, C, 1, W) to (B, C, W)."""
    return weights.squeeze(-2)


def branches(weights: Tensor, _: Call) -> Tensor:
    """Reshape (B, K, C, 1, 1) to (B, K, C)."""
    return weights.flatten(2)


def radix(weights: Tensor, call: Call) -> Tensor:
    """Reshape (B, K C) to (B, K, C)."""
    return weights.unflatten(1, (call.module.radix, -1))


def as_it_is(weights: Tensor, _: Call) -> Tensor:
    """Return the weights unchanged."""
    return weights


def sequences(weights: Tensor, call: Call) -> Tensor:
    """Return (B, G, Q, K), or (B, N, G, Q, K) if a network attends within N parts of each image."""
    if call.batch is None or len(weights) == call.batch:
        return weights
    return windows(weights, call)


def one_head(weights: Tensor, _: Call) -> Tensor:
    """Reshape (B, Q, K) to (B, 1, Q, K)."""
    return weights.reshape(len(weights), 1, *weights.shape[-2:])


def heads(weights: Tensor, call: Call) -> Tensor:
    """Reshape (B G, ...) to (B, G, ...)."""
    return weights.unflatten(0, (-1, call.module.num_heads))


def windows(weights: Tensor, call: Call) -> Tensor:
    """Reshape (B N, G, Q, K) to (B, N, G, Q, K), image by image."""
    if call.batch is None or len(weights) % call.batch:
        raise NotRecordable(
            "its windows cannot be distinguished from images unless the whole model is called on a batch of images"
        )
    return weights.unflatten(0, (call.batch, -1))


def windows_of_one_head(weights: Tensor, call: Call) -> Tensor:
    """Reshape (B N, Q, K) to (B, N, 1, Q, K)."""
    return windows(one_head(weights, call), call)


def blocks(weights: Tensor, _: Call) -> Tensor:
    """Reshape (B, G, N, Q, K), also without N, to (B, G, N, Q, K)."""
    return weights.reshape(*weights.shape[:2], -1, *weights.shape[-2:])  # (B, G, N, Q, K), also without N


def axes_of(values: Tensor, axes: str) -> str | None:
    """Return the axes of values: `axes`, or these with N parts of each image; None if neither fits."""
    matching = (each for each in (axes, axes.replace("B G Q", "B N G Q")) if len(each.split()) == values.ndim)
    return next(matching, None)


def windows_of_heads(weights: Tensor, call: Call) -> Tensor:
    """Reshape (B N G, Q, K) to (B, N, G, Q, K)."""
    return windows(heads(weights, call), call)
