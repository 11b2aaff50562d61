"""Known blocks with a faster forward pass that saves less for the backward pass.

Only the class of a block changes, and the new class overrides only `forward`: its weights keep their names,
`isinstance` gives the same answers, and it prints, copies, pickles, loads, compiles and exports as before. In
evaluation mode, where a newly attached identity changes no bit of the output, and wherever the fused form does not
apply (`foveal.surgery.fused.conditions`), the block runs the forward of its original class.
"""

from importlib import import_module

from torch import nn

from foveal.surgery.fused.gates import gate_of
from foveal.surgery.fused.swap import original_class

FAST = {  # by full class name, so that a library is imported only for a network that uses it
    "timm.models.resnet.BasicBlock": "foveal.surgery.fused.timm_resnet",
    "timm.models.resnet.Bottleneck": "foveal.surgery.fused.timm_resnet",
    "torchvision.models.resnet.BasicBlock": "foveal.surgery.fused.torchvision_resnet",
    "torchvision.models.resnet.Bottleneck": "foveal.surgery.fused.torchvision_resnet",
    "foveal.mechanisms.selective_kernel.SelectiveKernel": "foveal.surgery.fused.selective_kernel",
    "timm.layers.selective_kernel.SelectiveKernel": "foveal.surgery.fused.timm_selective_kernel",
}


def use_fused_blocks(model: nn.Module) -> nn.Module:
    """Set the faster class of each known block with a gate, and of each selective kernel, in place."""
    for module in model.modules():
        cls = type(module)
        home = FAST.get(f"{cls.__module__}.{cls.__qualname__}")
        if home is not None and (cls.__name__ == "SelectiveKernel" or carries_gate(module)):
            module.__class__ = getattr(import_module(home), cls.__name__)
    return model


def carries_gate(block: nn.Module) -> bool:
    """Return True if a residual block has a gate as a child, or attached to one."""
    inside = [child for part in block.children() for child in (part, *part.children())]
    return any(gate_of(child) is not None for child in inside)


def restore_blocks(model: nn.Module) -> nn.Module:
    """Restore the class that each block had before `use_fused_blocks`, in place."""
    for module in model.modules():
        if type(module).__module__ in FAST.values():
            module.__class__ = original_class(module)
    return model
