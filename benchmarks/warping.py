"""Benchmark of sampling grids and of warping digits, images and deep feature maps: inference and training."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measuring import Case, Goal, Run, learning
from benchmarks.others import LAYOUTS
from foveal.ops.geometry import affine_grid, sample

DIGITS = (64, 1, 28)
SHAPES = (DIGITS, (32, 3, 224), (8, 16, 56), (8, 64, 56), (8, 128, 56), (8, 256, 56), (8, 512, 28), (8, 1024, 14))
DEEP = 64  # minimum channels of a deep feature map


def warps() -> Iterator[Case]:
    """Yield grids and warps against PyTorch's functions."""
    for batch, side in dict.fromkeys((batch, side) for batch, _, side in SHAPES):
        theta = thetas(batch)
        runs = {
            "ours": partial(affine_grid, theta, side, side),
            "F.affine_grid": partial(F.affine_grid, theta, [batch, 1, side, side], align_corners=False),
        }
        goals = [Goal("ours", "F.affine_grid", 0.50)]
        yield Case(f"grid {batch}x{side}x{side}", runs, goals)
    for shape, learns, (layout, memory_format) in product(SHAPES, (False, True), LAYOUTS.items()):
        batch, channels, side = shape
        if channels == 1 and layout != "contiguous":  # both formats are the same for one channel
            continue
        x = torch.rand(batch, channels, side, side).to(memory_format=memory_format)
        theta = thetas(batch)
        warped = {"ours": warping(ours, x, theta, learns), "torch": warping(theirs, x, theta, learns)}
        goals = [Goal("ours", "torch", goal_for(shape, learns))]
        what = "training" if learns else "inference"
        yield Case(f"warp {batch}x{channels}x{side}x{side} {layout}, {what}", warped, goals)


def goal_for(shape: tuple[int, int, int], learns: bool) -> float | None:
    """Return the goal of a shape, in training if `learns`."""
    if shape == DIGITS:
        return 0.75 if learns else 0.50
    if shape[1] >= DEEP:
        return 0.65 if learns else 0.40
    return None


def thetas(batch: int) -> Tensor:
    """Draw random transforms near the identity, similar to trained ones."""
    return torch.eye(2, 3) + 0.2 * torch.randn(batch, 2, 3)


def ours(x: Tensor, theta: Tensor) -> Tensor:
    """Warp with foveal's functions."""
    return sample(x, affine_grid(theta, *x.shape[2:]), padding=0.0)


def theirs(x: Tensor, theta: Tensor) -> Tensor:
    """Warp with PyTorch's functions."""
    return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)


def warping(warp: Callable[[Tensor, Tensor], Tensor], x: Tensor, theta: Tensor, learns: bool) -> Run:
    """Return a function that warps copies of the inputs, with the backward pass if `learns`."""
    inputs = [each.clone(memory_format=torch.preserve_format).requires_grad_(learns) for each in (x, theta)]
    run = partial(warp, *inputs)
    return learning(run, inputs) if learns else torch.no_grad()(run)
