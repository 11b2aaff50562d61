"""Figures by class where images have any number of classes: precision, recall, F1 and average precision.

Average precision is that of scikit-learn and of TorchMetrics, without interpolation: with precision P and recall R at
each different probability as the threshold, in descending order,

    AP = sum over thresholds of (R_n - R_{n-1}) P_n

Images of equal probability are taken together, so that their order does not matter; the AP of a constant probability is
the share of images of the class. The mean average precision (mAP) is the mean over the classes that have an image.

Axes: N images, K classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from foveal.core.answers import HALF
from foveal.evaluation.classification import ClassFigures, share


def average_precision(probabilities: Tensor, present: Tensor) -> float | None:
    """Compute the average precision of one class; None if no image has it.

    Args:
        probabilities: of the class, (N,).
        present: whether the image has it, (N,) of bool.
    """
    if not present.any():
        return None
    order = probabilities.argsort(descending=True)
    ranked, right = probabilities[order], present[order].double().cumsum(0)
    last = torch.cat([ranked[1:] != ranked[:-1], torch.ones(1, dtype=torch.bool)])  # of images of equal probability
    right, chosen = right[last], (last.nonzero()[:, 0] + 1)
    gained = right.diff(prepend=torch.zeros(1, dtype=torch.float64))
    return float((gained * right / chosen).sum() / right[-1])


def figures_by_class(labels: Tensor, probabilities: Tensor, names: Sequence[str]) -> list[ClassFigures]:
    """Compute the figures of each class; an image is given the classes with a probability above 0.5.

    Args:
        labels: 1 for each class of an image, else 0, (N, K).
        probabilities: (N, K).
        names: of the classes.
    """
    found = []
    for name, present, chances in zip(names, labels.bool().unbind(1), probabilities.unbind(1), strict=True):
        given = chances > HALF
        right, images, predicted = (int(each.sum()) for each in (present & given, present, given))
        shares = share(right, predicted), share(right, images), share(2 * right, images + predicted)
        found.append(ClassFigures(name, images, predicted, *shares, average_precision(chances, present)))
    return found


def mean_average_precision(figures: Sequence[ClassFigures]) -> float:
    """Compute the mean average precision over the classes that have an image.

    Raises:
        ValueError: no class has one.
    """
    found = [each.average_precision for each in figures if each.average_precision is not None]
    if not found:
        raise ValueError("no image has a class, so that there is no average precision")
    return sum(found) / len(found)
