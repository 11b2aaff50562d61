"""Splits by class and by group."""

import numpy as np

from foveal.data.splits import grouped, stratified


def test_stratified_loses_and_repeats_nothing_and_keeps_classes():
    labels = np.repeat([0, 1, 2], [100, 40, 7])
    parts = stratified(labels, (0.7, 0.15, 0.15), seed=0)
    assert sorted(np.concatenate(parts)) == list(range(147))
    assert [np.bincount(labels[part], minlength=3).tolist() for part in parts] == [[70, 28, 5], [15, 6, 1], [15, 6, 1]]
    assert not np.array_equal(parts[0], np.sort(parts[0]))


def test_grouped_keeps_groups_together():
    labels = np.tile([0, 0, 1, 1], 30)
    groups = np.repeat([f"patient {i}" for i in range(30)], 4)
    parts = grouped(labels, groups, (0.7, 0.15, 0.15), seed=0)
    assert sorted(np.concatenate(parts)) == list(range(120))
    of_part = [set(groups[part]) for part in parts]
    assert not of_part[0] & of_part[1] | of_part[0] & of_part[2] | of_part[1] & of_part[2]
