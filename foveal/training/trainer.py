"""A network, its optimizer and schedule on a device: one epoch of training, prediction, saving and restoring.

A network with a method `loss(outputs, labels, criterion)` computes its own loss. The parameters of a module with an
attribute `lr_scale` have that multiple of the learning rate (a localization network has a tenth).

Every epoch seeds its random streams from the run's seed and the epoch's number, so that a resumed run is bitwise equal
to an uninterrupted one. Images are ordered and augmented from one stream. The network draws (dropout) from another one,
which also depends on the run's name: two networks of one seed get the same images. The learning rate is a function of
the step.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from foveal.core.answers import Answers, read_answers
from foveal.core.functions import Functions
from foveal.data.parts import Data, Part, Redrawn
from foveal.networks.own import create_for
from foveal.surgery.attachments import plain_state_dict
from foveal.training.augmentation import BatchAugmentation, class_weights
from foveal.training.batches import FAILING, UnreadImages, on_a_stream, read_batches
from foveal.training.checkpoint import read_checkpoint, save_checkpoint
from foveal.training.config import RunConfig
from foveal.training.load_model import check_finite
from foveal.training.loaded_model import check_classes
from foveal.training.optimizer_state import create_optimizer, flatten, numbers_of, unflatten
from foveal.training.recipes import resolve
from foveal.training.resumable import check_resumable
from foveal.training.run_folder import LAST
from foveal.training.stored_split import check_resumed

OnStep = Callable[[int, int], None]  # called with the numbers of steps done and of all
AVERAGE = "ema."  # prefix of the moving average's weights
COPIES = 10_000  # added to a seed, of which there are fewer, for the initial weights of each copy of a network
EPOCHS_A_SEED = 100_000  # random streams of two seeds never overlap


class Trainer:
    """A network, its optimizer and schedule on a device."""

    def __init__(self, config: RunConfig, data: Data, functions: Functions | None = None):
        config = resolve(config, config.model, len(data.train))
        self.config, self.data, self.unread = config, data, UnreadImages(data.name, FAILING)
        set_seed(config.seed + COPIES * config.copy)
        self.model = create_for(data, config.model, functions or {}, config.pretrained)
        if config.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.accelerator = Accelerator()
        self.model.to(self.accelerator.device)
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
        device = self.accelerator.device
        weights = class_weights(data.train.labels, len(data.classes)).to(device) if config.class_weights else None
        self.criterion = nn.CrossEntropyLoss(weights, label_smoothing=config.smoothing)
        self.augment = BatchAugmentation(config, len(data.classes), device)
        if self.augment.mix is not None and hasattr(self.model, "loss"):
            raise ValueError(f"mixup and cutmix: network {config.model!r} computes its loss from single labels")

    def train_epoch(self, epoch: int, on_step: OnStep) -> float:
        """Pass once over the training part; return the mean loss."""
        stream = EPOCHS_A_SEED * (self.config.seed + 1) + epoch
        set_seed(stream)
        self.model.train()
        part = self.data.train.drawn(stream) if isinstance(self.data.train, Redrawn) else self.data.train
        order = torch.randperm(len(part))[: self.steps * self.config.batch_size]
        batches = on_a_stream(torch.get_rng_state(), self.augment(self.training_batches(part, order)))
        torch.manual_seed(crc32(f"{self.config.name} {stream}".encode()))  # for the network's own draws
        total = 0.0
        for step, (images, labels) in enumerate(batches, start=1 + epoch * self.steps):
            with self.precision():
                outputs = self.model(images)
                loss = self.loss(outputs, labels)
            self.optimizer.zero_grad()
            self.accelerator.backward(loss)
            self.optimizer.step()
            if self.average is not None:
                self.average.update(self.model, step)
            self.step_schedule(step)
            total += loss.item()
            if not isfinite(total):
                raise FloatingPointError(f"the loss is {loss.item()} at step {step}")
            on_step(step, self.steps * self.config.epochs)
        return total / self.steps

    @property
    def answering(self) -> nn.Module:
        """The network that is validated, tested and stored: the moving average, if there is one."""
        return self.model if self.average is None else self.average.module

    def step_schedule(self, step: int) -> None:
        if self.schedule is not None:  # None for sched="none", a constant rate
            self.schedule.step_update(step)

    def precision(self) -> torch.autocast:
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.config.amp)

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        own = getattr(self.model, "loss", None)
        return own(outputs, labels, self.criterion) if own else self.criterion(outputs, labels)

    def batches(self, part: Part, order: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Iterate over indices, and normalized images and labels on the device, in the given order."""
        config, device = self.config, self.accelerator.device
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        for indices, images, labels in read_batches(part, order, config.batch_size, config.workers, self.unread.add):
            scaled = self.data.preprocessing.normalize(images.to(device))
            yield indices, scaled.contiguous(memory_format=layout), labels.to(device)

    def training_batches(self, part: Part, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over images and labels, an even number in each batch where pairs of images are mixed."""
        for _, images, labels in self.batches(part, order):
            count = len(labels) - (len(labels) % 2 if self.augment.mix is not None else 0)
            if count:
                yield images[:count], labels[:count]

    @torch.no_grad()
    def predict(self, part: Part) -> tuple[Answers, Tensor]:
        """Compute the answers for the images of a part, in order: logits (N, classes) on the CPU, and indices (N,).

        Images that cannot be read are left out.

        Raises:
            ValueError: an answer that is not one finite logit for each class; more than a share of the images left out.
        """
        network, logits, read = self.answering.eval(), [], []
        with self.precision():
            for indices, images, _ in self.batches(part, torch.arange(len(part))):
                logits.append(read_answers(network(images), len(images)).logits.float().cpu())
                read.append(indices)
        return check_classes(Answers(torch.cat(logits), logits[0].shape[1]), self.data.classes), torch.cat(read)

    def save(self, path: Path, lines: list[dict[str, Any]], to_go_on: bool = False) -> None:
        """Write the answering network; with `to_go_on` the trained one, its average and the optimizer's state."""
        data = self.data
        facts: dict[str, Any] = {
            "classes": data.classes,
            "lines": lines,
            "data": data.name,
            "preprocessing": asdict(data.preprocessing),
            "groups": self.config.groups,
            "data_seed": self.config.data_seed,
            "inference": {name: getattr(self.config, name) for name in ("amp", "channels_last", "batch_size")},
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
        check_finite(checkpoint.weights, folder / LAST)
        average = AVERAGE if self.average is not None else None
        check_resumable(str(folder / LAST), checkpoint, self.model, self.optimizer, average)
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
        lines = checkpoint.facts["lines"]
        self.step_schedule(len(lines) * self.steps)
        return lines
