"""Training runs: epochs, the choice of the best one, the test part, and the files of the run folder.

Started by torchrun, several processes train one network (`foveal.training.processes`), and one of them writes.
With a moving average of the weights (`ema`), the average is evaluated on the validation part and on the test part, and
is stored in `best.safetensors`. Files of a run folder:

    config.yaml         the settings
    split.json          the images of each part, the files left out, and notes on how files were read
    metrics.jsonl       one line an epoch; the last line holds the figures of the test part
    times.json          each epoch's seconds, images a second, share of the time in which training waited for data, and
                        seconds of the processor: apart from the figures, which are the same in a repeated run
    last.safetensors    to resume: weights, their moving average and the optimizer's state
    best.safetensors    to use: the weights of the best epoch on the validation part, and all that builds the network
    predictions.csv     one line for each test image
    classes.csv         one line for each class: test images, precision, recall, F1
    confusion.csv       test images by class (rows) and predicted class (columns)
    tensorboard/        the lines of metrics.jsonl for TensorBoard, if the settings ask for it

Of multi-label data, where an image has any number of classes, the best epoch is that of the largest mean average
precision, `classes.csv` has the average precision of each class, and there is no `confusion.csv`.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import yaml

from foveal.core.files import output_path, write_file
from foveal.core.folders import check_folder_is_ours, locked_folder
from foveal.core.functions import Functions, import_functions
from foveal.data.folder import with_auto_augment
from foveal.data.load_data import load_data
from foveal.data.parts import Data
from foveal.training.checkpoint import read_checkpoint
from foveal.training.class_figures import write_figures
from foveal.training.config import RunConfig, TrainConfig
from foveal.training.criterion import check_mixing
from foveal.training.evaluate import evaluate_answers, validation_figures
from foveal.training.load_model import check_finite
from foveal.training.predictions import write_predictions
from foveal.training.processes import ending_together
from foveal.training.recipes import resolve
from foveal.training.resumable import check_network, check_tested
from foveal.training.run_figures import MultiLabelResult, Result, validation_figure
from foveal.training.run_folder import (
    BEST,
    CONFIG,
    LAST,
    SPLIT,
    check_run,
    delete_run,
    finished,
    read_speed,
    read_split,
    read_times,
    write_lines,
    write_times,
)
from foveal.training.stored_split import digest_of, facts_of
from foveal.training.tensorboard import EventFiles, check_tensorboard
from foveal.training.trainer import OnStep, Trainer

OnEpoch = Callable[[dict[str, Any]], None]  # called with an epoch's figures and seconds


def train(
    config: RunConfig,
    output: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    functions: Functions | None = None,
    on_step: OnStep = lambda done, of: None,
    on_epoch: OnEpoch = lambda line: None,
) -> Result | MultiLabelResult:
    """Train a network, choose its best epoch on the validation part, and evaluate that epoch once on the test part.

    An unfinished run with the same settings in the folder is continued after its last epoch.

    Args:
        config: settings of the run.
        output: folder of the run.
        resume: return the stored result of a finished run, or continue it if `config.epochs` is larger.
        overwrite: replace a run in the folder, or files that foveal did not write.
        functions: functions by the name, `module:function`, that `config` has for them in `model` (alone or with
            attention) or `data`; another one that it names is imported. See `foveal.networks.own`, `foveal.data.own`.
        on_step: called with the numbers of steps done and of all.
        on_epoch: called with each epoch's line of `metrics.jsonl`, its `seconds`, `images_per_second`, `waiting` and
            `processor_seconds`.

    Returns:
        The figures of the test part. The balanced accuracy is None where a class has no test image; of multi-label data
        the figures are average precisions.

    Raises:
        ValueError: other files in the folder, another process that writes there, a finished run, or one with other
            settings, other images or impossible figures; unknown data or network; a package that a setting needs.
        FloatingPointError: the loss is not finite.
        ConnectionError: another process of the run, which torchrun started, has ended.

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
    folder = output_path(output)
    check_tensorboard(config)
    check_folder_is_ours(folder, overwrite)
    functions = functions_of(config, functions or {})
    data = load_images(config, functions, config.data_seed) if overwrite or not (folder / SPLIT).is_file() else None
    config = resolve(config, config.model, len(read_split(folder)["train"] if data is None else data.train))
    if not overwrite:
        check_run(folder, config, resume)
        if result := finished(folder, config.epochs):
            return result
        check_network(folder, config)
    with ending_together():
        run = Trainer(config, load_images(config, functions, config.data_seed) if data is None else data, functions)
        with taken_folder(run, folder, overwrite):
            check_run(folder, config, resume)  # again: another command may have written since
            return evaluate_test(run, folder, run_epochs(run, folder, on_step, on_epoch))


@contextmanager
def taken_folder(run: Trainer, folder: Path, overwrite: bool = False) -> Iterator[None]:
    """Take the folder in the main process, before others read it; wait for it at the end."""
    run.processes.check_same({**asdict(run.config), "images": fingerprint(run.data), "the folder": str(folder)})
    with locked_folder(folder, overwrite) if run.processes.main else nullcontext():
        if overwrite and run.processes.main:
            delete_run(folder)
        run.processes.wait()
        try:
            yield
        finally:
            if run.events is not None:
                run.events.close()
        run.processes.wait()


def train_epochs(
    config: RunConfig, folder: Path, functions: Functions, on_epoch: OnEpoch = lambda line: None
) -> list[dict[str, Any]]:
    """Train the epochs that the folder's run lacks, and return the lines of all. The test part is not read."""
    check_network(folder, config)
    functions = functions_of(config, functions)
    run = Trainer(config, load_images(config, functions, config.data_seed), functions)
    with taken_folder(run, folder):
        return run_epochs(run, folder, lambda done, of: None, on_epoch)


def functions_of(config: RunConfig, functions: Functions) -> Functions:
    """Return the functions that the network and the data of a run name."""
    return import_functions((config.model.partition("+")[0], config.data), functions)


def load_images(config: TrainConfig, functions: Functions, data_seed: int = 0) -> Data:
    """Load the data of a run, with the augmentation of its training images."""
    source = functions.get(config.data, config.data)
    data = load_data(source, image_size=config.image_size, groups=config.groups, seed=data_seed)
    check_mixing(config, data)
    return data if config.aa is None else with_auto_augment(data, config.aa)


def run_epochs(run: Trainer, folder: Path, on_step: OnStep, on_epoch: OnEpoch) -> list[dict[str, Any]]:
    """Train the epochs that the folder's run lacks, and return the lines of all; the folder is locked."""
    lines = run.restore(folder) if (folder / LAST).is_file() else []
    run.processes.check_same({"epochs done": len(lines)})
    seconds, speed = read_times(folder)[: len(lines)], read_speed(folder)[: len(lines)]
    speed += [{}] * (len(seconds) - len(speed))  # of epochs of an older version
    if run.processes.main:
        write_file(folder / CONFIG, yaml.safe_dump(asdict(run.config), sort_keys=False))
        write_split(folder, run)
        run.events = EventFiles(folder) if run.config.tensorboard else None
        write_metrics(run, folder, lines)
    for epoch in range(len(lines), run.config.epochs):
        begin, work = time.perf_counter(), time.process_time()
        loss = run.train_epoch(epoch, on_step)
        answers, read = run.predict(run.data.validation)
        run.share_unread(run.data.train)
        found = validation_figures(answers, run.data.validation.labels[read])
        lines.append({"epoch": epoch + 1, "train_loss": loss, **found})
        seconds.append(time.perf_counter() - begin)
        speed.append({**run.speed, "processor_seconds": time.process_time() - work})
        if run.processes.main:
            write_times(folder, seconds, speed)
            store_epoch(run, folder, lines)
        on_epoch({**lines[-1], "seconds": seconds[-1], **speed[-1]})
    return lines


def store_epoch(run: Trainer, folder: Path, lines: list[dict[str, Any]]) -> None:
    """Write the last one of the epochs that are done: also as the best one, if it is."""
    *earlier, figure = map(validation_figure, lines)
    if figure > max(earlier, default=-1.0):
        run.save(folder / BEST, lines=lines)
    run.save(folder / LAST, lines=lines, to_go_on=True)
    write_metrics(run, folder, lines)
    if run.unread.reasons:
        write_split(folder, run)


def evaluate_test(run: Trainer, folder: Path, lines: list[dict[str, Any]]) -> Result | MultiLabelResult:
    """Evaluate the weights of the best epoch on the test part; write predictions and the last line."""
    run.processes.wait()  # until the best weights are stored
    checkpoint = read_checkpoint(folder)
    check_finite(checkpoint.weights, folder / BEST)
    check_tested(str(folder / BEST), checkpoint, run.answering)
    run.answering.load_state_dict(checkpoint.weights)
    part = run.data.test
    answers, read = run.predict(part)
    labels = part.labels[read]
    result, figures, matrix = evaluate_answers(labels, answers, run.data.classes, len(checkpoint.facts["lines"]))
    if run.processes.main:
        write_split(folder, run)
        names = part.names
        write_predictions(folder, [names[index] for index in read.tolist()], labels, run.data.classes, answers)
        write_figures(folder, figures, matrix)
        line = {name: value for name, value in asdict(result).items() if name != "seconds"}
        write_metrics(run, folder, [*lines, {"test": line}])
    return replace(result, seconds=sum(read_times(folder)))


def write_metrics(run: Trainer, folder: Path, lines: list[dict[str, Any]]) -> None:
    """Write the lines of a run to `metrics.jsonl` and, if the settings ask for it, for TensorBoard."""
    write_lines(folder, lines)
    if run.events is not None:
        run.events.write(lines)


def fingerprint(data: Data) -> int:
    """Return a number that other images, labels or preprocessing, or the same images in other parts, seldom have."""
    return crc32(json.dumps([data.split, digest_of(data), asdict(data.preprocessing)]).encode())


def write_split(folder: Path, run: Trainer) -> None:
    """Write `split.json`, with the images that could not be read so far."""
    facts = facts_of(run.data)
    unread = {name: f"left out while it was used: {reason}" for name, reason in run.unread.reasons.items()}
    write_file(folder / SPLIT, json.dumps({**facts, "skipped": facts["skipped"] | unread}))
