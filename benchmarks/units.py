"""Benchmark of single mechanisms at inference, at every stage of a ResNet-50.

For in-place forms, the gates are 1, so that the feature map does not vanish over repeated calls.
"""

from collections.abc import Iterator
from functools import partial
from itertools import product

import torch
from timm.layers import SelectiveKernel as TimmSelectiveKernel
from timm.layers import SEModule
from timm.layers.cbam import CbamModule
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from benchmarks.measuring import Case, Goal, Run
from benchmarks.others import BATCH, LAYOUTS, STAGES
from foveal.deployment.deploy import deploy
from foveal.mechanisms.cbam import CBAM
from foveal.mechanisms.selective_kernel import SelectiveKernel
from foveal.mechanisms.squeeze_excite import SqueezeExcite


def units() -> Iterator[Case]:
    """Yield SE, CBAM and SK at every stage and in both memory formats."""
    for (channels, side), (layout, memory_format) in product(STAGES, LAYOUTS.items()):
        x = torch.rand(BATCH, channels, side, side).to(memory_format=memory_format)
        shape = f"{BATCH}x{channels}x{side}x{side} {layout}"
        yield squeeze_excite(shape, x)
        yield cbam(shape, x)
        half = torch.rand(BATCH, channels // 2, side, side).to(memory_format=memory_format)
        yield selective_kernel(f"{BATCH}x{channels // 2}x{side}x{side} {layout}", half, layout)


def squeeze_excite(shape: str, x: Tensor) -> Case:
    """Compare squeeze-and-excitation with timm's and torchvision's."""
    channels, own = x.shape[1], x.clone(memory_format=torch.preserve_format)
    ours = SqueezeExcite(channels).eval()
    open_gates(ours)
    others = {
        "timm": SEModule(channels),
        "torchvision": SqueezeExcitation(channels, channels // 16),
    }
    runs = {"ours": partial(ours, x), "ours in place": partial(ours.forward_, own)}
    runs |= {name: partial(module.eval(), x) for name, module in others.items()}
    goals = [Goal("ours in place", "timm", 0.70), Goal("ours", "timm")]
    goals += [Goal("ours in place", name) for name in others if name != "timm"]
    return Case(f"SE unit {shape}", {name: without_gradients(run) for name, run in runs.items()}, goals)


def cbam(shape: str, x: Tensor) -> Case:
    """Compare CBAM with timm's."""
    channels, own = x.shape[1], x.clone(memory_format=torch.preserve_format)
    ours = CBAM(channels).eval()
    open_gates(ours)
    runs = {
        "ours": partial(ours, x),
        "ours in place": partial(ours.forward_, own),
        "timm": partial(CbamModule(channels).eval(), x),
    }
    goal = 0.85 if x.shape[2] >= 28 else 0.95
    goals = [Goal("ours", "timm", goal), Goal("ours in place", "timm")]
    return Case(f"CBAM {shape}", {name: without_gradients(run) for name, run in runs.items()}, goals)


def selective_kernel(shape: str, x: Tensor, layout: str) -> Case:
    """Compare a selective kernel with timm's and with its two convolutions alone."""
    channels = x.shape[1]
    ours = SelectiveKernel(channels).eval().to(memory_format=LAYOUTS[layout])
    deployed = deploy(nn.Sequential(ours), x[:, :, :14, :14], channels_last=layout == "channels last").network
    convolutions = [module for module in ours.modules() if isinstance(module, nn.Conv2d)]
    modules = {
        "ours": ours,
        "ours deployed": deployed,
        "timm": TimmSelectiveKernel(channels, groups=32, split_input=False, rd_divisor=32),
    }
    for module in modules.values():
        module.eval().to(memory_format=LAYOUTS[layout])
    runs: dict[str, Run] = {name: partial(module, x) for name, module in modules.items()}
    runs["two convolutions"] = lambda: [conv(x) for conv in convolutions]
    goals = [Goal("ours deployed", "timm", 0.75 if layout == "contiguous" else 0.45), Goal("ours", "timm")]
    goals += [Goal("ours deployed", name) for name in runs if name not in ("ours", "ours deployed", "timm")]
    return Case(f"SK unit {shape}", {name: without_gradients(run) for name, run in runs.items()}, goals)


def open_gates(module: nn.Module) -> None:
    """Set parameters so that all gates are 1 for every input."""
    for name, weight in module.named_parameters():
        if name.endswith(("fc2.bias", "norm.bias")):
            nn.init.constant_(weight, 40.0)
        elif name.endswith(("fc2.weight", "norm.weight")):
            nn.init.zeros_(weight)


def without_gradients(run: Run) -> Run:
    """Wrap a function in `torch.no_grad`."""
    return torch.no_grad()(run)
