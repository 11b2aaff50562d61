"""Benchmark of forward and backward passes of blocks and networks with attention: time and saved bytes."""

from collections.abc import Iterator
from functools import partial
from itertools import product

import timm
import torch
from timm.layers import SelectiveKernel as TimmSelectiveKernel
from timm.layers import SEModule
from torch import Tensor, nn

from benchmarks.measuring import Case, Count, Goal, learning
from benchmarks.others import BATCH, LAYOUTS, STAGES
from foveal.mechanisms.selective_kernel import SelectiveKernel
from foveal.mechanisms.squeeze_excite import SqueezeExcite
from foveal.networks.factory import create_model
from foveal.profiling.costs import own_tensors, peak_bytes, saved_bytes
from foveal.surgery.fused.block_end import fused, fuses
from foveal.surgery.fused.fused_blocks import use_fused_blocks

IMAGE = 160
NETWORKS = {  # name: timm's network, the plain network, goal in saved bytes and its contender, goal in time
    "seresnet50": ("seresnet50", "resnet50", (1.02, "plain"), 1.02),
    "sknet50": ("skresnext50_32x4d", "resnext50_32x4d", (0.75, "timm"), 0.90),
}


class Tail(nn.Module):
    """End of timm's residual block, with or without attention."""

    def __init__(self, channels: int, se: nn.Module | None):
        super().__init__()
        self.norm, self.se, self.act = nn.BatchNorm2d(channels), se, nn.ReLU(inplace=True)

    def forward(self, c: Tensor, shortcut: Tensor) -> Tensor:
        x = self.norm(c)
        if self.se is not None:
            x = self.se(x)
        x += shortcut
        return self.act(x)


def fused_tail(block: Tail, c: Tensor, shortcut: Tensor) -> Tensor:
    """Run the fused form of a block's end, as in foveal's fused blocks.

    Raises:
        RuntimeError: If the fused form does not apply.
    """
    if not fuses(c, block.norm, block.se, block.act):
        raise RuntimeError("the fused form does not apply to this block")
    return fused(c, block.norm, block.se, shortcut)


def tails() -> Iterator[Case | Count]:
    """Yield BatchNorm, squeeze-and-excitation, addition and ReLU at each stage of ResNet-50."""
    for (channels, side), (layout, memory_format) in product(STAGES, LAYOUTS.items()):
        maps = [torch.randn(BATCH, channels, side, side).to(memory_format=memory_format) for _ in range(2)]
        c, shortcut = (each.requires_grad_() for each in maps)
        gates = {
            "ours": SqueezeExcite(channels),
            "timm": SEModule(channels),
            "no attention": None,
        }
        blocks = {name: Tail(channels, gate) for name, gate in gates.items()}
        ours = blocks["ours"]
        passes = {name: partial(block, c, shortcut) for name, block in blocks.items()}
        passes["ours"] = partial(fused_tail, ours, c, shortcut)
        runs = {name: learning(passes[name], [c, shortcut, *block.parameters()]) for name, block in blocks.items()}
        goals = [Goal("ours", "timm", 0.90), *(Goal("ours", name) for name in [*gates][2:])]
        name = f"BN + SE + add + ReLU {BATCH}x{channels}x{side}x{side} {layout}"
        yield Case(f"{name}, training", runs, goals)
        saved = {key: saved_bytes(each, own_tensors(blocks[key])) for key, each in passes.items()}
        yield Count(f"{name}, saved", "bytes", saved, [Goal("ours", key) for key in ("timm", "no attention")])


def kernels() -> Iterator[Case | Count]:
    """Yield a selective kernel with 32 groups at each stage of ResNeXt-50."""
    for (channels, side), (layout, memory_format) in product(STAGES, LAYOUTS.items()):
        width = channels // 2
        x = torch.randn(BATCH, width, side, side).to(memory_format=memory_format).requires_grad_()
        modules = {
            "ours": use_fused_blocks(SelectiveKernel(width)),
            "timm": TimmSelectiveKernel(width, groups=32, split_input=False, rd_divisor=32),
        }
        modules = {name: module.to(memory_format=memory_format) for name, module in modules.items()}
        passes = {name: partial(module, x) for name, module in modules.items()}
        runs = {name: learning(passes[name], [x, *module.parameters()]) for name, module in modules.items()}
        name = f"SK unit {BATCH}x{width}x{side}x{side} {layout}"
        yield Case(f"{name}, training", runs, [Goal("ours", other) for other in [*modules][1:]])
        saved = {key: saved_bytes(each, own_tensors(modules[key])) for key, each in passes.items()}
        yield Count(f"{name}, saved", "bytes", saved, [Goal("ours", "timm")])


def networks() -> Iterator[Case | Count]:
    """Yield networks at initialization: ours, timm's with attention, the plain network."""
    for (name, what), (layout, memory_format) in product(NETWORKS.items(), LAYOUTS.items()):
        timms, plain, (fewer, beside), sooner = what
        models = {"ours": create_model(name), "timm": timm.create_model(timms), "plain": timm.create_model(plain)}
        models = {key: model.train().to(memory_format=memory_format) for key, model in models.items()}
        images = torch.randn(BATCH, 3, IMAGE, IMAGE).to(memory_format=memory_format)
        passes = {key: partial(model, images) for key, model in models.items()}
        runs = {key: learning(passes[key], [*model.parameters()]) for key, model in models.items()}
        case = f"{name} {BATCH}x3x{IMAGE}x{IMAGE} {layout}"
        others = [*models][1:]
        saved = {key: saved_bytes(each, own_tensors(models[key])) for key, each in passes.items()}
        goals = [Goal("ours", other, fewer if other == beside else None) for other in others]
        yield Count(f"{case}, saved", "bytes", saved, goals)
        peaks = {key: peak_bytes(model, images) for key, model in models.items()}
        yield Count(f"{case}, peak", "bytes", peaks, [Goal("ours", other) for other in others])
        goals = [Goal("ours", other, sooner if other == "timm" else None) for other in others]
        yield Case(f"{case}, training", runs, goals)
