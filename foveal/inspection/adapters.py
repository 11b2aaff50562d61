"""Adapters: bring the attention weights of a third-party module into the axes of a Record, and back."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn


class NotRecordable(Exception):  # noqa: N818 (no error)
    """Why weights that pass by cannot be shown; never leaves the package."""


class Call(NamedTuple):
    """The call in which weights were met."""

    module: nn.Module  # whose output they are, or in whose forward pass
    x: Any  # its first argument
    batch: int | None  # images in the pass over the model; None where a part is called alone


Form = Callable[[Tensor, Call], Tensor]


def flat(weights: Tensor, _: Call) -> Tensor:
    """(B, C) from (B, C, 1, 1), (B, 1, C) or (B, 1, 1, C)."""
    if weights.numel() > len(weights) * max(weights.shape[1:]):
        raise NotRecordable(f"weights of shape {tuple(weights.shape)} are no gate of each channel")
    return weights.flatten(1)


def plane(weights: Tensor, _: Call) -> Tensor:
    return weights.squeeze(1)  # (B, H, W) from (B, 1, H, W)


def positions(weights: Tensor, call: Call) -> Tensor:
    return weights.reshape(len(weights), *call.x.shape[2:])  # (B, H, W) from (B, 1, H W)


def column(weights: Tensor, _: Call) -> Tensor:
    return weights.squeeze(-1)  # (B, C, H) from (B, C, H, 1)


def row(weights: Tensor, _: Call) -> Tensor:
    return weights.squeeze(-2)  # (B, C, W) from (B, C, 1, W)


def branches(weights: Tensor, _: Call) -> Tensor:
    return weights.flatten(2)  # (B, K, C) from (B, K, C, 1, 1)


def radix(weights: Tensor, call: Call) -> Tensor:
    return weights.unflatten(1, (call.module.radix, -1))  # (B, K, C) from (B, K C)


def as_it_is(weights: Tensor, _: Call) -> Tensor:
    return weights


def sequences(weights: Tensor, call: Call) -> Tensor:
    """(B, G, Q, K), or (B, N, G, Q, K) where a network attends within N parts of each image."""
    if call.batch is None or len(weights) == call.batch:
        return weights
    return windows(weights, call)


def one_head(weights: Tensor, _: Call) -> Tensor:
    return weights.reshape(len(weights), 1, *weights.shape[-2:])  # (B, 1, Q, K) from (B, Q, K)


def heads(weights: Tensor, call: Call) -> Tensor:
    return weights.unflatten(0, (-1, call.module.num_heads))  # (B, G, ...) from (B G, ...)


def windows(weights: Tensor, call: Call) -> Tensor:
    """(B, N, G, Q, K) from (B N, G, Q, K), image by image."""
    if call.batch is None or len(weights) % call.batch:
        raise NotRecordable(
            "its windows cannot be told from images unless the whole model is called on a batch of images"
        )
    return weights.unflatten(0, (call.batch, -1))


def windows_of_one_head(weights: Tensor, call: Call) -> Tensor:
    return windows(one_head(weights, call), call)


def blocks(weights: Tensor, _: Call) -> Tensor:
    return weights.reshape(*weights.shape[:2], -1, *weights.shape[-2:])  # (B, G, N, Q, K), also without N


def axes_of(values: Tensor, axes: str) -> str | None:
    """The axes of values: those stated, or these with N parts of each image; None where neither fits."""
    fitting = (each for each in (axes, axes.replace("B G Q", "B N G Q")) if len(each.split()) == values.ndim)
    return next(fitting, None)


def windows_of_heads(weights: Tensor, call: Call) -> Tensor:
    return windows(heads(weights, call), call)  # (B, N, G, Q, K) from (B N G, Q, K)
