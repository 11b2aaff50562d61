"""One step of networks with attention in each of two processes, as `torch.multiprocessing` starts them."""

import copy
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torchvision.models.resnet import BasicBlock

import foveal

PROCESSES = 2
PLACES = {  # mechanism: places in `Network`
    "se": None, "eca": None, "ge": None, "gc": None, "coord": None, "spatial": None, "cbam": None, "nl": None,
    "mhsa": None, "residual_mask": None, "sk": None, "bam": "layer1", "stn": "input",
}  # fmt: skip


class Network(nn.Module):
    """Two residual blocks whose norms, first convolution and first block are hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.layer1, self.layer2 = nn.Conv2d(3, 8, 3), BasicBlock(8, 8), BasicBlock(8, 8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer2(self.layer1(self.conv1(x))).mean((2, 3)))


def network(mechanism: str) -> nn.Module:
    """Attention that is switched on, in training, in float64."""
    torch.manual_seed(0)
    options = {"groups": 1} if mechanism == "sk" else {}
    model = foveal.attach(Network().double(), mechanism, at=PLACES[mechanism], **options)
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    return model


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, 12, 12, dtype=torch.float64, generator=generator)
    return images, torch.randint(3, (4,), generator=generator)


def alone(mechanism: str) -> tuple[Tensor, dict[str, Tensor]]:
    """What two processes must find, by one: logits of each half batch, and the state after a step by the mean gradient.

    Each half has its own statistics of norms; the state is that of the first process.
    """
    models = [network(mechanism) for _ in range(PROCESSES)]
    halves = zip(*(each.chunk(PROCESSES) for each in batch()), strict=True)
    logits = [backward(model, *half) for model, half in zip(models, halves, strict=True)]
    for weights in zip(*(model.parameters() for model in models), strict=True):
        weights[0].grad = sum(weight.grad for weight in weights) / PROCESSES
    optimizer(models[0]).step()
    return torch.cat(logits), models[0].state_dict()


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), 0.1)


def backward(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Compute gradients; return the logits."""
    logits = model(images)
    nn.functional.cross_entropy(logits, labels).backward()
    return logits.detach()


def distributed(mechanism: str, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Train a step in DistributedDataParallel: return the logits before and the state after."""
    parallel = nn.parallel.DistributedDataParallel(network(mechanism))
    logits = backward(parallel, images, labels)
    optimizer(parallel).step()
    return logits, parallel.module.state_dict()


def sharded(mechanism: str, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The same by FSDP2 over each block and the whole; the state was loaded into a second network."""
    mesh = init_device_mesh("cpu", (PROCESSES,))
    whole = StateDictOptions(full_state_dict=True)
    model, other = network(mechanism), network(mechanism)
    for each in (model, other):
        for part in (each.layer1, each.layer2, each):
            fully_shard(part, mesh=mesh)
    logits = backward(model, images, labels)
    optimizer(model).step()
    set_model_state_dict(other, copy.deepcopy(get_model_state_dict(model, options=whole)), options=whole)
    return logits, get_model_state_dict(other, options=whole)


def run(rank: int, folder: str) -> None:
    """Train every mechanism on the process's part of the batch, and save the results by kind and mechanism."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(f"{folder}/store", PROCESSES), rank=rank, world_size=PROCESSES)
    part = [each.chunk(PROCESSES)[rank] for each in batch()]
    found = {(kind.__name__, name): kind(name, *part) for kind in (distributed, sharded) for name in PLACES}
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
