"""Files of a run folder: `metrics.jsonl`, `predictions.csv`, the result of a finished run.

Figures that are read from a run are checked field by field: each has its type and range.
"""

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from foveal.core.answers import Answers
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


TOLERANCE = 1e-5  # of a mean in single precision
Check = tuple[Callable[[Any], bool], str]  # of a value, and what is needed


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


SHARE: Check = (is_share, "a number from 0 to 1")
SECONDS: Check = (lambda value: is_number(value) and value >= 0, "a number of seconds")
EPOCH: Check = (is_count, "an epoch from 1")
EPOCH_FIELDS: dict[str, Check] = {
    "epoch": EPOCH,
    "train_loss": (is_number, "a finite number"),
    "validation_accuracy": SHARE,
    "seconds": SECONDS,
}
TEST_FIELDS: dict[str, Check] = {
    "accuracy": SHARE,
    "balanced_accuracy": (lambda value: value is None or is_share(value), "a number from 0 to 1, or null"),
    "recall": (
        lambda value: isinstance(value, dict) and bool(value) and all(map(is_share, value.values())),
        "numbers from 0 to 1 by class",
    ),
    "best_epoch": EPOCH,
    "seconds": SECONDS,
    "absent": (
        lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
        "a list of class names",
    ),
}


def check_fields(place: str, line: Any, fields: Mapping[str, Check]) -> None:
    """Check the figures of one line.

    Raises:
        ValueError: a field is missing, unknown, or out of its range; the message names the file and the field.
    """
    if not isinstance(line, dict):
        raise ValueError(f"{place}: {line!r}; fields {', '.join(fields)} are needed")
    for name, (is_valid, needed) in fields.items():
        if name not in line:
            raise ValueError(f"{place}: the field {name!r} is missing")
        if not is_valid(line[name]):
            raise ValueError(f"{place}: {name}={line[name]!r}; {needed} is needed")
    unknown = next((name for name in line if name not in fields), None)
    if unknown is not None:
        raise ValueError(f"{place}: unknown field {unknown!r}; there are {', '.join(fields)}")


def check_folder(folder: Path, config: RunConfig, resume: bool) -> None:
    """Check that a run may be written into a folder: nothing in it is overwritten.

    Raises:
        ValueError: the folder holds a run that is not to be resumed, one with other settings, or something else.
    """
    file = folder / "config.yaml"
    begun = any((folder / name).is_file() for name in ("last.safetensors", "metrics.jsonl"))
    if not begun:
        return
    if not file.is_file():
        raise ValueError(f"output={str(folder)!r} holds something else; name another folder")
    if not resume:
        raise ValueError(f"output={str(folder)!r} holds a run; resume it, or name another folder")
    stored = yaml.safe_load(file.read_text())
    differ = [name for name, value in asdict(config).items() if stored.get(name) != value]
    if differ:
        raise ValueError(f"output={str(folder)!r} holds a run with another {differ[0]}: {stored.get(differ[0])!r}")


def write_lines(folder: Path, lines: list[dict[str, Any]]) -> None:
    half = folder / ".metrics.jsonl.half"
    half.write_text("".join(json.dumps(line) + "\n" for line in lines))
    half.replace(folder / "metrics.jsonl")


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """Read the lines of a run's `metrics.jsonl`; none if there is no such file yet.

    Raises:
        ValueError: a line that is no JSON, or a figure out of its range.
    """
    path = folder / "metrics.jsonl"
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(path.read_text().splitlines() if path.is_file() else [], start=1):
        place = f"{path}, line {number}"
        try:
            line = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{place}: no JSON: {error}") from error
        if isinstance(line, dict) and "test" in line:
            check_test(place, line["test"], number - 1)
        else:
            check_fields(place, line, EPOCH_FIELDS)
        lines.append(line)
    return lines


def check_test(place: str, test: Any, epochs: int) -> None:
    """Check the figures of the test part, and those that follow from others.

    Raises:
        ValueError: a figure out of its range, or one that does not agree with the others.
    """
    check_fields(f"{place}, test", {"absent": [], **test} if isinstance(test, dict) else test, TEST_FIELDS)
    if test["best_epoch"] > epochs:
        raise ValueError(f"{place}, test: best_epoch={test['best_epoch']} of {epochs} epochs")
    recall, balanced = test["recall"].values(), test["balanced_accuracy"]
    if balanced is not None and abs(balanced - sum(recall) / len(recall)) > TOLERANCE:
        raise ValueError(f"{place}, test: balanced_accuracy={balanced} is not the mean of recall")
    if not min(recall) - TOLERANCE <= test["accuracy"] <= max(recall) + TOLERANCE:
        raise ValueError(f"{place}, test: accuracy={test['accuracy']} is not between the least and largest recall")


def finished(folder: Path) -> Result | None:
    """Read the result of a finished run; None if it is not finished.

    Raises:
        ValueError: a figure out of its range, or one that does not agree with `predictions.csv`.
    """
    lines = read_lines(folder)
    if not lines or "test" not in lines[-1]:
        return None
    result = Result(**lines[-1]["test"])
    if (folder / "predictions.csv").is_file():
        right = predicted_right(folder)
        accuracy = sum(right) / len(right)
        if abs(accuracy - result.accuracy) > TOLERANCE:
            raise ValueError(
                f"{folder / 'metrics.jsonl'}, test: accuracy={result.accuracy}, and predictions.csv has {accuracy:.6g}"
            )
        return replace(result, accuracy=accuracy)  # exact, also where an older version stored single precision
    return result


def predicted_right(folder: Path) -> list[bool]:
    """Read for each test image of a finished run whether its prediction is right.

    Raises:
        ValueError: a file without predictions.
    """
    path = folder / "predictions.csv"
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    broken = next(
        (index for index, line in enumerate(lines, 2) if not (line.get("class") and line.get("predicted"))), 0
    )
    if broken or not lines:
        raise ValueError(f"{path}, line {broken or 1}: the fields 'class' and 'predicted' are needed")
    return [line["class"] == line["predicted"] for line in lines]


def write_predictions(path: Path, part: Part, classes: tuple[str, ...], answers: Answers) -> None:
    predicted = answers.classes()
    rows = zip(part.names, part.labels, predicted, answers.probabilities_of(predicted), strict=True)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "class", "predicted", "probability"])
        for name, label, answer, probability in rows:
            table.writerow([name, classes[label], classes[answer], f"{probability:.6f}"])
