"""Splits into a training, a validation and a test part: with a seed of their own, stratified by class.

With groups (one patient, one video), images of one group stay in one part.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

FRACTIONS = (0.70, 0.15, 0.15)
OFFICIAL = (5, 1)  # of a published training part: to learn from, and for validation
OFFICIAL_SEED = 0


def stratified(labels: ArrayLike, sizes: Sequence[float], seed: int) -> list[np.ndarray]:
    """Split indices into `len(sizes)` parts in proportion to `sizes`, class by class, each part shuffled.

    A class with as many images as there are parts reaches each of them.
    """
    classes, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)[1:]
    by_class = np.split(np.argsort(classes, kind="stable"), np.cumsum(counts)[:-1])
    generator = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[] for _ in sizes]
    for every in by_class:
        members = generator.permutation(every)
        cuts = np.cumsum(shares(len(members), sizes))[:-1]
        for part, chosen in zip(parts, np.split(members, cuts), strict=True):
            part.append(chosen)
    return [generator.permutation(np.concatenate(part)) for part in parts]


def shares(count: int, sizes: Sequence[float]) -> np.ndarray:
    """Divide `count` in proportion to `sizes` by largest remainders; no share is 0 if `count` suffices for all."""
    ideal = count * np.asarray(sizes) / np.sum(sizes)
    out = np.floor(ideal).astype(int)
    out[np.argsort(out - ideal, kind="stable")[: count - out.sum()]] += 1
    while count >= len(out) and out.min() == 0:
        out[out.argmax()] -= 1
        out[out.argmin()] += 1
    return out


def grouped(labels: ArrayLike, groups: ArrayLike, sizes: Sequence[float], seed: int) -> list[np.ndarray]:
    """Split as `stratified` does, with each group in one part; a group counts as its most frequent class."""
    classes, members = np.asarray(labels), np.asarray(groups)
    names = np.unique(members)
    of_group = [np.bincount(classes[members == name]).argmax() for name in names]
    return [np.flatnonzero(np.isin(members, names[part])) for part in stratified(of_group, sizes, seed)]
