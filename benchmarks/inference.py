"""How fast attention is at inference, beside timm's, torchvision's, the note's code and a network without attention.

    python benchmarks/inference.py --output benchmarks/inference           # writes .md and .json
    python benchmarks/inference.py --only units --rounds 5

Everything that is compared runs in one process, in turn, round after round; a ratio is the median of the rounds' own
ratios, with the range of its middle half. Times are CPU time of the process, so that another process's work counts
little, though memory and caches are shared. `--wall` takes wall time instead, for two threads. A fresh map costs page
faults, so the allocator's settings are stated: give MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967296
for a run without them.

Weights are random. Where a map is weighed in place, gates are one, so that it does not fade.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from timm.layers import SelectiveKernel as TimmSelectiveKernel
from timm.layers import SEModule
from timm.layers.cbam import CbamModule
from torch import Tensor, nn
from torch.nn import functional as F

import foveal
from foveal.geometry import affine_grid, sample
from foveal.mechanisms import CBAM, SelectiveKernel, SqueezeExcite

BATCH = 8
STAGES = ((256, 56), (512, 28), (1024, 14), (2048, 7))
WARPS = ((32, 3, 224), (8, 16, 56), (8, 64, 56), (8, 128, 56), (8, 256, 56), (8, 512, 28), (8, 1024, 14))
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
Run = Callable[[], Any]
Case = tuple[str, dict[str, Run], list[tuple[str, str, float | None]]]  # name, contenders, (ours, theirs, goal)


def note_code(path: Path) -> Any:
    """The study note's code, where it is present."""
    if not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location("note_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def saturated(module: nn.Module) -> nn.Module:
    """With gates of one."""
    for name, weight in module.named_parameters():
        if name.endswith("fc2.bias"):
            nn.init.constant_(weight, 40.0)
        elif name.endswith("fc2.weight"):
            nn.init.zeros_(weight)
    return module


def units(note: Any) -> Iterator[Case]:
    """One unit on a map, at every stage of a ResNet-50."""
    for channels, side in STAGES:
        for layout, memory_format in LAYOUTS.items():
            x = torch.rand(BATCH, channels, side, side).to(memory_format=memory_format)
            own = x.clone(memory_format=torch.preserve_format)
            shape = f"{channels}x{side}x{side} {layout}"
            ours, theirs = saturated(SqueezeExcite(channels)).eval(), SEModule(channels).eval()
            tv = torchvision.ops.SqueezeExcitation(channels, channels // 16).eval()
            runs = {
                "ours": lambda m=ours, x=x: m(x),
                "ours in place": lambda m=ours, x=own: m.overwrite(x),
                "timm": lambda m=theirs, x=x: m(x),
                "torchvision": lambda m=tv, x=x: m(x),
            }
            if note is not None and hasattr(note, "SELayer"):
                layer = note.SELayer(channels).eval()
                runs["note"] = lambda m=layer, x=x: m(x)
            yield f"se {shape}", runs, [("ours in place", "timm", 0.70), ("ours", "timm", None)]
            cbam, timms = CBAM(channels).eval(), CbamModule(channels).eval()
            runs = {"ours": lambda m=cbam, x=x: m(x), "timm": lambda m=timms, x=x: m(x)}
            yield f"cbam {shape}", runs, [("ours", "timm", 0.85 if side >= 28 else 0.95)]
            half = channels // 2
            x = torch.rand(BATCH, half, side, side).to(memory_format=memory_format)
            sk = SelectiveKernel(half).eval()
            folded = foveal.deploy(
                nn.Sequential(sk), x[:, :, : min(side, 14), : min(side, 14)], channels_last=layout == "channels last"
            ).network
            timms = TimmSelectiveKernel(half, groups=32).eval()
            conv = nn.Sequential(nn.Conv2d(half, half, 3, padding=1, groups=32), nn.ReLU()).eval()
            runs = {
                "ours": lambda m=sk, x=x: m(x),
                "ours deployed": lambda m=folded, x=x: m(x),
                "timm": lambda m=timms, x=x: m(x),
                "one convolution": lambda m=conv, x=x: m(x),
            }
            goal = 0.75 if layout == "contiguous" else 0.45
            yield (
                f"sk {half}x{side}x{side} {layout}",
                runs,
                [("ours deployed", "timm", goal), ("ours", "timm", None), ("ours deployed", "one convolution", None)],
            )


def warps() -> Iterator[Case]:
    """Grids, and the warp of digits, of images and of deep maps; forward alone, and with the backward pass."""
    for batch, channels, side in ((64, 1, 28), *WARPS):
        theta = torch.eye(2, 3) + 0.2 * torch.randn(batch, 2, 3)
        shape = f"{batch}x{channels}x{side}x{side}"
        grids = {
            "ours": lambda t=theta, s=side: affine_grid(t, s, s),
            "F.affine_grid": lambda t=theta, s=side, b=batch: F.affine_grid(t, (b, 1, s, s), align_corners=False),
        }
        if not channels > 64 or side != 56:  # the same grid again
            yield f"grid {batch}x{side}x{side}", grids, [("ours", "F.affine_grid", 0.50)]
        layout = "channels last" if channels >= 64 else "contiguous"
        x = torch.rand(batch, channels, side, side).to(memory_format=LAYOUTS[layout])
        deep, digits = channels >= 64, channels == 1
        for what, learns in (("inference", False), ("training", True)):
            goal = (0.65 if deep else 0.75) if learns else (0.40 if deep else 0.50)
            runs = {
                "ours": warping(ours_warp, x, theta, learns),
                "affine_grid + grid_sample": warping(theirs_warp, x, theta, learns),
                "theirs, kept channels last": warping(theirs_in_layout, x, theta, learns),
            }
            ratios = [("ours", "affine_grid + grid_sample", goal if deep or digits else None)]
            more = [("ours", "theirs, kept channels last", None)] if deep else []
            yield f"warp {shape} {layout}, {what}", runs, ratios + more


def ours_warp(x: Tensor, theta: Tensor) -> Tensor:
    return sample(x, affine_grid(theta, *x.shape[2:]), padding=0.0)


def theirs_warp(x: Tensor, theta: Tensor) -> Tensor:
    return F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=False), align_corners=False)


def theirs_in_layout(x: Tensor, theta: Tensor) -> Tensor:
    layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    return theirs_warp(x, theta).contiguous(memory_format=layout)


def warping(warp: Callable[[Tensor, Tensor], Tensor], x: Tensor, theta: Tensor, learns: bool) -> Run:
    given = [x.clone(memory_format=torch.preserve_format).requires_grad_(learns), theta.clone().requires_grad_(learns)]

    def run() -> Any:
        with torch.set_grad_enabled(learns):
            out = warp(*given)
            return torch.autograd.grad(out.sum(), given) if learns else out

    return run


def networks(note: Any) -> Iterator[Case]:
    """Whole networks on images of 224, as they are and deployed."""
    images = torch.randn(BATCH, 3, 224, 224)
    small = images[:2, :, :64, :64]
    for name, timms, backbone, goals in (
        ("seresnet50", "seresnet50", "resnet50", (0.70, 0.40, 1.05)),
        ("sknet50", "skresnext50_32x4d", "resnext50_32x4d", (0.70, 0.38, 1.20)),
    ):
        ours, theirs, plain = foveal.create_model(name), timm.create_model(timms), timm.create_model(backbone)
        half = foveal.deploy(ours, small, dtype=torch.bfloat16, tolerance=0.2).network
        models = {
            "ours": ours.eval(),
            "ours deployed": foveal.deploy(ours, small).network,
            "ours deployed, bfloat16": half,
            "timm": theirs.eval(),
            "plain deployed": foveal.deploy(plain, small).network,
        }
        if note is not None and hasattr(note, "SKNet50") and name == "sknet50":
            models["note"] = note.SKNet50().eval()
        f32, bf16, over_plain = goals
        yield (
            f"{name} {BATCH}x3x224x224",
            {key: lambda m=model: m(images) for key, model in models.items()},
            [
                ("ours deployed", "timm", f32),
                ("ours deployed, bfloat16", "timm", bf16),
                ("ours deployed", "plain deployed", over_plain),
                ("ours", "timm", None),
            ],
        )


def measure(runs: dict[str, Run], rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Milliseconds of each in every round, after two that warm up."""
    found: dict[str, list[float]] = {key: [] for key in runs}
    for turn in range(rounds + 2):
        for key, run in runs.items():
            start = clock()
            run()
            if turn > 1:
                found[key].append(1e3 * (clock() - start))
    return found


def summary(name: str, threads: int, found: dict[str, list[float]], asked: list[tuple[str, str, float | None]]) -> dict:
    ratios = []
    for ours, theirs, goal in asked:
        each = sorted(a / b for a, b in zip(found[ours], found[theirs], strict=True))
        quarter = len(each) // 4
        ratios.append(
            {
                "ours": ours, "theirs": theirs, "goal": goal, "ratio": statistics.median(each),
                "from": each[quarter], "to": each[-1 - quarter],
            }
        )  # fmt: skip
    medians = {key: statistics.median(each) for key, each in found.items()}
    return {"case": name, "threads": threads, "ms": medians, "ratios": ratios}


def facts(arguments: argparse.Namespace, note: Any) -> dict[str, Any]:
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": cpu[0].partition(": ")[2] if cpu else platform.processor(),
        "bfloat16": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "torchvision": torchvision.__version__,
        "malloc": {key: value for key, value in os.environ.items() if key.startswith("MALLOC_")} or "defaults",
        "load average": os.getloadavg()[0],
        "time": "wall" if arguments.wall else "CPU time of the process",
        "rounds": arguments.rounds,
        "the note's code": "measured" if note is not None else "not present, left out",
    }


def markdown(about: dict[str, Any], rows: list[dict]) -> str:
    lines = ["# Inference: ratios of time, below one is faster", ""]
    lines += [f"{key}: {value}  " for key, value in about.items()]
    lines += [
        "",
        "| case | threads | ours | against | ratio | middle half | goal | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for each in row["ratios"]:
            goal = each["goal"]
            reached = "" if goal is None else "reached" if each["ratio"] <= goal else "**not reached**"
            ms = f"{row['ms'][each['ours']]:.3g} ms", f"{row['ms'][each['theirs']]:.3g} ms"
            lines.append(
                f"| {row['case']} | {row['threads']} | {each['ours']}, {ms[0]} | {each['theirs']}, {ms[1]} "
                f"| {each['ratio']:.2f} | {each['from']:.2f} to {each['to']:.2f} | {goal or ''} | {reached} |"
            )
    return "\n".join(lines) + "\n"


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/inference"))
    parser.add_argument("--only", choices=("units", "warps", "networks"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--wall", action="store_true")
    parser.add_argument("--note", type=Path, default=Path("note/reference.py"), help="the study note's code")
    arguments = parser.parse_args()
    note = note_code(arguments.note)
    clock = time.perf_counter if arguments.wall else time.process_time
    torch.manual_seed(0)
    about, rows = facts(arguments, note), []
    groups = {"units": lambda: units(note), "warps": warps, "networks": lambda: networks(note)}
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for group, cases in groups.items():
            if arguments.only in (None, group):
                for name, runs, asked in cases():
                    rows.append(summary(name, threads, measure(runs, arguments.rounds, clock), asked))
                    print(markdown({}, rows[-1:]).splitlines()[4:], flush=True)
    arguments.output.with_suffix(".json").write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    arguments.output.with_suffix(".md").write_text(markdown(about, rows))
    print(arguments.output.with_suffix(".md"))


if __name__ == "__main__":
    main()
