"""Figures of a run's test part by class: `classes.csv`, and `confusion.csv` where an image has one class."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from foveal.core.names import as_cell
from foveal.data.text_files import read_csv
from foveal.evaluation.classification import ClassFigures
from foveal.training.predictions import write_rows

CLASSES, CONFUSION, CONFUSION_PICTURE = "classes.csv", "confusion.csv", "confusion.png"
HEAD = ("class", "images", "predicted", "precision", "recall", "f1")


def write_figures(folder: Path, figures: Sequence[ClassFigures], matrix: Tensor | None) -> None:
    """Write `classes.csv` and, of a confusion matrix, `confusion.csv`; a share of nothing is an empty cell.

    Without a matrix, an image has any number of classes, and `classes.csv` holds the average precision of each.
    """
    head = [*HEAD, *(["average_precision"] if matrix is None else [])]
    rows = (
        [as_cell(each.name), each.images, each.predicted, *map(as_share, (*each.shares, each.average_precision))]
        for each in figures
    )
    write_rows(folder / CLASSES, head, (row[: len(head)] for row in rows))
    if matrix is None:
        return
    names = [as_cell(each.name) for each in figures]
    write_rows(folder / CONFUSION, ["class", *names], map(lambda name, counts: [name, *counts], names, matrix.tolist()))


def as_share(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def read_confusion(folder: Path) -> tuple[list[str], Tensor]:
    """Read the classes, and the test images by class and predicted class, (K, K), of a finished run.

    Raises:
        ValueError: another file.
    """
    path = folder / CONFUSION
    head, *rows = read_csv(path) or [[]]
    try:
        matrix = torch.tensor([[int(cell) for cell in row[1:]] for row in rows])
        if matrix.shape != (len(head) - 1,) * 2 or matrix.min() < 0:
            raise ValueError
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path}: a row of counts for each class is needed") from error
    return head[1:], matrix


def read_figures(folder: Path) -> list[ClassFigures]:
    """Read the figures of each class of a finished run, with the average precision where it has one.

    Raises:
        ValueError: another file.
    """
    path = folder / CLASSES
    head, *rows = read_csv(path) or [[]]
    try:
        if tuple(head[: len(HEAD)]) != HEAD or any(len(row) != len(head) for row in rows):
            raise ValueError
        return [
            ClassFigures(row[0], int(row[1]), int(row[2]), *(float(cell) if cell else None for cell in row[3:]))
            for row in rows
        ]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: the figures {', '.join(HEAD)} of each class are needed") from error
