"""What training squeeze-and-excitation and selective kernels costs, beside timm's own: time of a step and bytes kept.

    python benchmarks/training.py [--part tails|units|networks] [--rounds N] [--json FILE]

One thread, float32, CPU time of the process, contestants in turn in every round. A ratio is the median over rounds of
one contestant's time over the other's in the same round, with the quartiles beside it. Bytes are those of the distinct
storages that autograd keeps for the backward pass, weights left out; they are the same in every run. Large fresh
tensors cost page faults, so the settings of malloc are printed: with MALLOC_MMAP_THRESHOLD_=1073741824 and
MALLOC_TRIM_THRESHOLD_=4294967296 freed memory is used again, as in a long run of a caching allocator.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product

import timm
import torch
from timm.layers import SelectiveKernel, SEModule
from torch import Tensor, nn

import foveal
from foveal.costs import saved_bytes
from foveal.fast import speed_up
from foveal.fast.tails import fused
from foveal.mechanisms.squeeze_excite import SqueezeExcite

SHAPES = ((256, 56), (512, 28), (1024, 14), (2048, 7))
BATCH = 8
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Contestant:
    """A forward pass, what it gives being differentiated, and everything that gets a gradient by it."""

    step: Callable[[], Tensor]
    leaves: list[Tensor]

    @classmethod
    def of(cls, module: nn.Module, *inputs: Tensor, step: Callable[[], Tensor] | None = None) -> "Contestant":
        return cls(step or (lambda: module(*inputs)), [*module.parameters(), *inputs])

    @property
    def weights(self) -> list[Tensor]:
        return [leaf for leaf in self.leaves if isinstance(leaf, nn.Parameter)]


@dataclass(frozen=True)
class Row:
    """One contestant beside another."""

    what: str
    layout: str
    beside: str
    time: float  # median of the ratios
    low: float  # their quartiles
    high: float
    kept: float  # ratio of bytes
    milliseconds: float
    megabytes: float


def measured(contestants: dict[str, Contestant], rounds: int) -> dict[str, list[float]]:
    """Seconds of CPU time of each forward and backward pass, in turn."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, contestant in contestants.items():
            for leaf in contestant.leaves:
                leaf.grad = None
            start = time.process_time()
            out = contestant.step()
            out.backward(torch.ones_like(out))
            if turn:  # the first warms up
                times[name].append(time.process_time() - start)
            del out
    return times


def compared(what: str, layout: str, contestants: dict[str, Contestant], rounds: int) -> Iterator[Row]:
    """The contestant "ours" beside each of the others."""
    times = measured(contestants, rounds)
    kept = {name: saved_bytes(each.step, each.weights) for name, each in contestants.items()}
    for other in contestants:
        if other == "ours":
            continue
        ratios = [mine / theirs for mine, theirs in zip(times["ours"], times[other], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        milliseconds, megabytes = statistics.median(times["ours"]) * 1e3, kept["ours"] / 1e6
        yield Row(what, layout, other, middle, low, high, kept["ours"] / kept[other], milliseconds, megabytes)


class Tail(nn.Module):
    """The end of timm's residual block, as it stands there, with and without attention."""

    def __init__(self, channels: int, se: nn.Module | None):
        super().__init__()
        self.norm, self.se, self.act = nn.BatchNorm2d(channels), se, nn.ReLU(inplace=True)

    def forward(self, c: Tensor, shortcut: Tensor) -> Tensor:
        x = self.norm(c)
        if self.se is not None:
            x = self.se(x)
        x += shortcut
        return self.act(x)


def tails(rounds: int) -> Iterator[Row]:
    """BatchNorm, squeeze-and-excitation, addition and ReLU, forward and backward, at each stage of ResNet-50."""
    for (channels, size), (layout, memory_format) in product(SHAPES, FORMATS.items()):
        maps = [torch.randn(BATCH, channels, size, size).contiguous(memory_format=memory_format) for _ in range(2)]
        c, r = (each.requires_grad_() for each in maps)
        ours, theirs, none = (Tail(channels, se) for se in (SqueezeExcite(channels), SEModule(channels), None))
        contestants = {
            "ours": Contestant.of(ours, c, r, step=partial(fused, c, ours.norm, ours.se, r)),
            "timm": Contestant.of(theirs, c, r),
            "timm's, ours around it": Contestant.of(theirs, c, r, step=partial(fused, c, theirs.norm, theirs.se, r)),
            "no attention": Contestant.of(none, c, r),
        }
        yield from compared(f"BN + SE + add + ReLU, {BATCH}x{channels}x{size}x{size}", layout, contestants, rounds)


def units(rounds: int) -> Iterator[Row]:
    """A selective kernel of 32 groups, forward and backward, at each stage of ResNeXt-50, beside timm's."""
    for (channels, size), (layout, memory_format) in product(SHAPES, FORMATS.items()):
        width = channels // 2
        x = torch.randn(BATCH, width, size, size).contiguous(memory_format=memory_format).requires_grad_()
        ours = speed_up(foveal.mechanisms.selective_kernel.SelectiveKernel(width))
        theirs = SelectiveKernel(width, groups=32, split_input=False, rd_divisor=32)
        pair = {"ours": ours, "timm": theirs}
        contestants = {name: Contestant.of(unit.to(memory_format=memory_format), x) for name, unit in pair.items()}
        yield from compared(f"SK unit, {BATCH}x{width}x{size}x{size}", layout, contestants, rounds)


NETWORKS = {"seresnet50": ("resnet50", "seresnet50"), "sknet50": ("resnext50_32x4d", "skresnext50_32x4d")}
IMAGE = 160


def networks(rounds: int) -> Iterator[Row]:
    """Whole networks at birth, images of 160 pixels: ours, timm's with attention, the plain one."""
    for (name, others), (layout, memory_format) in product(NETWORKS.items(), FORMATS.items()):
        models = {"ours": foveal.create_model(name), **{f"timm {other}": timm.create_model(other) for other in others}}
        images = torch.randn(BATCH, 3, IMAGE, IMAGE).contiguous(memory_format=memory_format)
        contestants = {}
        for key, model in models.items():
            model.train().to(memory_format=memory_format)
            contestants[key] = Contestant(partial(model, images), [*model.parameters()])
        yield from compared(f"{name}, {BATCH}x3x{IMAGE}x{IMAGE}", layout, contestants, rounds)


PARTS = {"tails": tails, "units": units, "networks": networks}


def main() -> None:
    parser = argparse.ArgumentParser(description="What training attention costs.")
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    malloc = {key: value for key, value in os.environ.items() if key.startswith("MALLOC_")}
    print("# What training attention costs\n")
    print(f"torch {torch.__version__}, timm {timm.__version__}, one thread, {given.rounds} rounds, malloc: ", end="")
    print(", ".join(f"{key}={value}" for key, value in malloc.items()) or "as it comes", end="\n\n")
    print("| what | layout | beside | time ratio | quartiles | bytes kept ratio | ms | MB kept |")
    print("| --- | --- | --- | ---: | --- | ---: | ---: | ---: |")
    rows = []
    for name, part in PARTS.items():
        if given.part in (None, name):
            for row in part(given.rounds):
                rows.append(row)
                print(
                    f"| {row.what} | {row.layout} | {row.beside} | {row.time:.2f} | {row.low:.2f} to {row.high:.2f} "
                    f"| {row.kept:.3f} | {row.milliseconds:.1f} | {row.megabytes:.1f} |",
                    flush=True,
                )
    if given.json:
        with open(given.json, "w") as file:
            json.dump(
                {"torch": torch.__version__, "malloc": malloc, "rows": [asdict(row) for row in rows]}, file, indent=1
            )


if __name__ == "__main__":
    main()
