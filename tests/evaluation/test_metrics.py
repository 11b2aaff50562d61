"""Scores of attention against boxes, on maps with known scores."""

import math

import pytest
import torch

from foveal.core.record import Record
from foveal.evaluation.metrics import (
    centered_maps,
    energy,
    interval,
    iou,
    looked_at,
    pointing,
    polygon,
    shuffled_maps,
)
from foveal.evaluation.regions import Region, region_of_all


def record(values: torch.Tensor, kind: str, axes: str) -> Record:
    return Record(path="here", mechanism="m", kind=kind, domain="spatial", axes=axes, value_range=(0, 1), values=values)


def box(*corners: float) -> Region:
    return region_of_all(torch.tensor([corners], dtype=torch.float32))


def bright(row: int, column: int, side: int = 4) -> torch.Tensor:
    maps = torch.full((1, side, side), 0.1)
    maps[0, row, column] = 0.9
    return maps


def test_pointing_hits_and_misses():
    holds = box(8, 0, 16, 8).holds((16, 16), (4, 4))[None]  # the upper right quarter
    assert pointing(bright(0, 2), holds).tolist() == [1]
    assert pointing(bright(3, 2), holds).tolist() == [0]
    assert pointing(torch.ones(1, 4, 4), holds).tolist() == [0.25]  # a map that says nothing


def test_energy_of_a_flat_map_is_the_area_of_the_box():
    cover = box(2, 3, 10, 9).coverage((16, 20), (5, 7))[None]
    flat = torch.ones(1, 5, 7)
    assert energy(flat, cover).item() == pytest.approx(8 * 6 / (16 * 20))
    assert energy(torch.zeros(1, 5, 7), cover).tolist() == [0]


def test_iou_of_a_cell_with_a_box_twice_its_size():
    assert iou(bright(1, 1), box(4, 4, 12, 8).coverage((16, 16), (4, 4))[None]).item() == pytest.approx(0.5)


def test_iou_of_a_uniform_map_is_that_of_the_whole_image():
    assert iou(torch.ones(1, 4, 4), box(0, 0, 8, 8).coverage((16, 16), (4, 4))[None]).tolist() == [0.25]


def test_null_maps_keep_the_weights_and_move_them():
    maps = torch.rand(3, 5, 5)
    dealt = centered_maps(maps)
    assert torch.equal(dealt.flatten(1).sort(1).values, maps.flatten(1).sort(1).values)
    assert torch.equal(dealt[:, 2, 2], maps.amax((1, 2)))
    assert dealt[0, 0, 0] <= dealt[0, 1, 1]
    assert torch.equal(shuffled_maps(maps)[1], maps[0])


def test_polygon_is_filled_within_its_corners():
    square = torch.tensor([[[-0.5, -1.0], [0.5, -1.0], [0.5, 0.0], [-0.5, 0.0]]])
    filled = polygon(square, 4, 4)
    assert filled[0].tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    turned = torch.tensor([[[0.0, -1.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])  # a diamond: half of the image
    assert polygon(turned, 100, 100).mean().item() == pytest.approx(0.5, abs=0.01)


def test_looked_at_of_a_transform_is_the_sampled_region():
    theta = torch.tensor([[[0.5, 0.0, 0.5], [0.0, 0.5, -0.5]]])  # the upper right quarter
    maps = looked_at(record(theta, "transform", "B 2 3"), (8, 8))
    assert maps is not None
    assert iou(maps, box(4, 0, 8, 4).coverage((8, 8), (8, 8))[None]).tolist() == [1]


def test_looked_at_of_an_affinity_is_what_each_position_receives():
    weights = torch.zeros(1, 2, 4, 4)  # two heads, a map of 2x2
    weights[..., 3] = 1
    maps = looked_at(record(weights, "affinity", "B G Q K"), (8, 8))
    assert maps is not None
    assert maps[0].tolist() == [[0, 0], [0, 1]]


def test_looked_at_of_a_gate_is_none():
    assert looked_at(record(torch.rand(2, 8), "gate", "B C"), (8, 8)) is None


def test_interval_is_that_of_the_normal_distribution():
    values = torch.tensor([0.0, 1.0] * 50)
    found = interval(values)
    half = 1.959964 * math.sqrt(0.25 * 100 / 99) / 10
    assert found.mean == 0.5
    assert (found.low, found.high) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))
