"""Predictions as CSV files: `predictions.csv` of a run's test part, and those of any images.

A line holds the image, its class where it is known, and the most probable classes, each with its probability. Where an
image has any number of classes, it holds their names, joined by `|`, those of the classes with a probability above 0.5,
and the probability of each class.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveal.core.answers import Answers
from foveal.core.files import whole_file
from foveal.core.names import as_cell
from foveal.data.labels import SEPARATOR, encode
from foveal.data.text_files import read_csv
from foveal.evaluation.multi_label import figures_by_class, mean_average_precision

PREDICTIONS = "predictions.csv"
FIELDS = ("image", "class", "predicted")
MULTI_LABEL_FIELDS = ("image", "labels", "predicted")
OF_CLASS = "probability of "  # before the name of a class, in the head of a column
Row = Sequence[Any]


def write_rows(path: Path, head: Row, rows: Iterable[Row]) -> Path:
    """Write a CSV file whole, while its rows are made one by one; return its path."""
    with whole_file(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(head)
        table.writerows(rows)
    return path


def predicted_classes(answers: Answers, classes: Sequence[str]) -> list[str]:
    """Return the name of each image's most probable class; of a multi-label model those of its classes, joined."""
    if answers.multi_label:
        return joined(answers.present(), classes)
    return [classes[index] for index in answers.classes().tolist()]


def joined(present: Tensor, classes: Sequence[str]) -> list[str]:
    """Return the names of the classes of each image, in one text, from (B, K)."""
    return [SEPARATOR.join(name for name, has in zip(classes, row, strict=True) if has) for row in present.tolist()]


def prediction_head(labelled: bool, top: int = 1, multi_label: Sequence[str] | None = None) -> list[str]:
    """Return the names of the columns.

    Args:
        labelled: whether the classes of the images are known.
        top: number of most probable classes in a line.
        multi_label: the names of all classes, where an image has any number of them.
    """
    if multi_label is not None:
        return ["image", *(["labels"] if labelled else []), "predicted", *(f"{OF_CLASS}{name}" for name in multi_label)]
    numbers = ["", *(f"_{place}" for place in range(2, top + 1))]
    guesses = [f"{name}{number}" for number in numbers for name in ("predicted", "probability")]
    return ["image", *(["class"] if labelled else []), *guesses]


def prediction_rows(
    names: Iterable[str], labels: Tensor | None, answers: Answers, classes: Sequence[str], top: int = 1
) -> Iterator[list[str]]:
    """Return a line for each image of a batch.

    Args:
        names: of the images.
        labels: (B,), of a multi-label network (B, K), or None where they are not known.
        answers: of the network.
        classes: names of the K classes.
        top: number of classes in a line; a line of a multi-label network holds all.
    """
    if answers.multi_label:
        yield from multi_label_rows(names, labels, answers, classes)
        return
    order, chances = answers.top(top)
    known = [[]] * len(order) if labels is None else [[as_cell(classes[label])] for label in labels.tolist()]
    for name, label, indices, values in zip(names, known, order.tolist(), chances.tolist(), strict=True):
        pairs = zip(indices, values, strict=True)
        yield [as_cell(name), *label, *(cell for i, p in pairs for cell in (as_cell(classes[i]), f"{p:.6f}"))]


def multi_label_rows(
    names: Iterable[str], labels: Tensor | None, answers: Answers, classes: Sequence[str]
) -> Iterator[list[str]]:
    """Return a line for each image of a batch; the digits of a probability are all that single precision has."""
    known = [[]] * len(answers.logits) if labels is None else [[as_cell(text)] for text in joined(labels, classes)]
    predicted = joined(answers.present(), classes)
    for name, label, text, chances in zip(names, known, predicted, answers.probabilities().tolist(), strict=True):
        yield [as_cell(name), *label, as_cell(text), *(f"{chance:.9g}" for chance in chances)]


def write_predictions(
    folder: Path, names: Sequence[str], labels: Tensor, classes: Sequence[str], answers: Answers
) -> None:
    """Write `predictions.csv` of a run's test part."""
    head = prediction_head(labelled=True, multi_label=classes if answers.multi_label else None)
    write_rows(folder / PREDICTIONS, head, prediction_rows(names, labels, answers, classes))


def predicted_right(folder: Path) -> dict[str, bool]:
    """Read for each test image of a finished run, by its name, whether its prediction is right.

    Raises:
        ValueError: a file without predictions.
    """
    path = folder / PREDICTIONS
    head, *rows = read_csv(path) or [[]]
    lines = [dict(zip(head, row, strict=False)) for row in rows]
    broken = next((index for index, line in enumerate(lines, 2) if not all(line.get(field) for field in FIELDS)), 0)
    if broken or not lines:
        raise ValueError(f"{path}, line {broken or 1}: the fields 'image', 'class' and 'predicted' are needed")
    right = {line["image"]: line["class"] == line["predicted"] for line in lines}
    if len(right) != len(lines):
        raise ValueError(f"{path}: an image has two lines")
    return right


def names_in(cell: str, classes: Sequence[str]) -> frozenset[str]:
    """Return the classes in a cell that `joined` made and `as_cell` changed."""
    names = cell.split(SEPARATOR) if cell else []
    return frozenset(names if all(name in classes for name in names) else cell.removeprefix("'").split(SEPARATOR))


def read_multi_label(path: Path) -> tuple[list[str], Tensor, Tensor]:
    """Read a file of multi-label predictions with known classes.

    Returns:
        The names of the classes, the classes of each image, (N, K) of 0 and 1, and its probabilities, (N, K).

    Raises:
        ValueError: another file.
    """
    head, *rows = read_csv(path) or [[]]
    fields = len(MULTI_LABEL_FIELDS)
    classes = [name.removeprefix(OF_CLASS) for name in head[fields:]]
    try:
        if tuple(head[:fields]) != MULTI_LABEL_FIELDS or not rows or len({row[0] for row in rows}) != len(rows):
            raise ValueError
        known = [names_in(row[1], classes) for row in rows]
        chances = torch.tensor([[float(cell) for cell in row[fields:]] for row in rows])
        if chances.shape != (len(rows), len(classes)) or not ((chances >= 0) & (chances <= 1)).all():
            raise ValueError
        return classes, encode(known, classes), chances
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ValueError(
            f"{path}: each line needs another image, its classes of {', '.join(classes[:3]) or 'the head'}, and a "
            "probability of each class"
        ) from error


def mean_average_precision_of(path: Path) -> float:
    """Compute the mean average precision of a file of multi-label predictions with known classes."""
    classes, labels, probabilities = read_multi_label(path)
    return mean_average_precision(figures_by_class(labels, probabilities, classes))
