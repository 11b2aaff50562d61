"""Predictions of a network for images, batch by batch.

Axes: B batch, C channel, H W image, N images, K class.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from foveal.core.answers import Answers
from foveal.data.parts import Part
from foveal.training.batches import UnreadImages, read_batches
from foveal.training.predictions import predicted_classes

Answer = Callable[[Tensor], Answers]  # of images (B, C, H, W)


@dataclass(frozen=True)
class PredictedBatch:
    """Answers for a batch of images."""

    names: list[str]
    images: Tensor  # (B, C, H, W), uint8, or normalized floats of a loader
    labels: Tensor | None  # (B,) int64 or (B, K), None where they are not known
    answers: Answers


@dataclass(frozen=True)
class PredictResult:
    """Predictions for N images.

    Attributes:
        names: of the images: paths, or their numbers.
        classes: names of the K classes; their numbers for a network that stores no names.
        answers: logits (N, K).
        labels: classes of the images, (N,) int64, or (N, K) of a multi-label network; None where they are not known.
        skipped: images that could not be read, with the reason.
    """

    names: list[str]
    classes: tuple[str, ...]
    answers: Answers
    labels: Tensor | None = None
    skipped: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def predicted(self) -> list[str]:
        """The most probable class of each image; of a multi-label network the classes of each, joined by `|`."""
        return predicted_classes(self.answers, self.classes)

    @property
    def probabilities(self) -> Tensor:
        """Probabilities (N, K)."""
        return self.answers.probabilities()

    def top(self, count: int = 5) -> list[list[tuple[str, float]]]:
        """Return the most probable classes of each image with their probabilities, at most `count`."""
        order, chances = (each.tolist() for each in self.answers.top(count))
        return [
            [(self.classes[index], chance) for index, chance in zip(indices, values, strict=True)]
            for indices, values in zip(order, chances, strict=True)
        ]


def predict_part(
    part: Part, labelled: bool, answer: Answer, unread: UnreadImages, batch_size: int, workers: int
) -> Iterator[PredictedBatch]:
    """Predict the images of a part in order; those that cannot be read are added to `unread`."""
    batches, every = torch.arange(len(part)).split(batch_size), part.names
    for indices, images, labels in read_batches(part, batches, workers, unread.add):
        if len(indices):
            names = [str(every[index]) for index in indices.tolist()]
            yield PredictedBatch(names, images, labels if labelled else None, answer(images))


def predict_batches(batches: Iterable[Tensor], answer: Answer) -> Iterator[PredictedBatch]:
    """Predict batches of images (B, C, H, W), which are named by their numbers from 0."""
    count = 0
    for images in batches:
        yield PredictedBatch([str(count + index) for index in range(len(images))], images, None, answer(images))
        count += len(images)


def join(batches: Iterable[PredictedBatch], classes: Sequence[str], skipped: dict[str, str]) -> PredictResult:
    """Join batches to one result.

    Raises:
        ValueError: no image, with the reasons.
    """
    names: list[str] = []
    answers: list[Answers] = []
    labels: list[Tensor] = []
    for batch in batches:
        names += batch.names
        answers.append(batch.answers)
        labels += [] if batch.labels is None else [batch.labels]
    check_any(len(names), skipped)
    whole = replace(answers[0], logits=torch.cat([each.logits for each in answers]))
    named = tuple(classes) or tuple(map(str, range(whole.logits.shape[1])))
    return PredictResult(names, named, whole, torch.cat(labels) if labels else None, skipped)


def check_any(count: int, skipped: dict[str, Any]) -> None:
    """Raise ValueError where no image was predicted, with the reasons."""
    if not count:
        reasons = "; ".join(f"{name!r}: {reason}" for name, reason in list(skipped.items())[:3])
        raise ValueError(f"no image could be read{f'; {reasons}' if reasons else ''}")
