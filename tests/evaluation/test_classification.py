"""Figures of a classifier by class, and its calibration."""

import pytest
import torch

from foveal.evaluation.classification import calibration_error, confusion_matrix, figures_by_class


def test_figures_by_class_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    generator = torch.Generator().manual_seed(0)
    labels, predicted = torch.randint(0, 5, (2, 300), generator=generator)
    matrix = confusion_matrix(labels, predicted, 5)
    assert matrix.tolist() == metrics.confusion_matrix(labels, predicted).tolist()
    expected = metrics.precision_recall_fscore_support(labels, predicted)
    for each, *figures in zip(figures_by_class(matrix, "abcde"), *expected, strict=True):
        assert (*each.shares, each.images) == pytest.approx(tuple(figures))


def test_figures_by_class_leave_out_shares_of_nothing():
    """One image of class a, given class b; none of class c, which is never predicted."""
    a, b, c = figures_by_class(confusion_matrix(torch.tensor([0]), torch.tensor([1]), 3), "abc")
    assert (a.images, a.predicted, a.shares) == (1, 0, (None, 0.0, 0.0))
    assert (b.images, b.predicted, b.shares) == (0, 1, (0.0, None, 0.0))
    assert c.shares == (None, None, None)


def test_calibration_error_weighs_the_gap_of_each_bin():
    """Four images at 0.9, three right: gap 0.15; one at 0.5, right: gap 0.5. (4 * 0.15 + 0.5) / 5."""
    confidences, right = torch.tensor([0.9] * 4 + [0.5]), torch.tensor([True, True, True, False, True])
    assert calibration_error(confidences, right) == pytest.approx((4 * 0.15 + 0.5) / 5)
    assert calibration_error(torch.ones(3), torch.ones(3, dtype=torch.bool)) == 0
    assert calibration_error(torch.tensor([0.0, 1.0]), torch.tensor([False, True])) == 0


def test_calibration_error_puts_an_upper_bound_into_its_bin():
    """Two bins: 0.5 belongs to the first; its gap does not cancel that of 0.75."""
    error = calibration_error(torch.tensor([0.5, 0.75]), torch.tensor([True, False]), bins=2)
    assert error == pytest.approx((0.5 + 0.75) / 2)
