"""What a network costs: counted, and measured against others in one process."""

import statistics
import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from foveal.shapes import evaluating

ROUNDS = 9
BATCH = 64


@dataclass(frozen=True)
class Cost:
    parameters: int
    macs: int  # multiplications with addition, of matrices and convolutions, for one image
    milliseconds: float  # for a batch of `BATCH` images, one thread, median


def costs(models: dict[str, nn.Module], shape: tuple[int, int, int]) -> dict[str, Cost]:
    """Parameters, MACs and inference time of each model for images (C, H, W).

    Times are taken in turn, round by round, so that what else happens on the machine meets all alike.
    """
    times = interleaved(models, torch.rand(BATCH, *shape))
    return {
        name: Cost(count_parameters(model), count_macs(model, shape), times[name]) for name, model in models.items()
    }


def count_parameters(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def count_macs(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """MACs for one image (C, H, W). A model on the meta device is counted without computing anything."""
    image = torch.rand(1, *shape, device=next((weight.device for weight in model.parameters()), None))
    with evaluating(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    return counter.get_total_flops() // 2


@torch.no_grad()
def interleaved(models: dict[str, nn.Module], images: torch.Tensor) -> dict[str, float]:
    """Median milliseconds of each model's forward pass, after one to warm up, with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    try:
        for turn in range(ROUNDS + 1):
            for name, model in models.items():
                with evaluating(model):
                    begin = time.perf_counter()
                    model(images)
                    if turn:
                        seconds[name].append(time.perf_counter() - begin)
    finally:
        torch.set_num_threads(threads)
    return {name: 1000 * statistics.median(taken) for name, taken in seconds.items()}
