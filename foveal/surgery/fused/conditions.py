"""When a fused Function may stand for modules: if nobody can tell the difference but by time and memory.

Not where something looks on (hooks, tracing, compilation, export, transforms, modes of torch), nor where a module is
not just what its class says (a class derived from it, which parametrisation makes too, a `forward` of its own).
"""

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.utils.parametrize import is_parametrized
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from foveal.ops.fast_path import fast_path_enabled, under_functorch

DEVICES = ("cpu",)  # on which the fused forms were tested and measured


def eager(x: Tensor) -> bool:
    """Whether a forward pass on x is an ordinary one, in which fast forms are on."""
    if torch.compiler.is_compiling() or torch._C._is_tracing() or not fast_path_enabled():
        return False
    modes = [mode for mode in _get_current_dispatch_mode_stack() if not getattr(mode, "only_watches", False)]
    forward_mode = torch.autograd.forward_ad._current_level >= 0
    plain = type(x) in (Tensor, nn.Parameter) and x.device.type in DEVICES and x.is_floating_point() and x.ndim == 4
    if not plain or x.numel() == 0:  # what a norm does with no image is its own affair
        return False
    functions = torch._C._len_torch_function_stack()
    return not (under_functorch() or modes or functions or forward_mode or hooked_everywhere())


def hooked_everywhere() -> bool:
    return any(
        (
            torch_module._global_forward_hooks,
            torch_module._global_forward_pre_hooks,
            torch_module._global_backward_hooks,
            torch_module._global_backward_pre_hooks,
        )
    )


def bypassable(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether a module is just of one of these classes, and nobody would miss its call."""
    if type(module) not in kinds or "forward" in module.__dict__ or is_parametrized(module):
        return False
    return not any(
        (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._backward_hooks,
            module._backward_pre_hooks,
        )
    )


def fusible(norm: nn.Module, kind: type[nn.BatchNorm2d] = nn.BatchNorm2d) -> bool:
    """Whether a norm is a BatchNorm whose tensors are in full precision and on a device that is known."""
    if not bypassable(norm, kind):
        return False
    held = [*norm.parameters(recurse=False), *norm.buffers(recurse=False)]
    return all(
        type(each) in (Tensor, nn.Parameter)
        and each.device.type in DEVICES
        and each.dtype in (torch.float32, torch.float64, torch.int64)
        for each in held
    )
