"""One switch for every fast form: inside `plain()` each mechanism and each block runs its plain definition.

A fast form gives the same answers to rounding, and stands beside the definition that it is tested against.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch
from torch import Tensor, nn
from torch.nn.modules import module as everywhere

_plain = 0  # contexts that are open, in whatever threads
_lock = Lock()


@contextmanager
def plain() -> Iterator[None]:
    """Run every mechanism by its plain definition while the context lasts: `with foveal.plain(): model(images)`.

    It holds for the whole process. A model that was compiled, exported or deployed before keeps the form that it has.
    """
    count(1)
    try:
        yield
    finally:
        count(-1)


def count(step: int) -> None:
    global _plain
    with _lock:
        _plain += step


def fast() -> bool:
    """Whether fast forms are on."""
    return not _plain


def fast_for(x: Tensor) -> bool:
    """Whether fast forms are on and this tensor is one that they are made for: on a CPU, run eagerly, no autocast.

    A compiler makes its own; an export shows the definition; a transform of functorch's sees no layout.
    """
    if _plain or type(x) not in (Tensor, nn.Parameter):  # first, since what is traced has no facts
        return False
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or transformed():  # type: ignore[attr-defined]
        return False
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def transformed() -> bool:
    """Whether a transform of functorch's, such as vmap, is at work."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def may_overwrite(x: Tensor, *modules: nn.Module) -> bool:
    """Whether a map that these modules made, and that nobody asked them for but the caller, may be written over.

    No gradient may need it, and no hook may have seen it: neither one on these modules nor one on all.
    """
    if torch.is_grad_enabled() or not fast_for(x):
        return False
    if everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks:
        return False
    return not any(each._forward_hooks or each._forward_pre_hooks for each in modules)
