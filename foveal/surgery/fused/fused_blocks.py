"""Known blocks with a faster forward pass, that keeps less for the backward pass.

A block becomes ours by its class alone, which overrides `forward` and nothing else: its weights keep their names, it
is still what it was to `isinstance`, and it prints, copies, pickles, loads, compiles and exports as before. In
evaluation, where an attention that was just attached changes no bit of the answer, and wherever the fused form does not
apply (`foveal.surgery.fused.conditions`), the block runs the forward of its own class.
"""

from importlib import import_module

from torch import nn

from foveal.surgery.fused.gates import gate_of
from foveal.surgery.fused.swap import original_class

FAST = {  # by full class name, so that no library is imported for a network that does not use it
    "timm.models.resnet.BasicBlock": "foveal.surgery.fused.timm_resnet",
    "timm.models.resnet.Bottleneck": "foveal.surgery.fused.timm_resnet",
    "torchvision.models.resnet.BasicBlock": "foveal.surgery.fused.torchvision_resnet",
    "torchvision.models.resnet.Bottleneck": "foveal.surgery.fused.torchvision_resnet",
    "foveal.mechanisms.selective_kernel.SelectiveKernel": "foveal.surgery.fused.selective_kernel",
    "timm.layers.selective_kernel.SelectiveKernel": "foveal.surgery.fused.timm_selective_kernel",
}


def use_fused_blocks(model: nn.Module) -> nn.Module:
    """Give each known block of a model that carries a gate, and each selective kernel, its faster forward, in place."""
    for module in model.modules():
        made = type(module)
        home = FAST.get(f"{made.__module__}.{made.__qualname__}")
        if home is not None and (made.__name__ == "SelectiveKernel" or carries_gate(module)):
            module.__class__ = getattr(import_module(home), made.__name__)
    return model


def carries_gate(block: nn.Module) -> bool:
    """Whether a residual block has a gate as a child, or attached to one."""
    inside = [child for part in block.children() for child in (part, *part.children())]
    return any(gate_of(child) is not None for child in inside)


def restore_blocks(model: nn.Module) -> nn.Module:
    """Give each block the class back that it had before `use_fused_blocks`, in place."""
    for module in model.modules():
        if type(module).__module__ in FAST.values():
            module.__class__ = original_class(module)
    return model
