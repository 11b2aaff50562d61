"""Predictions for files, folders or a data set, written as a CSV file while they are made."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from foveal.data.image_files import SUFFIXES
from foveal.data.load_data import names_reader
from foveal.training.loaded_model import LoadedModel, Predictions
from foveal.training.predict import Answer, PredictedBatch, check_any
from foveal.training.predictions import mean_average_precision_of, prediction_head, prediction_rows, write_rows

OnBatch = Callable[[PredictedBatch, int, int], None]


@dataclass
class PredictedFile:
    """A CSV file of predictions.

    Attributes:
        path: of the file.
        images: number of images.
        right: number of right predictions; None where the classes are not known, or an image has any number of them.
        skipped: images that could not be read, with the reason.
        notes: file, or kind of files, to how it was read.
        mean_average_precision: of images that have any number of classes, where these are known.
    """

    path: Path
    images: int
    right: int | None
    skipped: dict[str, str]
    notes: dict[str, str]
    mean_average_precision: float | None = None


def predict_to_file(
    model: LoadedModel,
    images: Sequence[str],
    output: Path,
    *,
    top: int = 1,
    workers: int = 0,
    answer: Answer | None = None,
    on_batch: OnBatch = lambda batch, done, of: None,
) -> PredictedFile:
    """Predict images and write a line for each; memory does not grow with their number.

    Args:
        model: the network.
        images: image files and folders of image files; or one data set, whose test part is predicted.
        output: the CSV file: image, class (of a data set), predicted, probability, predicted_2, and so on; of a
            multi-label network image, labels (of a data set), predicted, and a probability of each class.
        top: number of classes in a line; 1 of a multi-label network.
        workers: number of processes that read image files.
        answer: function that is called with each batch of images instead of `model.answers`.
        on_batch: called with each batch, and the numbers of images done and of all.

    Raises:
        ValueError: no image that can be read; more classes in a line than the network has; unknown data.
    """
    if top < 1 or (model.classes and top > len(model.classes)):
        most = f" to {len(model.classes)}, the number of classes," if model.classes else " on"
        raise ValueError(f"top={top}: a number from 1{most} is needed")
    if model.multi_label and top > 1:
        raise ValueError(f"top={top}: a line of a multi-label network holds every class; leave it out")
    notes: dict[str, str] = {}
    data = model.load_data(images[0]) if len(images) == 1 and names_data(images[0]) else None
    if data is not None:
        data.check_kind(model.multi_label)  # also of a network by name
        notes = data.remarks
    predictions = model.predictions(list(images) if data is None else data.test, workers=workers, answer=answer)
    classes = model.classes or (data.classes if data is not None else ())
    counts = PredictedFile(output, 0, None if data is None or model.multi_label else 0, predictions.skipped, notes)
    rows = lines(predictions, classes, top, counts, on_batch)
    head = prediction_head(data is not None, top, multi_label=classes if model.multi_label else None)
    write_rows(output, head, rows)
    if data is not None and model.multi_label:
        counts.mean_average_precision = mean_average_precision_of(output)
    if data is not None:
        counts.skipped = {**data.skipped, **counts.skipped}
    return counts


def names_data(text: str) -> bool:
    """Return True for the name of a data set; False for a path of an image file or a folder."""
    path = Path(text)
    return names_reader(text) or (not path.is_dir() and path.suffix.lower() not in SUFFIXES)


def lines(
    predictions: Predictions,
    classes: Sequence[str],
    top: int,
    counts: PredictedFile,
    on_batch: OnBatch,
) -> Iterator[list[str]]:
    """Return the lines of the file, and count images and right predictions."""
    for batch in predictions:
        outputs = batch.answers.logits.shape[1]
        if top > outputs:
            raise ValueError(f"top={top}: the network has {outputs} outputs")
        names = [*classes, *map(str, range(len(classes), outputs))]
        yield from prediction_rows(batch.names, batch.labels, batch.answers, names, top)
        counts.images += len(batch.names)
        if batch.labels is not None and counts.right is not None:
            counts.right += int((batch.answers.classes() == batch.labels).sum())
        on_batch(batch, counts.images, len(predictions))
    check_any(counts.images, predictions.skipped)
