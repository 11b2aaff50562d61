"""Plots of the benchmark's results."""

from benchmarks.results import plot


def test_a_plot_of_nothing_with_a_goal_is_empty():
    assert not plot({"part": []}).axes
