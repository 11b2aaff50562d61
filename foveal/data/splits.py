"""Splits into a training, a validation and a test part: with a seed of their own, stratified by class.

With groups (one patient, one video), images of one group stay in one part. Images of several classes are split by
iterative stratification (Sechidis et al., 2011): the images of the class with the fewest that are left go, one by one,
to the part that lacks most of this class.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

FRACTIONS = (0.70, 0.15, 0.15)
OFFICIAL = (5, 1)  # of a published training part: to learn from, and for validation
OFFICIAL_SEED = 0


def stratified(labels: ArrayLike, sizes: Sequence[float], seed: int) -> list[np.ndarray]:
    """Split indices into `len(sizes)` parts in proportion to `sizes`, class by class, each part shuffled.

    A class with as many images as there are parts reaches each of them, or with several classes an image most often.

    Args:
        labels: class of each image, (N,); or 1 for each class that an image has, else 0, (N, K).
        sizes: of the parts, relative to each other.
        seed: of the random order.
    """
    generator = np.random.default_rng(seed)
    labels = np.asarray(labels)
    if labels.ndim == 2:
        chosen = iteratively(labels > 0, sizes, generator)
        return [generator.permutation(np.flatnonzero(chosen == part)) for part in range(len(sizes))]
    classes, counts = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    by_class = np.split(np.argsort(classes, kind="stable"), np.cumsum(counts)[:-1])
    parts: list[list[np.ndarray]] = [[] for _ in sizes]
    for every in by_class:
        members = generator.permutation(every)
        cuts = np.cumsum(shares(len(members), sizes))[:-1]
        for part, chosen in zip(parts, np.split(members, cuts), strict=True):
            part.append(chosen)
    return [generator.permutation(np.concatenate(part)) for part in parts]


def iteratively(labels: np.ndarray, sizes: Sequence[float], generator: np.random.Generator) -> np.ndarray:
    """Choose the part (N,) of each image by its classes (N, K) of bool; of equal ones that which lacks most images."""
    count = len(labels)
    wanted = np.stack([shares(each, sizes) for each in labels.sum(0)], 1)  # (parts, K): images that a part lacks
    room = shares(count, sizes)  # (parts,)
    order = generator.permutation(count)
    chosen = np.full(count, -1)

    def place(image: int, lacking: np.ndarray) -> None:
        part = np.lexsort((room, lacking))[-1]
        chosen[image] = part
        room[part] -= 1
        wanted[part] -= labels[image]

    left = labels.sum(0)
    while left.any():
        rarest = int(np.where(left > 0, left, count + 1).argmin())
        members = order[(chosen[order] < 0) & labels[order, rarest]]
        for image in members:
            place(image, wanted[:, rarest])
        left = left - labels[members].sum(0)
    for image in order[chosen[order] < 0]:  # of no class
        place(image, room)
    return chosen


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
    """Split as `stratified` does, with each group in one part.

    A group counts as its most frequent class; of images of several classes, as all classes of its images.
    """
    labels = np.asarray(labels)
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    if labels.ndim == 2:
        of_group = np.zeros((len(names), labels.shape[1]), dtype=bool)
        np.logical_or.at(of_group, members, labels > 0)
    else:
        counts = np.zeros((len(names), int(labels.max()) + 1), dtype=int)
        np.add.at(counts, (members, labels), 1)
        of_group = counts.argmax(1)
    return [np.flatnonzero(np.isin(members, part)) for part in stratified(of_group, sizes, seed)]
