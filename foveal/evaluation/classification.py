"""Figures of a classifier on labelled images: confusion matrix, precision, recall and F1 by class, calibration.

Axes: N images, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 15  # of Guo et al., 2017


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class; a share of nothing is None."""

    name: str
    images: int
    predicted: int  # images that were given this class
    precision: float | None  # share of these that are of the class
    recall: float | None  # share of the class's images that were given it
    f1: float | None  # harmonic mean of both
    average_precision: float | None = None  # where an image has any number of classes

    @property
    def shares(self) -> tuple[float | None, ...]:
        """Precision, recall and F1."""
        return self.precision, self.recall, self.f1


def confusion_matrix(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Count images by class (rows) and predicted class (columns): (K, K) of int64."""
    return torch.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def figures_by_class(matrix: Tensor, names: Sequence[str]) -> list[ClassFigures]:
    """Compute the figures of each class from a confusion matrix (K, K)."""
    found = []
    for index, name in enumerate(names):
        right, images = int(matrix[index, index]), int(matrix[index].sum())
        predicted = int(matrix[:, index].sum())
        f1 = share(2 * right, images + predicted)
        found.append(ClassFigures(name, images, predicted, share(right, predicted), share(right, images), f1))
    return found


def share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def calibration_error(confidences: Tensor, right: Tensor, bins: int = BINS) -> float:
    """Compute the expected calibration error (Naeini et al., 2015; Guo et al., 2017, eq. 3), from 0 to 1.

    Images are sorted by the probability of their predicted class into bins of equal width; the difference between the
    share of right predictions and the mean probability is averaged over the bins, weighed by their images.

    Args:
        confidences: probability of the predicted class, (N,).
        right: whether the prediction is right, (N,) of bool.
        bins: number of bins; each contains its upper bound.
    """
    places = (confidences.double() * bins).ceil().long().sub(1).clamp(0, bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64).index_add_(0, places, right.double() - confidences.double())
    return float(gaps.abs().sum() / len(confidences))
