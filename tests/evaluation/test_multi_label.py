"""Average precision and figures by class where images have any number of classes."""

import numpy as np
import pytest
import torch

from foveal.evaluation.multi_label import average_precision, figures_by_class, mean_average_precision

AT_RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("probabilities", "present", "expected"),
    [
        ([0.9, 0.8, 0.3, 0.1], [1, 1, 0, 0], 1.0),
        ([0.9, 0.8, 0.3, 0.1], [0, 0, 1, 1], (1 / 3 + 2 / 4) / 2),  # each found behind two wrong ones
        ([0.9, 0.8, 0.3, 0.1], [1, 0, 1, 0], (1 + 2 / 3) / 2),
        ([0.5] * 5, [1, 0, 0, 1, 0], 2 / 5),  # a constant: the share of images
        ([0.7, 0.7, 0.2], [0, 1, 1], (1 / 2 + 2 / 3) / 2),  # the order of equal ones does not matter
        ([0.7, 0.7, 0.2], [1, 0, 1], (1 / 2 + 2 / 3) / 2),
        ([0.1], [1], 1.0),
    ],
)
def test_average_precision_is_the_mean_precision_where_a_right_image_is_found(probabilities, present, expected):
    assert average_precision(torch.tensor(probabilities), torch.tensor(present).bool()) == pytest.approx(expected)


def test_average_precision_of_no_image_is_none():
    assert average_precision(torch.rand(3), torch.zeros(3, dtype=torch.bool)) is None


@pytest.mark.parametrize("count", [1, 2, 7, 60, 500])
def test_figures_by_class_agree_with_scikit_learn(count):
    metrics = pytest.importorskip("sklearn.metrics")
    for digits in (1, 7):  # many equal probabilities, and few
        labels = AT_RANDOM.random((count, 4)) < (0.05, 0.3, 0.6, 0.97)
        labels[0] = True
        probabilities = np.round(AT_RANDOM.random((count, 4)) * 0.7 + 0.3 * labels, digits)
        found = figures_by_class(torch.tensor(labels).float(), torch.tensor(probabilities), "abcd")
        expected = metrics.average_precision_score(labels, probabilities, average=None)
        assert [each.average_precision for each in found] == pytest.approx(list(np.atleast_1d(expected)))
        macro = metrics.average_precision_score(labels, probabilities, average="macro")
        assert mean_average_precision(found) == pytest.approx(macro)
        shares = metrics.precision_recall_fscore_support(labels, probabilities > 0.5, zero_division=np.nan)
        for each, precision, recall, f1, images in zip(found, *shares, strict=True):
            for own, other in zip(each.shares, (precision, recall, f1), strict=True):
                assert np.isnan(other) if own is None else own == pytest.approx(other)
            assert each.images == images


def test_mean_average_precision_leaves_out_classes_without_images():
    figures = figures_by_class(torch.tensor([[1.0, 0], [0, 0]]), torch.tensor([[0.2, 0.9], [0.4, 0.1]]), "ab")
    a, b = figures
    assert (a.images, a.predicted, *a.shares) == (1, 0, None, 0, 0)
    assert (b.images, b.predicted, *b.shares, b.average_precision) == (0, 1, 0, None, 0, None)
    assert mean_average_precision(figures) == 0.5
    with pytest.raises(ValueError, match="no image has a class"):
        mean_average_precision([b])
