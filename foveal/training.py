"""The visible training loop. It names no attention.

A network that has a method `loss(outputs, labels, criterion)` says its own loss. A module that has an attribute
`lr_scale` learns at that share of the rate (a localisation net at a tenth).

Every epoch starts its random streams from the seed and its own number, so a run that is resumed goes on as if nothing
had happened. Images are ordered and augmented from one stream, the network draws (dropout) from another, which the
run's name gives as well: two networks of one seed get the same images. The learning rate is a function of the step.
With a moving average of the weights (`ema`) it is the average that answers: on the validation part, on the test part,
and in `best.safetensors`. What a run leaves in its folder:

    config.yaml         its settings
    split.json          which images trained, chose and tested
    metrics.jsonl       a line an epoch; at the end a line with the figures of the test part
    last.safetensors    to go on: weights, their moving average and the optimizer's state
    best.safetensors    to use: the weights of the best epoch on the validation part, and all that builds the network
    predictions.csv     a line for each test image
"""

import csv
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
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

from foveal.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from foveal.data import Data, Part, load_data
from foveal.networks import create_model
from foveal.settings import Settings
from foveal.standing import plain_state_dict

OPTIMIZER = "optimizer."  # prefix of its tensors in last.safetensors
AVERAGE = "ema."  # of the moving average's
EPOCHS_A_SEED = 100_000  # random streams of two seeds never meet


@dataclass(frozen=True)
class Result:
    """What a finished run says of its test part."""

    accuracy: float
    balanced_accuracy: float  # the mean of the recalls
    recall: dict[str, float]  # by class
    best_epoch: int  # from 1
    seconds: float  # of training


def train(
    settings: Settings,
    output: str | Path,
    *,
    resume: bool = False,
    on_step: Callable[[int, int], None] = lambda done, of: None,
    on_epoch: Callable[[dict[str, Any]], None] = lambda line: None,
) -> Result:
    """Train a network, choose its best epoch on the validation part, and read the test part once.

    Args:
        settings: of the run.
        output: its folder. It must hold no run, unless `resume`.
        resume: go on where the folder's run stopped; a finished run is only read.
        on_step: told the number of steps done and of all.
        on_epoch: told each line of `metrics.jsonl`.

    Raises:
        ValueError: a folder that holds a run; one to resume with other settings; and what the data and network raise.
        FloatingPointError: a loss that is not finite.
    """
    folder = Path(output)
    check_folder(folder, settings, resume)
    return finished(folder) or conclude(*fit(settings, folder, on_step, on_epoch))


def fit(
    settings: Settings,
    folder: Path,
    on_step: Callable[[int, int], None] = lambda done, of: None,
    on_epoch: Callable[[dict[str, Any]], None] = lambda line: None,
) -> tuple["Run", Path, list[dict[str, Any]]]:
    """All epochs, from the one where the folder's run stopped; the run, its folder and its lines. It reads no test."""
    data = load_data(settings.data, image_size=settings.image_size, groups=settings.groups)
    run = Run(settings, data)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(asdict(settings), sort_keys=False))
    (folder / "split.json").write_text(json.dumps({**data.split, "skipped": data.skipped}))
    lines = run.restore(folder) if (folder / "last.safetensors").is_file() else []
    write_lines(folder, lines)
    for epoch in range(len(lines), settings.epochs):
        begin = time.perf_counter()
        loss = run.train_epoch(epoch, on_step)
        accuracy = accuracy_of(run.predict(data.validation), data.validation.labels)
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


class Run:
    """A network, its optimizer and schedule on a device."""

    def __init__(self, settings: Settings, data: Data):
        self.settings, self.data = settings, data
        set_seed(settings.seed)
        channels, *_ = data.shape
        self.model = create_model(settings.model, settings.pretrained, num_classes=len(data.classes), in_chans=channels)
        if settings.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.accelerator = Accelerator()
        self.model.to(self.accelerator.device)
        self.average = ModelEmaV3(self.model, settings.ema, use_warmup=True) if settings.ema else None
        groups = parameter_groups(self.model, settings.weight_decay)
        self.optimizer = create_optimizer_v2(groups, opt=settings.opt, lr=settings.lr)
        for group in self.optimizer.param_groups:  # one call for all weights, where torch's optimizer has it
            if "fused" in group:
                group["fused"] = True
        self.steps = max(1, len(data.train) // settings.batch_size)  # a last incomplete batch is left out
        self.schedule, _ = create_scheduler_v2(
            self.optimizer,
            sched=settings.sched,
            num_epochs=settings.epochs,
            warmup_epochs=settings.warmup_epochs,
            warmup_lr=settings.lr / 100,
            min_lr=0.0,
            step_on_epochs=False,
            updates_per_epoch=self.steps,
        )
        self.criterion = nn.CrossEntropyLoss(label_smoothing=settings.smoothing)
        self.mean = torch.tensor(data.mean, device=self.accelerator.device).view(1, -1, 1, 1)
        self.std = torch.tensor(data.std, device=self.accelerator.device).view(1, -1, 1, 1)

    def train_epoch(self, epoch: int, on_step: Callable[[int, int], None]) -> float:
        """One pass over the training part; the mean loss."""
        stream = EPOCHS_A_SEED * (self.settings.seed + 1) + epoch
        set_seed(stream)
        self.model.train()
        order = torch.randperm(len(self.data.train))[: self.steps * self.settings.batch_size]
        batches = on_a_stream(torch.get_rng_state(), self.batches(self.data.train, order))
        torch.manual_seed(crc32(f"{self.settings.name} {stream}".encode()))  # what the network draws
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
            on_step(step, self.steps * self.settings.epochs)
        return total / self.steps

    @property
    def answering(self) -> nn.Module:
        """The network that is validated, tested and kept: the average, where there is one."""
        return self.model if self.average is None else self.average.module

    def step_schedule(self, step: int) -> None:
        if self.schedule is not None:  # sched="none": a rate that stays
            self.schedule.step_update(step)

    def precision(self) -> torch.autocast:
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.settings.amp)

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        own = getattr(self.model, "loss", None)
        return own(outputs, labels, self.criterion) if own else self.criterion(outputs, labels)

    def batches(self, part: Part, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Images, normalised, and labels on the device, in an order."""
        size, device = self.settings.batch_size, self.accelerator.device
        layout = torch.channels_last if self.settings.channels_last else torch.contiguous_format
        source, workers = cast("Dataset[Any]", part), self.settings.workers
        loader = DataLoader(source, size, sampler=order.tolist(), num_workers=workers, collate_fn=as_it_comes)
        for images, labels in loader:
            scaled = (images.to(device).float() / 255 - self.mean) / self.std
            yield scaled.contiguous(memory_format=layout), labels.to(device)

    @torch.no_grad()
    def predict(self, part: Part) -> Tensor:
        """Probabilities of the classes for each image of a part, in order: (N, classes)."""
        network = self.answering.eval()
        with self.precision():
            answers = [network(images) for images, _ in self.batches(part, torch.arange(len(part)))]
        return torch.cat(answers).float().softmax(1).cpu()

    def save(self, path: Path, lines: list[dict[str, Any]], to_go_on: bool = False) -> None:
        """Write what answers; to go on, what is trained, with its average and the optimizer's state."""
        data = self.data
        facts: dict[str, Any] = {
            "classes": data.classes,
            "lines": lines,
            "preprocessing": {"data": data.name, "shape": data.shape, "mean": data.mean, "std": data.std},
            "groups": self.settings.groups,
        }
        tensors, facts["optimizer"] = flatten(self.optimizer.state_dict()["state"]) if to_go_on else ({}, {})
        facts["parameter_groups"] = [numbers_of(group) for group in self.optimizer.param_groups]
        if to_go_on and self.average is not None:
            tensors |= {AVERAGE + name: value for name, value in plain_state_dict(self.average.module).items()}
        save_checkpoint(path, self.model if to_go_on else self.answering, facts, tensors)

    def restore(self, folder: Path) -> list[dict[str, Any]]:
        """Take over `last.safetensors`; the lines of the epochs that it has done."""
        checkpoint = read_checkpoint(folder / "last.safetensors")
        self.model.load_state_dict(checkpoint.weights)
        if self.average is not None:
            self.average.module.load_state_dict(checkpoint.part(AVERAGE))
        state = unflatten(checkpoint)
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        for index, values in state.items():  # in the weights' layout: a norm over another one rounds otherwise
            alike = {
                name: torch.empty_like(weights[index]).copy_(value)
                for name, value in values.items()
                if isinstance(value, Tensor) and value.shape == weights[index].shape
            }
            values.update(alike)
        groups = self.optimizer.state_dict()["param_groups"]
        for group, held in zip(groups, checkpoint.facts["parameter_groups"], strict=True):
            group.update(held)
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        lines = checkpoint.facts["lines"]
        self.step_schedule(len(lines) * self.steps)
        return lines


def on_a_stream(state: Tensor, batches: Iterator[Any]) -> Iterator[Any]:
    """Batches drawn from a random stream in this state, whatever is drawn between them: augmented alike for all."""
    while True:
        between = torch.get_rng_state()
        torch.set_rng_state(state)
        batch = next(batches, None)
        state = torch.get_rng_state()
        torch.set_rng_state(between)
        if batch is None:
            return
        yield batch


def as_it_comes(batch: Any) -> Any:
    """A part gives whole batches: nothing to collate."""
    return batch


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters by rate and decay: vectors do not decay, and `lr_scale` holds for all below the module that has it."""
    scales: dict[nn.Parameter, float] = {}
    for module in model.modules():
        scale = getattr(module, "lr_scale", None)
        if isinstance(scale, float):
            scales.update(dict.fromkeys(module.parameters(), scale))
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for weight in model.parameters():
        if weight.requires_grad:
            decay = weight_decay if weight.ndim > 1 else 0.0
            groups.setdefault((scales.get(weight, 1.0), decay), []).append(weight)
    return [{"params": weights, "lr_scale": scale, "weight_decay": decay} for (scale, decay), weights in groups.items()]


def numbers_of(group: dict[str, Any]) -> dict[str, float]:
    """What a group of parameters counts and sets: some optimizers keep their step there, as a tensor of one number."""
    single = {
        name: value.item() if isinstance(value, Tensor) else value for name, value in group.items() if name != "params"
    }
    return {name: value for name, value in single.items() if isinstance(value, int | float)}


def flatten(state: dict[int, dict[str, Any]]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state as named tensors, and what of it is no tensor."""
    pairs = {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()}
    tensors = {OPTIMIZER + key: value for key, value in pairs.items() if isinstance(value, Tensor)}
    return tensors, {key: value for key, value in pairs.items() if not isinstance(value, Tensor)}


def unflatten(checkpoint: Checkpoint) -> dict[int, dict[str, Any]]:
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**checkpoint.part(OPTIMIZER), **checkpoint.facts["optimizer"]}.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    return state


def check_folder(folder: Path, settings: Settings, resume: bool) -> None:
    """Whether a run may be written there: nothing that it holds is written over."""
    config = folder / "config.yaml"
    begun = any((folder / name).is_file() for name in ("last.safetensors", "metrics.jsonl"))
    if not begun:
        return
    if not config.is_file():
        raise ValueError(f"output={str(folder)!r} holds something else; name another folder")
    if not resume:
        raise ValueError(f"output={str(folder)!r} holds a run; resume it, or name another folder")
    held = yaml.safe_load(config.read_text())
    differ = [name for name, value in asdict(settings).items() if held.get(name) != value]
    if differ:
        raise ValueError(f"output={str(folder)!r} holds a run with another {differ[0]}: {held.get(differ[0])!r}")


def write_lines(folder: Path, lines: list[dict[str, Any]]) -> None:
    half = folder / ".metrics.jsonl.half"
    half.write_text("".join(json.dumps(line) + "\n" for line in lines))
    half.replace(folder / "metrics.jsonl")


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; none where there is no such file yet."""
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def finished(folder: Path) -> Result | None:
    """The result of a run that is done."""
    lines = read_lines(folder)
    return Result(**lines[-1]["test"]) if lines and "test" in lines[-1] else None


def conclude(run: Run, folder: Path, lines: list[dict[str, Any]]) -> Result:
    """Read the test part once, with the weights of the best epoch."""
    checkpoint = read_checkpoint(folder)
    run.answering.load_state_dict(checkpoint.weights)
    part, classes = run.data.test, run.data.classes
    probabilities = run.predict(part)
    write_predictions(folder / "predictions.csv", part, classes, probabilities)
    answers, labels = probabilities.argmax(1), part.labels
    recall = {
        name: accuracy_of(probabilities[labels == index], labels[labels == index])
        for index, name in enumerate(classes)
        if (labels == index).any()
    }
    result = Result(
        (answers == labels).float().mean().item(),
        float(np.mean(list(recall.values()))),
        recall,
        len(checkpoint.facts["lines"]),
        sum(line["seconds"] for line in lines),
    )
    write_lines(folder, [*lines, {"test": asdict(result)}])
    return result


def predicted_right(folder: Path) -> list[bool]:
    """Whether a finished run is right, image by image of the test part."""
    with (folder / "predictions.csv").open(newline="") as file:
        return [line["class"] == line["predicted"] for line in csv.DictReader(file)]


def accuracy_of(probabilities: Tensor, labels: Tensor) -> float:
    return (probabilities.argmax(1) == labels).float().mean().item()


def write_predictions(path: Path, part: Part, classes: tuple[str, ...], probabilities: Tensor) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "class", "predicted", "probability"])
        for name, label, row in zip(part.names, part.labels.tolist(), probabilities, strict=True):
            answer = int(row.argmax())
            table.writerow([name, classes[label], classes[answer], f"{row[answer]:.6f}"])
