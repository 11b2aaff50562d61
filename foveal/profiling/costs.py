"""What a network costs: counted, and measured against others in one process.

Times are taken in turn, round by round, so that what else happens on the machine meets all alike; with one thread,
as the runs of a comparison have it. Memory is that of live tensors: what an operator takes and gives back while it runs
is not counted.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from foveal.core.trial_pass import eval_mode
from foveal.profiling.timing import time_calls, time_inference

BATCH = 64


@dataclass(frozen=True)
class Cost:
    """Of one network; times in milliseconds, medians."""

    parameters: int
    macs: int  # multiplications with addition, of matrices and convolutions, for one image
    single: float  # ms, inference, one image
    batch: float  # ms, inference, a batch of `BATCH`
    step: float  # ms, a training step without the optimizer's
    saved: int  # bytes that a training step saves for its backward pass, weights apart
    peak: int  # bytes of live tensors at the height of a training step, the network's own among them


def costs(
    models: dict[str, nn.Module],
    shape: tuple[int, int, int],
    batch_size: int = 32,
    layout: torch.memory_format = torch.contiguous_format,
) -> dict[str, Cost]:
    """What each model costs for images (C, H, W) in a memory layout; `batch_size` is that of training."""
    device = next((weight.device for model in models.values() for weight in model.parameters()), torch.device("cpu"))
    training, answering = (
        torch.rand(count, *shape, device=device).contiguous(memory_format=layout) for count in (batch_size, BATCH)
    )
    copies = {name: copy.deepcopy(model).train() for name, model in models.items()}
    single, batch = (time_inference(models, images) for images in (answering[:1], answering))
    step = time_calls({name: partial(backward, model, training) for name, model in copies.items()}, device)
    return {
        name: Cost(
            count_parameters(model),
            count_macs(model, shape),
            single[name],
            batch[name],
            step[name],
            saved_bytes(partial(loss_of, copies[name], training), own_tensors(copies[name])),
            peak_bytes(copies[name], training),
        )
        for name, model in models.items()
    }


def count_parameters(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def count_macs(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """MACs for one image (C, H, W). A model on the meta device is counted without computing anything."""
    image = torch.rand(1, *shape, device=next((weight.device for weight in model.parameters()), None))
    with eval_mode(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    return counter.get_total_flops() // 2


def loss_of(model: nn.Module, images: Tensor) -> Tensor:
    """The loss for labels of the first class; of a network that says its own, its own."""
    outputs = model(images)
    labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
    own = getattr(model, "loss", None)
    return own(outputs, labels, F.cross_entropy) if own else F.cross_entropy(outputs, labels)


def backward(model: nn.Module, images: Tensor) -> None:
    model.zero_grad()
    loss_of(model, images).backward()


def saved_bytes(forward: Callable[[], Tensor], apart: Iterable[Tensor]) -> int:
    """Bytes that a forward pass keeps for the backward pass; each storage once, those of some tensors (weights) not."""
    own = {value.untyped_storage().data_ptr() for value in apart}
    kept: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        out = forward()
    del out  # which held all of it until now
    return sum(kept.values())


def own_tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


class Live(TorchDispatchMode):
    """Watches which tensors live; `peak` is the most bytes that did at one time."""

    only_watches = True  # for `foveal.surgery.fused.conditions`: what it watches is what runs without it

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[StorageWeakRef, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                self.held[StorageWeakRef(storage)] = storage.nbytes()
        self.held = {reference: size for reference, size in self.held.items() if not reference.expired()}
        self.peak = max(self.peak, sum(self.held.values()))
        return out


def peak_bytes(model: nn.Module, images: Tensor) -> int:
    """Bytes of the tensors alive at the height of a training step: weights, gradients, maps."""
    model.zero_grad()
    with Live() as live:
        loss_of(model, images).backward()
    return live.peak + sum(value.nbytes for value in own_tensors(model))
