"""One switch for every fast form: inside `no_fast_path()` each mechanism and each block runs its plain definition.

A fast form gives the same answers to rounding, and stands beside the definition that it is tested against.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch
from torch import Tensor, nn
from torch.nn.modules import module as everywhere

_disabled = 0  # contexts that are open, in whatever threads
_lock = Lock()


@contextmanager
def no_fast_path() -> Iterator[None]:
    """Run every mechanism by its plain definition while the context lasts: `with foveal.no_fast_path(): model(images)`.

    It holds for the whole process. A model that was compiled, exported or deployed before keeps the form that it has.
    """
    change_count(1)
    try:
        yield
    finally:
        change_count(-1)


def change_count(step: int) -> None:
    global _disabled
    with _lock:
        _disabled += step


def fast_path_enabled() -> bool:
    """Whether fast forms are on."""
    return not _disabled


def fast_path_applies(x: Tensor) -> bool:
    """Whether fast forms are on and this tensor is one that they are made for: on a CPU, run eagerly, no autocast.

    A compiler makes its own; an export shows the definition; a transform of functorch's sees no layout.
    """
    if _disabled or type(x) not in (Tensor, nn.Parameter):  # first, since what is traced has no facts
        return False
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or under_functorch():  # type: ignore[attr-defined]
        return False
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def under_functorch() -> bool:
    """Whether a transform of functorch's, such as vmap, is at work."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def can_write_in_place(x: Tensor, *modules: nn.Module) -> bool:
    """Whether a map that these modules made, and that nobody asked them for but the caller, may be written over.

    No gradient may need it, and no hook may have seen it: neither one on these modules nor one on all.
    """
    if torch.is_grad_enabled() or not fast_path_applies(x):
        return False
    if everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks:
        return False
    return not any(each._forward_hooks or each._forward_pre_hooks for each in modules)
