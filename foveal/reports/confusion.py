"""Figures of a run by class as a table, and its confusion matrix as a picture, where an image has one class."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor

from foveal.evaluation.classification import ClassFigures
from foveal.inspection.drawing.canvas import PLAIN_TEXT
from foveal.inspection.drawing.picture import Picture
from foveal.training.class_figures import CLASSES, CONFUSION, CONFUSION_PICTURE, read_confusion, read_figures

NUMBERED, NAMED = 25, 60  # at most: classes with counts in their cells; classes with names beside them
ROWS = 30  # of a printed table
LONGEST = 24  # characters of a class's name beside the matrix
HEAD = ("class", "test images", "precision", "recall", "F1", "AP")  # the last where an image has any number of classes
NO_MATRIX = "no confusion matrix: an image has any number of classes"


def write_confusion(folder: Path) -> tuple[list[list[str]], str]:
    """Draw the confusion matrix of a finished run into its folder; return its table by class and a remark on it.

    Nothing is drawn where an image has any number of classes. The table is empty for a run of an older version, which
    stored no figures.
    """
    if not (folder / CLASSES).is_file():
        return [], ""
    table, remark = class_table(read_figures(folder))
    if not (folder / CONFUSION).is_file():
        return table, f"{remark}; {NO_MATRIX}" if remark else NO_MATRIX
    names, matrix = read_confusion(folder)
    draw_confusion(matrix, names).save(folder / CONFUSION_PICTURE)
    return table, remark


def class_table(figures: Sequence[ClassFigures]) -> tuple[list[list[str]], str]:
    """Return the rows of the table in the order of the classes, and an empty text; of more than `ROWS` classes those
    with the lowest F1, and a text that says so.
    """
    shown, remark = list(figures), ""
    if len(figures) > ROWS:
        shown = sorted(figures, key=lambda each: -1.0 if each.f1 is None else each.f1)[:ROWS]
        remark = f"the {ROWS} classes with the lowest F1, of {len(figures):,}; all are in {CLASSES}"
    several = any(each.average_precision is not None for each in figures)
    shares = ((*each.shares, each.average_precision) if several else each.shares for each in shown)
    rows = [[each.name, f"{each.images:,}", *map(percent, own)] for each, own in zip(shown, shares, strict=True)]
    return rows, remark


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def draw_confusion(matrix: Tensor, names: Sequence[str]) -> Picture:
    """Draw a confusion matrix (K, K): rows are classes, columns predicted classes.

    The colour is the share of the row's images, from 0 to 1; the number in a cell is their count.
    """
    count = len(names)
    side = min(2.6 + 0.34 * count, 12.0)
    shares = matrix.double() / matrix.sum(1, keepdim=True).clamp(min=1)
    with rc_context(PLAIN_TEXT):
        figure = Figure(figsize=(side + 0.8, side), layout="constrained")
        axis = figure.subplots()
        drawn = axis.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        if count <= NUMBERED:
            for row, column in [(r, c) for r in range(count) for c in range(count) if matrix[r, c]]:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axis.text(
                    column, row, f"{int(matrix[row, column]):,}", ha="center", va="center", color=colour, fontsize=8
                )
        if count <= NAMED:
            short = [name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..." for name in names]
            axis.set_xticks(range(count), short, rotation=90, fontsize=8)
            axis.set_yticks(range(count), short, fontsize=8)
        axis.set_xlabel("predicted class")
        axis.set_ylabel("class")
        figure.colorbar(drawn, ax=axis, label="share of the class's images", shrink=0.8)
    right, total = int(matrix.diagonal().sum()), int(matrix.sum())
    return Picture(figure, f"Confusion matrix of {count} classes: {right:,} of {total:,} images on its diagonal.")
