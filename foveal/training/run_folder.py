"""Files of a run folder: `metrics.jsonl`, `times.json`, `split.json`, the result of a finished run.

Figures that are read from a run are checked field by field: each has its type and range.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from sys import float_info
from typing import Any

from foveal.core.files import write_file
from foveal.data.parts import PARTS
from foveal.data.text_files import read_text
from foveal.training.class_figures import CLASSES, CONFUSION, CONFUSION_PICTURE
from foveal.training.config import BY_RECIPE, RunConfig
from foveal.training.predictions import PREDICTIONS, predicted_right
from foveal.training.read_config import parse_json, read_config, read_json


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
    absent: list[str] = field(default_factory=list)
    seconds: float = field(default=0.0, compare=False)  # of training; stored in `times.json`, apart from the figures
    calibration_error: float | None = None  # expected, of the predicted classes; None for a run that did not store it


CONFIG, SPLIT, METRICS, TIMES = "config.yaml", "split.json", "metrics.jsonl", "times.json"
LAST, BEST = "last.safetensors", "best.safetensors"
FILES = (CONFIG, SPLIT, METRICS, TIMES, LAST, BEST, PREDICTIONS, CLASSES, CONFUSION, CONFUSION_PICTURE)

TOLERANCE = 1e-5  # of a mean in single precision
Check = tuple[Callable[[Any], bool], str]  # of a value, and what is needed


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= float_info.max


def is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_list(value: Any) -> bool:
    """Return True for a list of strings."""
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


SHARE: Check = (is_share, "a number from 0 to 1")
EPOCH: Check = (is_count, "an epoch from 1")
EPOCH_FIELDS: dict[str, Check] = {
    "epoch": EPOCH,
    "train_loss": (is_number, "a finite number"),
    "validation_accuracy": SHARE,
}
TEST_FIELDS: dict[str, Check] = {
    "accuracy": SHARE,
    "balanced_accuracy": (lambda value: value is None or is_share(value), "a number from 0 to 1, or null"),
    "recall": (
        lambda value: isinstance(value, dict) and bool(value) and all(map(is_share, value.values())),
        "numbers from 0 to 1 by class",
    ),
    "best_epoch": EPOCH,
    "absent": (is_list, "a list of class names"),
    "calibration_error": (lambda value: value is None or is_share(value), "a number from 0 to 1, or null"),
}


def check_fields(place: str, line: Any, fields: Mapping[str, Check]) -> None:
    """Check the figures of one line.

    Raises:
        ValueError: a field is missing, unknown, or out of its range; the message names the file and the field.
    """
    if not isinstance(line, dict):
        raise ValueError(f"{place}: {line!r:.80}; fields {', '.join(fields)} are needed")
    for name, (is_valid, needed) in fields.items():
        if name not in line:
            raise ValueError(f"{place}: the field {name!r} is missing")
        if not is_valid(line[name]):
            raise ValueError(f"{place}: {name}={line[name]!r:.80}; {needed} is needed")
    unknown = next((name for name in line if name not in fields), None)
    if unknown is not None:
        raise ValueError(f"{place}: unknown field {unknown!r:.80}; there are {', '.join(fields)}")


def check_run(folder: Path, config: RunConfig, resume: bool) -> None:
    """Check that a folder holds no run, or one that these settings continue.

    An unfinished run is continued by the same settings. With `resume`, a finished run is one too, and `epochs` may be
    larger than before.

    Raises:
        ValueError: the folder holds a finished run and `resume` is False, or a run with other settings.
    """
    file = folder / CONFIG
    if not file.is_file():
        return
    stored, asked = asdict(read_run_config(file)), asdict(config)
    may_differ = {"epochs"} if resume and asked["epochs"] > stored["epochs"] else set()
    differ = next((name for name, value in asked.items() if stored[name] != value and name not in may_differ), None)
    if differ is not None:
        raise ValueError(
            f"output={str(folder)!r} holds a run with {differ}={stored[differ]!r}, not {asked[differ]!r}; "
            "name another folder, or replace the run with --overwrite"
        )
    if not resume and finished(folder):
        raise ValueError(
            f"output={str(folder)!r} holds a finished run; read it with --resume, replace it with --overwrite, or name "
            "another folder"
        )


def read_run_config(file: Path) -> RunConfig:
    """Read the settings of a run, of which none is left to a recipe.

    Raises:
        ValueError: as `read_config`; a setting that is missing.
    """
    config = read_config(file, RunConfig)
    missing = [name for name in ("recipe", "epochs", "lr", "warmup_epochs") if getattr(config, name) is BY_RECIPE]
    if missing:
        raise ValueError(f"{file}: states no {missing[0]!r}")
    return config


def describe_more_epochs(folder: Path, config: RunConfig) -> str:
    """Describe what more epochs than the folder's run has mean for its schedule; an empty text if it has as many."""
    before, after = read_run_config(folder / CONFIG).epochs, config.epochs
    if after <= before:
        return ""
    return (
        f"{before} epochs become {after}: from the next epoch on, the learning rate is that of a {config.sched} "
        f"schedule over {after} epochs, and the best epoch is chosen and tested again\n"
    )


def delete_run(folder: Path) -> None:
    """Delete the files of a run; other files stay."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def write_lines(folder: Path, lines: list[dict[str, Any]]) -> None:
    write_file(folder / METRICS, "".join(json.dumps(line) + "\n" for line in lines))


def write_times(folder: Path, seconds: list[float]) -> None:
    write_file(folder / TIMES, json.dumps({"seconds": seconds}) + "\n")


def read_times(folder: Path) -> list[float]:
    """Read the training time of each epoch in seconds; an empty list if the file is missing.

    Raises:
        ValueError: a file of another content.
    """
    path = folder / TIMES
    if not path.is_file():
        return []
    seconds = read_json(path).get("seconds")
    if not isinstance(seconds, list) or not all(is_number(each) and each >= 0 for each in seconds):
        raise ValueError(f"{path}: seconds={seconds!r:.80}; a list of numbers of seconds is needed")
    return seconds


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """Read the lines of a run's `metrics.jsonl`; none if there is no such file yet.

    Raises:
        ValueError: a line that is no JSON, or a figure out of its range.
    """
    path = folder / METRICS
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(read_text(path).splitlines() if path.is_file() else [], start=1):
        place = f"{path}, line {number}"
        line = parse_json(place, text)
        if lines and "test" in lines[-1]:
            raise ValueError(f"{place}: a line after that of the test part")
        if isinstance(line, dict) and "test" in line:
            check_test(place, line["test"], number - 1)
        else:
            check_epoch(place, line, number)
        lines.append(line)
    return lines


def check_epoch(place: str, line: Any, number: int) -> None:
    """Check the figures of an epoch, the `number`-th.

    Raises:
        ValueError: a figure out of its range, or another epoch.
    """
    check_fields(place, line, EPOCH_FIELDS)
    if line["epoch"] != number:
        raise ValueError(f"{place}: epoch={line['epoch']!r:.80}; the epochs from 1 on are needed, in order")


def check_test(place: str, test: Any, epochs: int) -> None:
    """Check the figures of the test part, and those that follow from others.

    Raises:
        ValueError: a figure out of its range, or one that does not agree with the others.
    """
    later: dict[str, Any] = {"absent": [], "calibration_error": None}  # fields that older versions did not write
    check_fields(f"{place}, test", {**later, **test} if isinstance(test, dict) else test, TEST_FIELDS)
    if test["best_epoch"] > epochs:
        raise ValueError(f"{place}, test: best_epoch={test['best_epoch']} of {epochs} epochs")
    recall, balanced = test["recall"].values(), test["balanced_accuracy"]
    if balanced is not None and abs(balanced - sum(recall) / len(recall)) > TOLERANCE:
        raise ValueError(f"{place}, test: balanced_accuracy={balanced} is not the mean of recall")
    if not min(recall) - TOLERANCE <= test["accuracy"] <= max(recall) + TOLERANCE:
        raise ValueError(f"{place}, test: accuracy={test['accuracy']} is not between the least and largest recall")


def finished(folder: Path, epochs: int = 0) -> Result | None:
    """Read the result of a finished run; None if it is not finished, or has fewer epochs.

    Raises:
        ValueError: a figure out of its range, or one that does not agree with `predictions.csv`.
    """
    lines = read_lines(folder)
    if not lines or "test" not in lines[-1] or len(lines) - 1 < epochs:
        return None
    result = Result(**lines[-1]["test"], seconds=sum(read_times(folder)))
    if (folder / PREDICTIONS).is_file():
        right = predicted_right(folder)
        accuracy = sum(right.values()) / len(right)
        if abs(accuracy - result.accuracy) > TOLERANCE:
            raise ValueError(
                f"{folder / METRICS}, test: accuracy={result.accuracy}, and predictions.csv has {accuracy:.6g}"
            )
        return replace(result, accuracy=accuracy)  # exact, also where an older version stored single precision
    return result


def read_split(folder: Path) -> dict[str, Any]:
    """Read a run's `split.json`: names of images by part, their folder, reasons by skipped file, and notes.

    Raises:
        ValueError: another file.
    """
    path = folder / SPLIT
    stated = {"root": None, "notes": {}, **read_json(path)}
    for part in PARTS:
        if not is_list(stated.get(part)):
            raise ValueError(f"{path}: {part}={stated.get(part)!r:.80}; a list of names is needed")
    if not isinstance(stated["root"], str | None):
        raise ValueError(f"{path}: root={stated['root']!r:.80}; a path or null is needed")
    for key in ("skipped", "notes"):
        texts = stated.get(key)
        if not isinstance(texts, dict) or not is_list([*texts.values()]):
            raise ValueError(f"{path}: {key}={texts!r:.80}; texts by file are needed")
    return stated
