"""A network, its optimizer and schedule on a device: one epoch of training, prediction, saving and restoring.

A network with a method `loss(outputs, labels, criterion)` computes its own loss. The parameters of a module with an
attribute `lr_scale` have that multiple of the learning rate (a localization network has a tenth).

Every epoch seeds its random streams from the run's seed and the epoch's number, so that a resumed run is bitwise equal
to an uninterrupted one. Images are ordered from one stream, and each is augmented from one of its own, given by the
epoch and its index. The network draws (dropout) from another one, which also depends on the run's name: two networks of
one seed get the same images. The learning rate is a function of the step.

With several processes (`foveal.training.processes`) each has this network, optimizer and schedule, and a share of every
batch; a network's own draws differ between them.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from accelerate.utils import set_seed
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from foveal.core.answers import Answers, read_answers
from foveal.core.functions import Functions
from foveal.data.parts import Data, Part, Redrawn, draw_order
from foveal.data.seeded import seeded
from foveal.networks.own import create_for
from foveal.surgery.attachments import plain_state_dict
from foveal.training.augmentation import BatchAugmentation
from foveal.training.batches import FAILING, Timed, UnreadImages, read_batches
from foveal.training.checkpoint import read_checkpoint, save_checkpoint
from foveal.training.compiled import compiled
from foveal.training.config import RunConfig
from foveal.training.criterion import check_loss, create_criterion
from foveal.training.load_model import check_finite
from foveal.training.loaded_model import check_classes
from foveal.training.optimizer_state import create_optimizer, flatten, numbers_of, unflatten
from foveal.training.precision import HINT, check_scale, create_scaler
from foveal.training.processes import NetworkLoss, Processes, check_batch
from foveal.training.recipes import resolve
from foveal.training.resumable import check_preprocessed, check_resumable
from foveal.training.run_facts import InferenceSettings
from foveal.training.run_folder import LAST
from foveal.training.stored_split import check_resumed
from foveal.training.tensorboard import EventFiles

OnStep = Callable[[int, int], None]  # called with the numbers of steps done and of all
AVERAGE = "ema."  # prefix of the moving average's weights
COPIES = 10_000  # added to a seed, of which there are fewer, for the initial weights of each copy of a network
EPOCHS_A_SEED = 100_000  # random streams of two seeds never overlap
READ = 20  # steps after which their losses are read: a GPU must end all its work for it, and processes wait for another


class Trainer:
    """A network, its optimizer and schedule on a device; `events` get its figures, too, if they are to be written."""

    def __init__(self, config: RunConfig, data: Data, functions: Functions | None = None):
        config = resolve(config, config.model, len(data.train))
        self.config, self.data, self.unread = config, data, UnreadImages(data.name, FAILING)
        self.processes, self.speed = Processes(), dict[str, float]()
        self.events: EventFiles | None = None
        check_batch(config, len(data.train), self.processes.count)
        set_seed(config.seed + COPIES * config.copy)
        self.model = create_for(data, config.model, functions or {}, config.pretrained)
        check_loss(config, data, config.model, self.model)
        self.model = self.processes.with_sync_bn(self.model, config)
        if config.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.model.to(self.device)
        self.inference = InferenceSettings(config.amp, config.channels_last, config.micro_batch, config.amp_dtype)
        self.scaler = create_scaler(self.inference, self.device)
        self.average = ModelEmaV3(self.model, config.ema, use_warmup=True) if config.ema else None
        self.optimizer = create_optimizer(self.model, config)
        for group in self.optimizer.param_groups:  # one call for all weights, where torch's optimizer has it
            if "fused" in group:
                group["fused"] = True
        self.steps = max(1, len(data.train) // config.batch_size)  # a last incomplete batch is left out
        self.schedule, _ = create_scheduler_v2(
            self.optimizer,
            sched=config.sched,
            num_epochs=config.epochs,
            warmup_epochs=config.warmup_epochs,
            warmup_lr=config.lr / 100,
            min_lr=0.0,
            step_on_epochs=False,
            updates_per_epoch=self.steps,
        )
        self.criterion = create_criterion(config, data).to(self.device)
        self.augment = BatchAugmentation(config, len(data.classes), self.device)
        some = torch.zeros(2, *data.shape, device=self.device), data.train.labels[:2].to(self.device)
        loss = NetworkLoss(self.model, self.loss)
        self.loss_of = self.processes.with_shared_gradients(loss, *some)
        if config.compile:
            loss.network = compiled(self.model, self.device)

    def train_epoch(self, epoch: int, on_step: OnStep) -> float:
        """Pass once over the training part; return the mean loss. `speed` holds images a second, and which share of the
        time this process waited for data.
        """
        stream = EPOCHS_A_SEED * (self.config.seed + 1) + epoch
        set_seed(stream)
        self.model.train()
        part = self.data.train.drawn(stream) if isinstance(self.data.train, Redrawn) else self.data.train
        order = draw_order(part)[: self.steps * self.config.batch_size]
        batches = Timed(self.augment(self.training_batches(seeded(part, stream), order), stream))
        own = crc32(f"{self.config.name} {stream}".encode()) + self.processes.index
        torch.manual_seed(own)  # for the network's own draws
        begin, losses = time.perf_counter(), list[float]()
        unread: dict[int, Tensor] = {}  # losses by step, still on the device
        for step, (images, labels) in enumerate(batches, start=1 + epoch * self.steps):
            weight, fewest = self.processes.share_of(len(labels), self.mass(labels))
            if weight:
                unread[step] = self.step(images, labels, weight, min(self.config.grad_accum_steps, fewest))
                if self.average is not None:
                    self.average.update(self.model, step)
            self.step_schedule(step)
            if step % READ == 0 or step == (epoch + 1) * self.steps:
                losses += self.read(unread)
                unread.clear()
            on_step(step, self.steps * self.config.epochs)
        seconds = time.perf_counter() - begin
        self.speed = {"images_per_second": len(order) / seconds, "waiting": batches.seconds / seconds}
        self.processes.average_statistics(*dict.fromkeys((self.model, self.answering)))
        if not losses:
            raise ValueError(f"data {self.data.name!r}: there was no batch of which each process could read an image")
        return sum(losses) / len(losses)

    def step(self, images: Tensor, labels: Tensor, weight: float, count: int) -> Tensor:
        """Train on a batch, or this process's share of it, in `count` micro-batches.

        Returns:
            Its mean loss times the weight, on the device.
        """
        self.optimizer.zero_grad()
        losses, mass = list[Tensor](), self.mass(labels)
        for some, own in self.processes.micro_batches(self.loss_of, count, images, labels):
            with self.processes.synchronized(self.config):  # in the backward pass too, which may compute layers again
                with self.inference.autocast(self.device):
                    loss = self.loss_of(some, own) * (self.mass(own) / mass * weight)
                self.scaler.scale(loss).backward()
            losses.append(loss.detach())
        if self.config.clip_grad:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return torch.stack(losses).sum()

    def read(self, losses: Mapping[int, Tensor]) -> list[float]:
        """Return losses by step as numbers, their means over processes.

        Raises:
            FloatingPointError: one is not finite, or the gradients of float16 stay so.
        """
        means = self.processes.means(torch.stack([*losses.values()]).tolist() if losses else [])
        for step, mean in zip(losses, means, strict=True):
            if not isfinite(mean):
                raise FloatingPointError(f"the loss is {mean} at step {step}{HINT * self.scaler.is_enabled()}")
        check_scale(self.scaler)
        return means

    def mass(self, labels: Tensor) -> float | Tensor:
        """Return the number of images, or the sum of their weights, over which the loss of a batch is a mean."""
        weights = getattr(self.criterion, "weight", None)
        return len(labels) if weights is None or labels.is_floating_point() else weights[labels].sum()

    @property
    def device(self) -> torch.device:
        return self.processes.device

    @property
    def answering(self) -> nn.Module:
        """The network that is validated, tested and stored: the moving average, if there is one."""
        return self.model if self.average is None else self.average.module

    def step_schedule(self, step: int) -> None:
        if self.schedule is not None:  # None for sched="none", a constant rate
            self.schedule.step_update(step)

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        own = getattr(self.model, "loss", None)
        return own(outputs, labels, self.criterion) if own else self.criterion(outputs, labels)

    def batches(self, part: Part, order: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Iterate over indices, and normalized images and labels on the device, of this process's share of each batch.

        Images that cannot be read are left out, by which a share may become empty.
        """
        config = self.config
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        shares = map(self.processes.part_of, order)
        some = [share for share in shares if len(share)]  # fewer images than processes in a last batch
        pinned = self.device.type == "cuda"
        for indices, images, labels in read_batches(part, some, config.workers, self.unread.add, pinned):
            images, labels = (each.to(self.device, non_blocking=True) for each in (images, labels))
            yield indices, self.data.preprocessing.normalize(images).contiguous(memory_format=layout), labels

    def training_batches(self, part: Part, order: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """As `batches`, with an even number of images in each batch where pairs of images are mixed."""
        for batch in self.batches(part, order.split(self.config.batch_size)):
            count = len(batch[0]) - (len(batch[0]) % 2 if self.augment.mix is not None else 0)
            indices, images, labels = (each[:count] for each in batch)
            yield indices, images, labels

    @torch.no_grad()
    def predict(self, part: Part) -> tuple[Answers, Tensor]:
        """Compute the answers for the images of a part, in order: logits (N, classes) on the CPU, and indices (N,).

        Images that cannot be read are left out. Each process computes its share, and all return the whole.

        Raises:
            ValueError: an answer that is not one finite logit for each class; more than a share of the images left out.
        """
        network, here = self.answering.eval(), []
        with self.inference.autocast(self.device):
            for indices, images, _ in self.batches(part, torch.arange(len(part)).split(self.config.micro_batch)):
                if len(indices):
                    here.append((indices, read_answers(network(images), len(images)).logits.float().cpu()))
        self.share_unread(part)
        answered = [*chain(*self.processes.gather(here))]
        if not answered:
            first = part.names[0]
            why = self.unread.reasons[first]
            raise ValueError(f"data {self.data.name!r}: no image of one part can be read, as {first!r}: {why}")
        read, logits = map(torch.cat, zip(*answered, strict=True))
        order = read.argsort()
        answers = Answers(logits[order], logits.shape[1], self.data.multi_label)
        return check_classes(answers, self.data.classes), read[order]

    def share_unread(self, *parts: Part) -> None:
        """Note the images that other processes could not read."""
        for reasons in self.processes.gather(self.unread.reasons):
            for part in parts if reasons else ():
                self.unread.add_reasons(part, reasons)

    def save(self, path: Path, lines: list[dict[str, Any]], to_go_on: bool = False) -> None:
        """Write the answering network; with `to_go_on` the trained one, its average and the optimizer's state."""
        data = self.data
        facts: dict[str, Any] = {
            "classes": data.classes,
            "multi_label": data.multi_label,
            "lines": lines,
            "data": data.name,
            "preprocessing": asdict(data.preprocessing),
            "groups": self.config.groups,
            "data_seed": self.config.data_seed,
            "inference": asdict(self.inference),
            "scaler": self.scaler.state_dict() if to_go_on else {},
        }
        tensors, facts["optimizer"] = flatten(self.optimizer.state_dict()["state"]) if to_go_on else ({}, {})
        facts["parameter_groups"] = [numbers_of(group) for group in self.optimizer.param_groups]
        if to_go_on and self.average is not None:
            tensors |= {AVERAGE + name: value for name, value in plain_state_dict(self.average.module).items()}
        save_checkpoint(path, self.model if to_go_on else self.answering, facts, tensors)

    def restore(self, folder: Path) -> list[dict[str, Any]]:
        """Load `last.safetensors`, of the same images; return the lines of the epochs that it has done."""
        check_resumed(folder, self.data)
        checkpoint = read_checkpoint(folder / LAST)
        check_preprocessed(str(folder / LAST), checkpoint, self.data)
        check_finite(checkpoint.weights, folder / LAST)
        average = AVERAGE if self.average is not None else None
        check_resumable(str(folder / LAST), checkpoint, self.model, self.optimizer, self.scaler, average)
        self.model.load_state_dict(checkpoint.weights)
        if self.average is not None:
            self.average.module.load_state_dict(checkpoint.part(AVERAGE))
        state = unflatten(checkpoint)
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        for index, values in state.items():  # in the weights' layout: a norm over another layout rounds differently
            alike = {
                name: torch.empty_like(weights[index]).copy_(value)
                for name, value in values.items()
                if isinstance(value, Tensor) and value.shape == weights[index].shape
            }
            values.update(alike)
        groups = self.optimizer.state_dict()["param_groups"]
        for group, stored in zip(groups, checkpoint.facts["parameter_groups"], strict=True):
            group.update(stored)
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(checkpoint.facts["scaler"])
        lines = checkpoint.facts["lines"]
        self.step_schedule(len(lines) * self.steps)
        return lines
