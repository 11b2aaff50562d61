"""Figures of a network on a part of its data: that which chooses an epoch, and the result on the test part.

Where an image has one class, the figure is the accuracy; where it has any number, the mean average precision.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from foveal.core.answers import Answers
from foveal.evaluation import classification, multi_label
from foveal.evaluation.classification import ClassFigures, calibration_error, confusion_matrix
from foveal.training.run_figures import ACCURACY, MEAN_AVERAGE_PRECISION, MultiLabelResult, Result

Evaluated = tuple[Result | MultiLabelResult, list[ClassFigures], Tensor | None]


def validation_figures(answers: Answers, labels: Tensor) -> dict[str, float]:
    """Compute the figure of the validation part by its name in the line of an epoch."""
    if answers.multi_label:
        names = [""] * labels.shape[1]
        figures = multi_label.figures_by_class(labels, answers.probabilities(), names)
        return {MEAN_AVERAGE_PRECISION: multi_label.mean_average_precision(figures)}
    return {ACCURACY: share_right(answers.classes(), labels)}


def evaluate_answers(labels: Tensor, answers: Answers, classes: Sequence[str], best_epoch: int) -> Evaluated:
    """Compute the result on the test part, figures by class and, where an image has one class, the confusion matrix.

    Args:
        labels, answers: of the images.
        classes: names of the classes.
        best_epoch: the epoch whose weights answered, from 1.
    """
    if answers.multi_label:
        figures = multi_label.figures_by_class(labels, answers.probabilities(), classes)
        found = {each.name: each.average_precision for each in figures if each.average_precision is not None}
        absent = [each.name for each in figures if each.average_precision is None]
        return MultiLabelResult(multi_label.mean_average_precision(figures), found, best_epoch, absent), figures, None
    predicted = answers.classes()
    matrix = confusion_matrix(labels, predicted, len(classes))
    figures = classification.figures_by_class(matrix, classes)
    recall = {each.name: each.recall for each in figures if each.recall is not None}
    absent = [each.name for each in figures if each.recall is None]
    result = Result(
        share_right(predicted, labels),
        None if absent else float(np.mean(list(recall.values()))),
        recall,
        best_epoch,
        absent,
        calibration_error=calibration_error(answers.probabilities_of(predicted), predicted == labels),
    )
    return result, figures, matrix


def share_right(predicted: Tensor, labels: Tensor) -> float:
    return (predicted == labels).double().mean().item()
