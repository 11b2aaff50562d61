"""The training loop. It does not depend on the attention.

A network with a method `loss(outputs, labels, criterion)` computes its own loss. The parameters of a module with an
attribute `lr_scale` have that multiple of the learning rate (a localization network has a tenth).

Every epoch seeds its random streams from the run's seed and the epoch's number, so that a resumed run is bitwise equal
to an uninterrupted one. Images are ordered and augmented from one stream. The network draws (dropout) from another one,
which also depends on the run's name: two networks of one seed get the same images. The learning rate is a function of
the step. With a moving average of the weights (`ema`), the average is evaluated on the validation part and on the test
part, and is stored in `best.safetensors`. Files of a run folder:

    config.yaml         the settings
    split.json          the images of each part, the files left out, and notes on how files were read
    metrics.jsonl       one line an epoch; the last line holds the figures of the test part
    last.safetensors    to resume: weights, their moving average and the optimizer's state
    best.safetensors    to use: the weights of the best epoch on the validation part, and all that builds the network
    predictions.csv     one line for each test image
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any, cast
from zlib import crc32

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import set_seed
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from foveal.core.answers import Answers, read_answers
from foveal.data.load_data import load_data
from foveal.data.parts import Data, Part
from foveal.networks.factory import create_model
from foveal.surgery.attachments import plain_state_dict
from foveal.training.batches import as_it_comes, on_a_stream
from foveal.training.checkpoint import read_checkpoint, save_checkpoint
from foveal.training.config import RunConfig
from foveal.training.load_model import check_classes, check_finite
from foveal.training.optimizer_state import flatten, numbers_of, parameter_groups, unflatten
from foveal.training.run_folder import Result, check_folder, finished, write_lines, write_predictions
from foveal.training.stored_split import check_resumed, facts_of

AVERAGE = "ema."  # prefix of the moving average's weights
EPOCHS_A_SEED = 100_000  # random streams of two seeds never overlap


def train(
    config: RunConfig,
    output: str | Path,
    *,
    resume: bool = False,
    on_step: Callable[[int, int], None] = lambda done, of: None,
    on_epoch: Callable[[dict[str, Any]], None] = lambda line: None,
) -> Result:
    """Train a network, choose its best epoch on the validation part, and evaluate that epoch once on the test part.

    Args:
        config: settings of the run.
        output: folder of the run. It must not hold a run, unless `resume` is true.
        resume: continue the folder's run where it stopped; the result of a finished run is read from the folder.
        on_step: called with the numbers of steps done and of all.
        on_epoch: called with each epoch's line of `metrics.jsonl`.

    Returns:
        The figures of the test part; the balanced accuracy is None where a class has no test image.

    Raises:
        ValueError: a run in the folder, or one with other settings, other images or impossible figures; unknown data or
            network.
        FloatingPointError: the loss is not finite.

    Example:
        >>> import foveal, tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for index in range(12):
        ...     folder = root / "photos" / ("black", "white")[index % 2]
        ...     folder.mkdir(parents=True, exist_ok=True)
        ...     Image.new("L", (16, 16), 255 * (index % 2)).save(folder / f"{index}.png")
        >>> config = foveal.RunConfig(data=f"folder:{root}/photos", image_size=16, epochs=1, batch_size=4)
        >>> result = foveal.train(config, root / "run")
        >>> result.best_epoch, list(result.recall), result.absent
        (1, ['black', 'white'], [])
    """
    folder = Path(output)
    check_folder(folder, config, resume)
    return finished(folder) or evaluate_test(*train_epochs(config, folder, on_step, on_epoch))


def train_epochs(
    config: RunConfig,
    folder: Path,
    on_step: Callable[[int, int], None] = lambda done, of: None,
    on_epoch: Callable[[dict[str, Any]], None] = lambda line: None,
) -> tuple["Trainer", Path, list[dict[str, Any]]]:
    """Train the epochs that the folder's run lacks; return trainer, folder and lines. The test part is not read."""
    data = load_data(config.data, image_size=config.image_size, groups=config.groups)
    run = Trainer(config, data)
    lines = run.restore(folder) if (folder / "last.safetensors").is_file() else []
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(asdict(config), sort_keys=False))
    (folder / "split.json").write_text(json.dumps(facts_of(data)))
    write_lines(folder, lines)
    for epoch in range(len(lines), config.epochs):
        begin = time.perf_counter()
        loss = run.train_epoch(epoch, on_step)
        accuracy = share_right(run.predict(data.validation).classes(), data.validation.labels)
        line = {
            "epoch": epoch + 1,
            "train_loss": loss,
            "validation_accuracy": accuracy,
            "seconds": time.perf_counter() - begin,
        }
        if accuracy > max((earlier["validation_accuracy"] for earlier in lines), default=-1.0):
            run.save(folder / "best.safetensors", lines=[*lines, line])
        lines.append(line)
        run.save(folder / "last.safetensors", lines=lines, to_go_on=True)
        write_lines(folder, lines)
        on_epoch(line)
    return run, folder, lines


class Trainer:
    """A network, its optimizer and schedule on a device."""

    def __init__(self, config: RunConfig, data: Data):
        self.config, self.data = config, data
        set_seed(config.seed)
        channels, *_ = data.shape
        self.model = create_model(config.model, config.pretrained, num_classes=len(data.classes), in_chans=channels)
        if config.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.accelerator = Accelerator()
        self.model.to(self.accelerator.device)
        self.average = ModelEmaV3(self.model, config.ema, use_warmup=True) if config.ema else None
        groups = parameter_groups(self.model, config.weight_decay)
        self.optimizer = create_optimizer_v2(groups, opt=config.opt, lr=config.lr)
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
        self.criterion = nn.CrossEntropyLoss(label_smoothing=config.smoothing)

    def train_epoch(self, epoch: int, on_step: Callable[[int, int], None]) -> float:
        """Pass once over the training part; return the mean loss."""
        stream = EPOCHS_A_SEED * (self.config.seed + 1) + epoch
        set_seed(stream)
        self.model.train()
        order = torch.randperm(len(self.data.train))[: self.steps * self.config.batch_size]
        batches = on_a_stream(torch.get_rng_state(), self.batches(self.data.train, order))
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

    def batches(self, part: Part, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over normalized images and labels on the device, in the given order."""
        size, device = self.config.batch_size, self.accelerator.device
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        source, workers = cast("Dataset[Any]", part), self.config.workers
        loader = DataLoader(source, size, sampler=order.tolist(), num_workers=workers, collate_fn=as_it_comes)
        for images, labels in loader:
            scaled = self.data.preprocessing.normalize(images.to(device))
            yield scaled.contiguous(memory_format=layout), labels.to(device)

    @torch.no_grad()
    def predict(self, part: Part) -> Answers:
        """Compute the answers for the images of a part, in order: logits (N, classes) on the CPU.

        Raises:
            ValueError: an answer that is not one finite logit for each class.
        """
        network, logits = self.answering.eval(), []
        with self.precision():
            for images, _ in self.batches(part, torch.arange(len(part))):
                logits.append(read_answers(network(images), len(images)).logits.float().cpu())
        return check_classes(Answers(torch.cat(logits), logits[0].shape[1]), self.data.classes)

    def save(self, path: Path, lines: list[dict[str, Any]], to_go_on: bool = False) -> None:
        """Write the answering network; with `to_go_on` the trained one, its average and the optimizer's state."""
        data = self.data
        facts: dict[str, Any] = {
            "classes": data.classes,
            "lines": lines,
            "data": data.name,
            "preprocessing": asdict(data.preprocessing),
            "groups": self.config.groups,
        }
        tensors, facts["optimizer"] = flatten(self.optimizer.state_dict()["state"]) if to_go_on else ({}, {})
        facts["parameter_groups"] = [numbers_of(group) for group in self.optimizer.param_groups]
        if to_go_on and self.average is not None:
            tensors |= {AVERAGE + name: value for name, value in plain_state_dict(self.average.module).items()}
        save_checkpoint(path, self.model if to_go_on else self.answering, facts, tensors)

    def restore(self, folder: Path) -> list[dict[str, Any]]:
        """Load `last.safetensors`, of the same images; return the lines of the epochs that it has done."""
        check_resumed(folder, self.data)
        checkpoint = read_checkpoint(folder / "last.safetensors")
        check_finite(checkpoint.weights, folder / "last.safetensors")
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


def evaluate_test(run: Trainer, folder: Path, lines: list[dict[str, Any]]) -> Result:
    """Evaluate the weights of the best epoch on the test part; write predictions and the last line."""
    checkpoint = read_checkpoint(folder)
    check_finite(checkpoint.weights, folder / "best.safetensors")
    run.answering.load_state_dict(checkpoint.weights)
    part, classes = run.data.test, run.data.classes
    answers = run.predict(part)
    write_predictions(folder / "predictions.csv", part, classes, answers)
    predicted, labels, absent = answers.classes(), part.labels, run.data.absent("test")
    recall = {
        name: share_right(predicted[labels == index], labels[labels == index])
        for index, name in enumerate(classes)
        if name not in absent
    }
    result = Result(
        share_right(predicted, labels),
        None if absent else float(np.mean(list(recall.values()))),
        recall,
        len(checkpoint.facts["lines"]),
        sum(line["seconds"] for line in lines),
        absent,
    )
    write_lines(folder, [*lines, {"test": asdict(result)}])
    return result


def share_right(predicted: Tensor, labels: Tensor) -> float:
    return (predicted == labels).double().mean().item()
