"""The processes that train one network together, as torchrun starts them; with one process everything here is trivial.

Each process reads and computes its share of every batch. The gradients are those of the mean loss over the whole batch,
so that `batch_size` means the same for any number of processes. Process 0, the main one, writes the run folder.

Messages between processes go over gloo from CPU to CPU, also where gradients go over NCCL: no GPU waits for them.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from math import lcm
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from timm.layers import convert_sync_batchnorm
from timm.utils import distribute_bn
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from foveal.core.processes import end_with_parent, launched
from foveal.training.config import RunConfig
from foveal.training.sync_batch_norm import BatchNormOverProcesses

Value = TypeVar("Value")
ENDED = (
    "another process of this run has ended, so this one ends too; the same command continues after the last epoch that "
    "was stored"
)


class NetworkLoss(nn.Module):
    """A network with its loss, as one module whose output depends on all weights that are trained."""

    def __init__(self, network: nn.Module, loss: Callable[[Any, Tensor], Tensor]):
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.loss(self.network(images), labels)


def has_unused_weights(module: NetworkLoss, images: Tensor, labels: Tensor) -> bool:
    """Return True if the loss does not depend on some of the weights; DistributedDataParallel waits for all others."""
    trial = NetworkLoss(deepcopy(module.network), module.loss)
    trial(images, labels).backward()
    return any(weight.grad is None for weight in trial.parameters() if weight.requires_grad)


class Processes:
    """This process and the others of its run.

    Attributes:
        count: number of processes.
        index: number of this one, from 0.
        device: device of this process.
    """

    def __init__(self) -> None:
        state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())
        self.count, self.index, self.device = state.num_processes, state.process_index, state.device
        if launched()[1] != self.count:
            raise ValueError(
                f"torchrun started {launched()[1]} processes, and accelerate connects {self.count}: so decided an "
                "Accelerator that was created before; on a CPU it needs cpu=True"
            )
        self._messages: Any = dist.new_group(backend="gloo") if self.count > 1 else None

    @property
    def main(self) -> bool:
        """True for the process that writes files."""
        return self.index == 0

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all processes, in their order; each waits for the others."""
        if self._messages is None:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, self._messages)
        return values

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.gather(None)

    def check_same(self, facts: Mapping[str, Any]) -> None:
        """Check that the facts are the same in all processes, by name.

        Raises:
            ValueError: another value than in process 0.
        """
        first, *others = self.gather(facts)
        for index, other in enumerate(others, start=1):
            for name, value in other.items():
                if value != first[name]:
                    raise ValueError(
                        f"process {index} has {name}={value!r:.80}, and process 0 has {first[name]!r:.80}; all "
                        "processes of a run need the same settings and images, and a run folder that all see"
                    )

    def part_of(self, batch: Tensor) -> Tensor:
        """Return this process's images of a batch of indices (B,), in order.

        They are cut from the order first, last, second, last but one, and so on: the pairs that mixup makes, an image
        and its mirror in the batch, stay together.
        """
        places = torch.arange(len(batch))
        mirrored = torch.stack([places, places.flip(0)], dim=1).flatten()[: len(batch)]
        return batch[mirrored.tensor_split(self.count)[self.index].sort().values]

    def share_of(self, images: int, mass: float | Tensor) -> tuple[float, int]:
        """Return the factor of this process's mean loss: with it, the mean over processes is that over all images.

        Args:
            images: number of this process's images.
            mass: the same number, or the sum of their weights.

        Returns:
            The factor, 0 in all processes if one of them has no image, since each must take part in a step; and the
            smallest number of images of a process.
        """
        if self._messages is None:
            return float(images > 0), images
        here = torch.tensor([float(images), float(mass)], dtype=torch.float64)
        found = [torch.zeros_like(here) for _ in range(self.count)]
        dist.all_gather(found, here, self._messages)
        counts, masses = torch.stack(found).T
        return float(here[1] * self.count / masses.sum()) if masses.min() > 0 else 0.0, int(counts.min())

    def micro_batches(self, module: nn.Module, count: int, *batch: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Divide a batch; the gradients of a module are shared in the backward pass of the last micro-batch alone.

        Args:
            module: what `with_shared_gradients` returned.
            count: number of micro-batches, the same in all processes and at most that of the images.
            batch: images, labels.
        """
        for index, each in enumerate(zip(*(whole.tensor_split(count) for whole in batch), strict=True), start=1):
            with module.no_sync() if isinstance(module, DistributedDataParallel) and index < count else nullcontext():
                yield each

    def means(self, values: list[float]) -> list[float]:
        """Return the mean over processes of each of some numbers."""
        return [sum(each) / self.count for each in zip(*self.gather(values), strict=True)]

    def with_sync_bn(self, network: nn.Module, config: RunConfig) -> nn.Module:
        """Return the network with torch's synchronized BatchNorm on GPUs; elsewhere see `synchronized`."""
        convert = config.sync_bn and self.count > 1 and self.device.type == "cuda"
        return convert_sync_batchnorm(network) if convert else network

    def synchronized(self, config: RunConfig) -> AbstractContextManager[Any]:
        """Return a context in which BatchNorm takes its statistics from all processes, if the settings say so."""
        by_functions = config.sync_bn and self.count > 1 and self.device.type != "cuda"
        return BatchNormOverProcesses() if by_functions else nullcontext()

    def with_shared_gradients(self, module: NetworkLoss, images: Tensor, labels: Tensor) -> nn.Module:
        """Return a module whose gradients are means over processes.

        Args:
            module: network and loss.
            images: a batch of any images (B, C, H, W), on which it is tried.
            labels: (B,).
        """
        if self.count == 1:
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        unused = has_unused_weights(module, images, labels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of broadcast_buffers, whose new name older versions lack
            return DistributedDataParallel(module, devices, broadcast_buffers=False, find_unused_parameters=unused)

    def average_statistics(self, *networks: nn.Module) -> None:
        """Replace the running statistics of BatchNorm, which differ between processes, by their means."""
        if self.count > 1:
            for network in networks:
                distribute_bn(network, self.count, reduce=True)


@contextmanager
def ending_together() -> Iterator[None]:
    """End this process with torchrun; say in one line if another process has ended.

    Raises:
        ConnectionError: the connection to another process broke.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:  # it says that torchrun is the parent process
        end_with_parent(os.getppid())
    try:
        yield
    except RuntimeError as error:
        if launched()[1] > 1 and any(word in str(error) for word in ("gloo", "NCCL", "Connection", "Socket")):
            raise ConnectionError(ENDED) from error
        raise


def check_batch(config: RunConfig, images: int, count: int) -> None:
    """Check that a batch, of so many training images at most, has a share for each process.

    Raises:
        ValueError: it has not.
    """
    pairs = 2 if config.mixup or config.cutmix else 1
    needed = lcm(pairs, config.grad_accum_steps) * count
    if config.batch_size % needed:
        raise ValueError(
            f"batch_size={config.batch_size}: {count} processes share each batch"
            f"{', in pairs for mixup and cutmix' * (pairs == 2)}"
            f"{f', in grad_accum_steps={config.grad_accum_steps} parts' * (config.grad_accum_steps > 1)}"
            f"; a multiple of {needed} is needed"
        )
    if images < pairs * count:
        raise ValueError(f"{images} training images: {count} processes need {pairs * count} or more")


def describe_processes(config: RunConfig) -> str:
    """Describe how a batch is shared by processes and micro-batches; an empty text for one of each, as was meant."""
    count, whole, size = launched()[1], config.batch_size, config.micro_batch
    if count > 1:
        own = size // count
        here = f"{whole // count} of the {whole} images of a batch{f', {own} at a time' * (size < whole)}"
        norm = (
            f"all {size} (--sync-bn)"
            if config.sync_bn
            else f"its own {own}; their means are validated and stored (--sync-bn: from all {size})"
        )
        return f"{count} processes, each trains on {here}; BatchNorm takes its statistics from {norm}\n"
    if {"ACCELERATE_MIXED_PRECISION", "MASTER_PORT"} <= os.environ.keys():
        return (
            "one process, though accelerate launch was told to start several: on a CPU it starts them only with MPI; "
            "torchrun --nproc-per-node N -m foveal train starts N\n"
        )
    if size < whole:
        return f"{size} of the {whole} images of a batch at a time, from which BatchNorm takes its statistics\n"
    return ""
