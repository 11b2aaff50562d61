"""Known blocks with a faster forward pass, that keeps less for the backward pass.

A block becomes ours by its class alone, which overrides `forward` and nothing else: its weights keep their names, it
is still what it was to `isinstance`, and it prints, copies, pickles, loads, compiles and exports as before. Where the
fused form does not apply, see `foveal.fast.conditions`, the block runs the forward of its own class.
"""

from importlib import import_module

from torch import nn

from foveal.fast.gates import gate_of

FAST = {  # by full class name, so that no library is imported for a network that does not use it
    "timm.models.resnet.BasicBlock": "foveal.fast.timm_resnet.BasicBlock",
    "timm.models.resnet.Bottleneck": "foveal.fast.timm_resnet.Bottleneck",
    "torchvision.models.resnet.BasicBlock": "foveal.fast.torchvision_resnet.BasicBlock",
    "torchvision.models.resnet.Bottleneck": "foveal.fast.torchvision_resnet.Bottleneck",
    "foveal.mechanisms.selective_kernel.SelectiveKernel": "foveal.fast.selective_kernels.SelectiveKernel",
    "timm.layers.selective_kernel.SelectiveKernel": "foveal.fast.selective_kernels.TimmSelectiveKernel",
}


def speed_up(model: nn.Module) -> nn.Module:
    """Give each known block of a model that carries a gate, and each selective kernel, its faster forward, in place."""
    for module in model.modules():
        name = FAST.get(f"{type(module).__module__}.{type(module).__qualname__}")
        if name is None or ("resnet" in name and not any(gate_of(child) for child in gates_within(module))):
            continue
        home, _, cls = name.rpartition(".")
        module.__class__ = getattr(import_module(home), cls)
    return model


def gates_within(block: nn.Module) -> list[nn.Module]:
    """The modules of a residual block that may be its gate: those at its end, and those attached to its norms."""
    return [*block.children(), *(child for host in block.children() for child in host.children())]


def give_back(model: nn.Module) -> nn.Module:
    """Give each block the class back that it had before `speed_up`, in place."""
    for module in model.modules():
        if type(module).__module__.startswith(f"{__name__}."):
            module.__class__ = type(module).__mro__[1]
    return model
