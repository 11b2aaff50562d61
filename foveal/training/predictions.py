"""Predictions as CSV files: `predictions.csv` of a run's test part, and those of any images.

A line holds the image, its class where it is known, and the most probable classes, each with its probability.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from foveal.core.answers import Answers
from foveal.core.files import whole_file
from foveal.core.names import as_cell
from foveal.data.text_files import read_csv

PREDICTIONS = "predictions.csv"
FIELDS = ("image", "class", "predicted")
Row = Sequence[Any]


def write_rows(path: Path, head: Row, rows: Iterable[Row]) -> Path:
    """Write a CSV file whole, while its rows are made one by one; return its path."""
    with whole_file(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(head)
        table.writerows(rows)
    return path


def prediction_head(labelled: bool, top: int = 1) -> list[str]:
    """Return the names of the columns, for the `top` most probable classes."""
    numbers = ["", *(f"_{place}" for place in range(2, top + 1))]
    guesses = [f"{name}{number}" for number in numbers for name in ("predicted", "probability")]
    return ["image", *(["class"] if labelled else []), *guesses]


def prediction_rows(
    names: Iterable[str], labels: Tensor | None, answers: Answers, classes: Sequence[str], top: int = 1
) -> Iterator[list[str]]:
    """Return a line for each image of a batch.

    Args:
        names: of the images.
        labels: (B,), or None where they are not known.
        answers: of the network.
        classes: names of the K classes.
        top: number of classes in a line.
    """
    order, chances = answers.top(top)
    known = [[]] * len(order) if labels is None else [[as_cell(classes[label])] for label in labels.tolist()]
    for name, label, indices, values in zip(names, known, order.tolist(), chances.tolist(), strict=True):
        pairs = zip(indices, values, strict=True)
        yield [as_cell(name), *label, *(cell for i, p in pairs for cell in (as_cell(classes[i]), f"{p:.6f}"))]


def write_predictions(
    folder: Path, names: Sequence[str], labels: Tensor, classes: Sequence[str], answers: Answers
) -> None:
    """Write `predictions.csv` of a run: image, class, predicted class and its probability."""
    write_rows(folder / PREDICTIONS, prediction_head(labelled=True), prediction_rows(names, labels, answers, classes))


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
