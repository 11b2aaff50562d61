"""Cost of networks: counted, and measured against each other in one process.

Times are taken in turn, round by round, so that other load on the machine affects all networks alike; on one thread, as
in the runs of a comparison. Memory is that of live tensors: temporary memory that an operator allocates and frees while
it runs is not counted.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from foveal.core.safe_copy import as_meta
from foveal.core.trial_pass import Call, eval_mode, trial_pass
from foveal.profiling.timing import time_calls, time_inference

BATCH = 64


@dataclass(frozen=True)
class Cost:
    """Cost of one network. Times are medians in milliseconds.

    Attributes:
        parameters: number of parameters.
        macs: multiply-accumulate operations of matrix products and convolutions, for one image.
        single: inference time, ms, one image.
        batch: inference time, ms, a batch of `BATCH` images.
        step: time of a training step, ms, without the optimizer's update.
        saved: bytes that a training step saves for its backward pass, without the weights.
        peak: bytes of live tensors at the peak of a training step, including the network's own.
    """

    parameters: int
    macs: int
    single: float
    batch: float
    step: float
    saved: int
    peak: int


def costs(
    models: dict[str, nn.Module],
    shape: tuple[int, int, int],
    batch_size: int = 32,
    layout: torch.memory_format = torch.contiguous_format,
) -> dict[str, Cost]:
    """Measure the cost of each model.

    Args:
        models: models by name.
        shape: (C, H, W) of an image.
        batch_size: batch size of a training step, or of its micro-batches.
        layout: memory layout of the images.

    Returns:
        The Cost of each model by name.
    """
    device = next((weight.device for model in models.values() for weight in model.parameters()), torch.device("cpu"))
    training, inference = (
        torch.rand(count, *shape, device=device).contiguous(memory_format=layout) for count in (batch_size, BATCH)
    )
    copies = {name: copy.deepcopy(model).train() for name, model in models.items()}
    single, batch = (time_inference(models, images) for images in (inference[:1], inference))
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
    """Return the number of parameters."""
    return sum(weight.numel() for weight in model.parameters())


def count_macs(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """Return the MACs for one image (C, H, W), counted on the meta device if the model runs there, else on its own."""
    image = torch.rand(1, *shape, device=next((weight.device for weight in model.parameters()), None))
    counter = FlopCounterMode(display=False)
    with plain_kernels():
        if trial_pass(model, Call((as_meta(image),), meta=True), lambda _: counter):
            with eval_mode(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
                model(image)
    return counter.get_total_flops() // 2


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Run attention and recurrent layers by their matrix products: `FlopCounterMode` misses some fused kernels."""
    mha, mkldnn = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(mha)
        torch.backends.mkldnn.enabled = mkldnn


def loss_of(model: nn.Module, images: Tensor) -> Tensor:
    """Return the loss for labels of the first class: the model's own `loss`, if it has one, or the cross-entropy."""
    outputs = model(images)
    labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
    own = getattr(model, "loss", None)
    return own(outputs, labels, F.cross_entropy) if own else F.cross_entropy(outputs, labels)


def backward(model: nn.Module, images: Tensor) -> None:
    """Run a forward and a backward pass."""
    model.zero_grad()
    loss_of(model, images).backward()


def saved_bytes(forward: Callable[[], Tensor], excluded: Iterable[Tensor]) -> int:
    """Return the bytes saved for the backward pass, each storage once, without those of the `excluded` tensors."""
    excluded_storages = {value.untyped_storage().data_ptr() for value in excluded}
    saved: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in excluded_storages:
            saved[storage.data_ptr()] = storage.nbytes()
        return value.detach()  # a node that held its own output would never be freed

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        out = forward()
    del out  # frees the graph and its saved tensors
    return sum(saved.values())


def own_tensors(model: nn.Module) -> list[Tensor]:
    """Return the parameters and buffers of a model."""
    return [*model.parameters(), *model.buffers()]


class Live(TorchDispatchMode):
    """Dispatch mode that tracks live tensors; `peak` is the largest number of bytes alive at one time."""

    only_watches = True  # for `foveal.surgery.fused.conditions`: fused forms run under it as without it

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[StorageWeakRef, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                self.storages[StorageWeakRef(storage)] = storage.nbytes()
        self.storages = {reference: size for reference, size in self.storages.items() if not reference.expired()}
        self.peak = max(self.peak, sum(self.storages.values()))
        return out


def peak_bytes(model: nn.Module, images: Tensor) -> int:
    """Return the bytes of live tensors at the peak of a training step: weights, gradients, maps."""
    model.zero_grad()
    with Live() as live:
        loss_of(model, images).backward()
    return live.peak + sum(value.nbytes for value in own_tensors(model))
