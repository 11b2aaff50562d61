"""Which images train, which choose, which test: fixed by a seed of its own, stratified by class.

With groups (one patient, one video), images of one group stay in one part.
"""

from collections.abc import Sequence

import numpy as np

FRACTIONS = (0.70, 0.15, 0.15)


def stratified(labels: Sequence[int], sizes: Sequence[float], seed: int) -> list[np.ndarray]:
    """Split indices into `len(sizes)` parts in proportion to `sizes`, class by class, each part shuffled.

    Within a class the parts' bounds are rounded from the running sum, so that no image is lost. A class too small to
    reach every part appears in the first ones.
    """
    labels = np.asarray(labels)
    generator = np.random.default_rng(seed)
    bounds = np.cumsum(sizes)[:-1] / np.sum(sizes)
    parts: list[list[np.ndarray]] = [[] for _ in sizes]
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        cuts = np.round(bounds * len(members)).astype(int)
        for part, chosen in zip(parts, np.split(members, cuts), strict=True):
            part.append(chosen)
    return [generator.permutation(np.concatenate(part)) for part in parts]


def grouped(labels: Sequence[int], groups: Sequence[str], sizes: Sequence[float], seed: int) -> list[np.ndarray]:
    """As `stratified`, with the images of one group kept together; a group counts as its most frequent class."""
    labels, groups = np.asarray(labels), np.asarray(groups)
    names = np.unique(groups)
    of_group = [np.bincount(labels[groups == name]).argmax() for name in names]
    return [np.flatnonzero(np.isin(groups, names[part])) for part in stratified(of_group, sizes, seed)]
