"""Timing of calls in turn, round by round, in one process: other load on the machine affects all of them alike."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from foveal.core.trial_pass import eval_mode

ROUNDS = 9


def time_inference(models: Mapping[str, nn.Module], images: Tensor, threads: int = 1) -> dict[str, float]:
    """Return the median milliseconds of each model's forward pass, in evaluation mode without gradients."""
    with ExitStack() as stack, torch.no_grad():
        for model in models.values():
            stack.enter_context(eval_mode(model))
        return time_calls({name: partial(model, images) for name, model in models.items()}, images.device, threads)


def time_calls(calls: Mapping[str, Callable[[], Any]], device: torch.device, threads: int = 1) -> dict[str, float]:
    """Return the median milliseconds of each call over `ROUNDS` rounds, after one warm-up round."""
    milliseconds: dict[str, list[float]] = {name: [] for name in calls}
    with using_threads(threads):
        for turn in range(ROUNDS + 1):
            for name, call in calls.items():
                begin = now(device)
                call()
                if turn:
                    milliseconds[name].append(1000 * (now(device) - begin))
    return {name: statistics.median(times) for name, times in milliseconds.items()}


def now(device: torch.device) -> float:
    """Return the time in seconds, after all work queued on the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Set the number of torch's threads within the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
