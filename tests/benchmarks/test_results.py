"""Plots of the benchmark's results."""

from benchmarks.results import plot


def test_plot_of_no_rows_is_empty():
    assert not plot({"part": []}).axes
