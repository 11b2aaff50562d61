"""Charts of a comparison."""

from dataclasses import replace

import pytest
from comparisons import BASE, COST, make_comparison
from matplotlib.colors import to_rgb

from foveal.comparison.compare import ContenderResult
from foveal.reports.charts import COLOURS, half_interval, looks, mean_curve, pareto


def test_pareto_front_by_hand():
    points = {"cheap": (1.0, 9.0), "good": (3.0, 5.0), "beaten": (3.0, 6.0), "dear": (4.0, 5.0), "twin": (1.0, 9.0)}
    assert pareto(points) == {"cheap", "good", "twin"}


def test_half_interval_is_students():
    row = ContenderResult("se", "", 0.01, {0: 1.0, 1: 2.0, 2: 3.0}, {}, {}, COST)
    assert half_interval(row) == pytest.approx(4.302653 / 3**0.5, abs=1e-5)
    assert half_interval(replace(row, errors={0: 1.0, 1: 2.0})) is None


def test_mean_curve_averages_the_seeds_that_have_the_epoch():
    assert mean_curve([{1: 4.0, 2: 2.0}, {1: 2.0}]) == {1: 3.0, 2: 2.0}


def test_looks_are_distinct_for_each_contender(tmp_path):
    held = make_comparison(tmp_path, {"none": BASE, **{f"c{at}": BASE for at in range(20)}})
    assert len(set(looks(held).values())) == 21
    assert looks(held)["none"][0] == COLOURS[0]
    light = sorted(sum(to_rgb(colour)) for colour in COLOURS)
    assert len(set(light)) == len(COLOURS)
