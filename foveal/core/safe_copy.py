"""Copies of a model for a trial pass, which leaves the model itself and the random state as they were.

A pass over the model itself may change it for good: caches of positions, shifts of windows, sizes of anchors. A copy
shares the parameters, or has empty ones on the meta device, where a pass computes shapes alone.
"""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

KEPT = "torch.nn.utils"  # hooks of pruning, weight norm and spectral norm belong to the computation


def safe_copy(model: nn.Module, meta: bool) -> nn.Module:
    """Return a copy in evaluation mode, without the user's hooks.

    Args:
        model: any module; it is not changed.
        meta: True for empty tensors on the meta device; False for the model's own parameters, shared, and copies of
            its buffers.

    Raises:
        Exception: whatever a part of the model raises that cannot be copied.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for tensor in tensors_in(vars(module)):
            memo[id(tensor)] = standing_in(tensor, meta)
    copied = deepcopy(model, memo)
    for module in copied.modules():
        clear_hooks(module)
        module.training = False
    return copied


def tensors_in(value: Any, depth: int = 4) -> Iterator[Tensor]:
    """Yield the tensors in nested dicts, lists and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(each, depth - 1)


def standing_in(tensor: Tensor, meta: bool) -> Tensor:
    """Return what stands for a tensor in a copy."""
    shared = isinstance(tensor, nn.Parameter)
    if not meta:
        return tensor if shared else tensor.detach().clone()
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    return nn.Parameter(empty, requires_grad=False) if shared else empty


def clear_hooks(module: nn.Module) -> None:
    """Remove hooks from a copy, except those that compute its weights."""
    for name, table in vars(module).items():
        if not (name.endswith(("_hooks", "_pre_hooks")) and isinstance(table, dict)) or "state_dict" in name:
            continue
        for key, hook in list(table.items()):
            if not type(hook).__module__.startswith(KEPT):
                del table[key]


def as_meta(value: Any) -> Any:
    """Return arguments of a pass with empty tensors on the meta device."""
    if isinstance(value, Tensor):
        return torch.empty_like(value, device="meta", requires_grad=False)
    if isinstance(value, dict):
        return {key: as_meta(each) for key, each in value.items()}
    return type(value)(map(as_meta, value)) if type(value) in (list, tuple) else value


def detached(value: Any) -> Any:
    """Return arguments of a pass with copies of their tensors."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: detached(each) for key, each in value.items()}
    return type(value)(map(detached, value)) if type(value) in (list, tuple) else value


@contextmanager
def forked_random_state() -> Iterator[None]:
    """Restore the random states of torch, NumPy and Python when the context ends."""
    python, numpy = random.getstate(), np.random.get_state()
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
