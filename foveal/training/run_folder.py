"""Files of a run folder: `metrics.jsonl`, `predictions.csv`, the result of a finished run."""

import csv
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from foveal.data.parts import Part
from foveal.training.config import RunConfig


@dataclass(frozen=True)
class Result:
    """Figures of a finished run on its test part.

    The balanced accuracy is the mean recall over all classes of the data. It is None where the test part holds no image
    of a class; `recall` lists the classes with test images, and `absent` the others.
    """

    accuracy: float
    balanced_accuracy: float | None
    recall: dict[str, float]  # by class
    best_epoch: int  # from 1
    seconds: float  # of training
    absent: list[str] = field(default_factory=list)


def check_folder(folder: Path, config: RunConfig, resume: bool) -> None:
    """Whether a run may be written there: nothing that it holds is written over."""
    file = folder / "config.yaml"
    begun = any((folder / name).is_file() for name in ("last.safetensors", "metrics.jsonl"))
    if not begun:
        return
    if not file.is_file():
        raise ValueError(f"output={str(folder)!r} holds something else; name another folder")
    if not resume:
        raise ValueError(f"output={str(folder)!r} holds a run; resume it, or name another folder")
    held = yaml.safe_load(file.read_text())
    differ = [name for name, value in asdict(config).items() if held.get(name) != value]
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


def predicted_right(folder: Path) -> list[bool]:
    """Whether a finished run is right, image by image of the test part."""
    with (folder / "predictions.csv").open(newline="") as file:
        return [line["class"] == line["predicted"] for line in csv.DictReader(file)]


def write_predictions(path: Path, part: Part, classes: tuple[str, ...], probabilities: Tensor) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "class", "predicted", "probability"])
        for name, label, row in zip(part.names, part.labels.tolist(), probabilities, strict=True):
            answer = int(row.argmax())
            table.writerow([name, classes[label], classes[answer], f"{row[answer]:.6f}"])
