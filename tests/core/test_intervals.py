"""Intervals of a mean over few values."""

from math import isnan, nan

import pytest

from foveal.core.intervals import student_interval


def test_the_interval_is_that_of_students_t():
    """With two degrees of freedom the 97.5 % quantile is 4.303; the standard deviation of 1, 2, 3 is 1."""
    mean, low, high = student_interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert (low, high) == pytest.approx((2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), rel=1e-5)


def test_one_value_has_no_interval():
    mean, low, high = student_interval([4.0])
    assert mean == 4
    assert isnan(low)
    assert isnan(high)
    assert all(map(isnan, student_interval([1.0, nan])))
