"""Figures of a run's test part by class, as CSV files: `classes.csv` and `confusion.csv`."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from foveal.core.names import as_cell
from foveal.data.text_files import read_csv
from foveal.evaluation.classification import ClassFigures
from foveal.training.predictions import write_rows

CLASSES, CONFUSION, CONFUSION_PICTURE = "classes.csv", "confusion.csv", "confusion.png"


def write_figures(folder: Path, figures: Sequence[ClassFigures], matrix: Tensor) -> None:
    """Write `classes.csv` and `confusion.csv`; a share of nothing is an empty cell."""
    rows = ([as_cell(each.name), each.images, each.predicted, *map(as_share, each.shares)] for each in figures)
    write_rows(folder / CLASSES, ["class", "images", "predicted", "precision", "recall", "f1"], rows)
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
