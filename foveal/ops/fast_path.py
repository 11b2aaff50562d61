"""Switch for all fast forms: within `no_fast_path()` each mechanism and each block runs its plain definition.

A fast form returns the same values up to rounding, and is tested against the definition beside it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

_disabled = 0  # number of open `no_fast_path` contexts, of all threads
_lock = Lock()


@contextmanager
def no_fast_path() -> Iterator[None]:
    """Run every mechanism by its plain definition within the context.

    The switch holds for the whole process, all threads included. A model that was compiled, exported or deployed before
    keeps the form that it has.

    Returns:
        A context manager; contexts may be nested.

    >>> import foveal, torch
    >>> model = foveal.create_model("small_cnn+se", num_classes=10, in_chans=1).eval()
    >>> images = torch.rand(2, 1, 28, 28)
    >>> with torch.no_grad(), foveal.no_fast_path():
    ...     plain = model(images)
    >>> with torch.no_grad():
    ...     torch.allclose(model(images), plain, atol=1e-5)
    True
    """
    change_count(1)
    try:
        yield
    finally:
        change_count(-1)


def change_count(step: int) -> None:
    """Add `step` to the number of open `no_fast_path` contexts."""
    global _disabled
    with _lock:
        _disabled += step


def fast_path_enabled() -> bool:
    """Return True if fast forms are on."""
    return not _disabled


def fast_path_applies(x: Tensor) -> bool:
    """Return True if fast forms are on and suit this tensor: on a CPU, run eagerly, without autocast.

    Off under torch.compile, export and functorch transforms: a compiler generates its own fast code, an exported graph
    contains the plain definition, and functorch hides the memory layout.
    """
    if _disabled or type(x) not in (Tensor, nn.Parameter):  # first: other types may be traced
        return False
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or under_functorch():  # type: ignore[attr-defined]
        return False
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def under_functorch() -> bool:
    """Return True within a functorch transform, such as vmap."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def can_write_in_place(x: Tensor, *modules: nn.Module) -> bool:
    """Return True if `x`, the output of these modules, may be modified in place.

    The caller must hold the only reference to `x`. No gradient may need it, and no hook may have seen it: neither a
    hook on these modules nor a global one.
    """
    if torch.is_grad_enabled() or not fast_path_applies(x):
        return False
    if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks:
        return False
    return not any(each._forward_hooks or each._forward_pre_hooks for each in modules)
