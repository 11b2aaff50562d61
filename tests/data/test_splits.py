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


def test_stratified_keeps_the_shares_of_every_class_where_images_have_several():
    rng = np.random.default_rng(0)
    labels = rng.random((2000, 6)) < (0.9, 0.5, 0.3, 0.1, 0.02, 0.005)
    parts = stratified(labels, (0.7, 0.15, 0.15), seed=0)
    assert sorted(np.concatenate(parts)) == list(range(2000))
    assert [len(part) for part in parts] == [1400, 300, 300]
    counts = labels.sum(0)
    for part, share in zip(parts, (0.7, 0.15, 0.15), strict=True):
        assert np.abs(labels[part].sum(0) - share * counts).max() <= 2
        assert labels[part].any(0).all()
    again, other = (stratified(labels, (0.7, 0.15, 0.15), seed=seed) for seed in (0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    assert not np.array_equal(parts[2], other[2])


def test_grouped_keeps_groups_of_images_of_several_classes_together():
    labels = np.random.default_rng(0).random((120, 3)) < (0.5, 0.2, 0.1)
    groups = np.repeat([f"patient {i}" for i in range(30)], 4)
    parts = grouped(labels, groups, (0.7, 0.15, 0.15), seed=0)
    assert sorted(np.concatenate(parts)) == list(range(120))
    assert sum(len(set(groups[part])) for part in parts) == 30
    assert all(labels[part].any(0).all() for part in parts)
