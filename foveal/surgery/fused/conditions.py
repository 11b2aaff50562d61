"""Conditions under which a fused Function may replace modules: only time and memory may differ.

Not under hooks, tracing, compilation, export, transforms or modes of torch, which observe the modules; nor where a
module is not exactly of its class (a subclass, which parametrisation also creates, or a `forward` of its own).
"""

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.utils.parametrize import is_parametrized
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from foveal.ops.fast_path import fast_path_enabled, under_functorch

DEVICES = ("cpu",)  # devices on which the fused forms were tested and timed


def eager(x: Tensor) -> bool:
    """Return True if a forward pass on x is an ordinary one, with fast forms on."""
    if torch.compiler.is_compiling() or torch._C._is_tracing() or not fast_path_enabled():
        return False
    modes = [mode for mode in _get_current_dispatch_mode_stack() if not getattr(mode, "only_watches", False)]
    forward_mode = torch.autograd.forward_ad._current_level >= 0
    plain = type(x) in (Tensor, nn.Parameter) and x.device.type in DEVICES and x.is_floating_point() and x.ndim == 4
    if not plain or x.numel() == 0:  # an empty batch is left to the norm itself
        return False
    functions = torch._C._len_torch_function_stack()
    return not (under_functorch() or modes or functions or forward_mode or hooked_everywhere())


def hooked_everywhere() -> bool:
    """Return True if a global module hook is registered."""
    return any(
        (
            torch_module._global_forward_hooks,
            torch_module._global_forward_pre_hooks,
            torch_module._global_backward_hooks,
            torch_module._global_backward_pre_hooks,
        )
    )


def bypassable(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Return True if a module is exactly of one of these classes, without hooks, so that its call can be skipped."""
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
    """Return True if a norm is a BatchNorm with all tensors in full precision and on a supported device."""
    if not bypassable(norm, kind):
        return False
    tensors = [*norm.parameters(recurse=False), *norm.buffers(recurse=False)]
    return all(
        type(each) in (Tensor, nn.Parameter)
        and each.device.type in DEVICES
        and each.dtype in (torch.float32, torch.float64, torch.int64)
        for each in tensors
    )
