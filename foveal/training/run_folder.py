"""Files of a run folder: `metrics.jsonl`, `times.json`, `split.json`, the result of a finished run.

Figures that are read from a run are checked, see `foveal.training.run_figures`.
"""

import json
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from foveal.core.files import write_file
from foveal.data.parts import PARTS
from foveal.data.text_files import read_text
from foveal.training.class_figures import CLASSES, CONFUSION, CONFUSION_PICTURE
from foveal.training.config import BY_RECIPE, RunConfig
from foveal.training.predictions import PREDICTIONS, mean_average_precision_of, predicted_right
from foveal.training.read_config import parse_json, read_config, read_json
from foveal.training.run_figures import TOLERANCE, MultiLabelResult, Result, check_epoch, check_test, is_list, is_number
from foveal.training.tensorboard import delete_events

CONFIG, SPLIT, METRICS, TIMES = "config.yaml", "split.json", "metrics.jsonl", "times.json"
LAST, BEST = "last.safetensors", "best.safetensors"
FILES = (CONFIG, SPLIT, METRICS, TIMES, LAST, BEST, PREDICTIONS, CLASSES, CONFUSION, CONFUSION_PICTURE)


def is_duration(value: Any) -> bool:
    return is_number(value) and value >= 0


def is_speed(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_duration, value.values()))


def check_run(folder: Path, config: RunConfig, resume: bool) -> None:
    """Check that a folder holds no run, or one that these settings continue.

    An unfinished run is continued by the same settings, with TensorBoard or without. With `resume`, a finished run is
    one too, and `epochs` may be larger than before.

    Raises:
        ValueError: the folder holds a finished run and `resume` is False, or a run with other settings.
    """
    file = folder / CONFIG
    if not file.is_file():
        return
    may_differ = {"epochs"} if resume and config.epochs > read_run_config(file).epochs else set()
    if not finished(folder, config.epochs):
        may_differ.add("tensorboard")  # no figure depends on it
    check_same_settings(folder, config, may_differ)
    if not resume and finished(folder):
        raise ValueError(
            f"output={str(folder)!r} holds a finished run; read it with --resume, replace it with --overwrite, or name "
            "another folder"
        )


def check_same_settings(folder: Path, config: RunConfig, may_differ: Collection[str] = ()) -> None:
    """Check that a folder holds no run, or one with these settings, of which some may differ.

    Raises:
        ValueError: a run with another setting.
    """
    file = folder / CONFIG
    if not file.is_file():
        return
    stored, asked = asdict(read_run_config(file)), asdict(config)
    differ = next((name for name, value in asked.items() if stored[name] != value and name not in may_differ), None)
    if differ is not None:
        raise ValueError(
            f"output={str(folder)!r} holds a run with {differ}={stored[differ]!r}, not {asked[differ]!r}; "
            "name another folder, or replace the run with --overwrite"
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
    delete_events(folder)


def write_lines(folder: Path, lines: list[dict[str, Any]]) -> None:
    write_file(folder / METRICS, "".join(json.dumps(line) + "\n" for line in lines))


def write_times(folder: Path, seconds: list[float], speed: list[dict[str, float]]) -> None:
    write_file(folder / TIMES, json.dumps({"seconds": seconds, "speed": speed}) + "\n")


def read_times(folder: Path) -> list[float]:
    """Read the training time of each epoch in seconds; an empty list if the file is missing.

    Raises:
        ValueError: a file of another content.
    """
    return checked_times(folder, "seconds", is_duration, "a list of numbers of seconds")


def read_speed(folder: Path) -> list[dict[str, float]]:
    """Read each epoch's figures of speed.

    `images_per_second`; `waiting`, the share of the time in which training waited for data; and `processor_seconds`, in
    which threads of the process worked (of the first process, and without those that load data).

    Raises:
        ValueError: a file of another content.
    """
    return checked_times(folder, "speed", is_speed, "a list of numbers by name")


def read_processor_seconds(folder: Path) -> float | None:
    """Add up the `processor_seconds` of all epochs; None if an epoch, of an older version, lacks them."""
    seconds = [epoch.get("processor_seconds") for epoch in read_speed(folder)]
    known = [each for each in seconds if each is not None]
    return sum(known) if known and len(known) == len(seconds) else None


def checked_times(folder: Path, name: str, is_valid: Callable[[Any], bool], needed: str) -> list[Any]:
    """Read a list, one value an epoch, from `times.json`; an empty list without the file, or of an older version."""
    path = folder / TIMES
    values = {"speed": [], **read_json(path)}.get(name) if path.is_file() else []
    if not isinstance(values, list) or not all(map(is_valid, values)):
        raise ValueError(f"{path}: {name}={values!r:.80}; {needed} is needed")
    return values


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


def finished(folder: Path, epochs: int = 0) -> Result | MultiLabelResult | None:
    """Read the result of a finished run; None if it is not finished, or has fewer epochs.

    Raises:
        ValueError: a figure out of its range, or one that does not agree with `predictions.csv`.
    """
    lines = read_lines(folder)
    if not lines or "test" not in lines[-1] or len(lines) - 1 < epochs:
        return None
    test, seconds = lines[-1]["test"], sum(read_times(folder))
    if "mean_average_precision" in test:
        check_mean(folder, test)
        return MultiLabelResult(**test, seconds=seconds)
    result = Result(**test, seconds=seconds)
    if (folder / PREDICTIONS).is_file():
        right = predicted_right(folder)
        accuracy = sum(right.values()) / len(right)
        if abs(accuracy - result.accuracy) > TOLERANCE:
            raise ValueError(
                f"{folder / METRICS}, test: accuracy={result.accuracy}, and predictions.csv has {accuracy:.6g}"
            )
        return replace(result, accuracy=accuracy)  # exact, also where an older version stored single precision
    return result


def check_mean(folder: Path, test: dict[str, Any]) -> None:
    """Check that a mean average precision agrees with `predictions.csv`, if there is this file."""
    path, mean = folder / PREDICTIONS, test["mean_average_precision"]
    if not path.is_file():
        return
    own = mean_average_precision_of(path)
    if abs(own - mean) > TOLERANCE:
        raise ValueError(f"{folder / METRICS}, test: mean_average_precision={mean}, and predictions.csv has {own:.6g}")


def read_split(folder: Path) -> dict[str, Any]:
    """Read a run's `split.json`: names of images by part, their folder, the labels' digest, skipped files, and notes.

    Raises:
        ValueError: another file.
    """
    path = folder / SPLIT
    stated = {"root": None, "labels": None, "notes": {}, **read_json(path)}
    for part in PARTS:
        if not is_list(stated.get(part)):
            raise ValueError(f"{path}: {part}={stated.get(part)!r:.80}; a list of names is needed")
    for key, needed in (("root", "a path"), ("labels", "a digest")):
        if not isinstance(stated[key], str | None):
            raise ValueError(f"{path}: {key}={stated[key]!r:.80}; {needed} or null is needed")
    for key in ("skipped", "notes"):
        texts = stated.get(key)
        if not isinstance(texts, dict) or not is_list([*texts.values()]):
            raise ValueError(f"{path}: {key}={texts!r:.80}; texts by file are needed")
    return stated
