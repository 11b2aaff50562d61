"""Locating: where a model looks, how that meets true boxes, and whether it carries the answer.

A model is asked place by place: its attention, as far as it says where, and Grad-CAM at its last map. Each is set
against two nulls that have not seen the image, see `foveal.evaluation.metrics`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from foveal.core.record import Record
from foveal.core.validation import iter_labelled
from foveal.evaluation.deletion_insertion import (
    Answer,
    DeletionInsertionResult,
    curve_areas,
    deletion_insertion_results,
)
from foveal.evaluation.metrics import Interval, centered_maps, energy, interval, iou, looked_at, pointing, shuffled_maps
from foveal.inspection.grad_cam import class_activation
from foveal.inspection.tap_points import find_tap_points
from foveal.inspection.watch import watch

Batch = Sequence[Tensor]  # images as the network wants them, labels, and boxes where they are known
MOVING = ("transform", "crop", "glimpse")  # kinds after which a map shows other places than its own
THRESHOLDS = tuple(tenth / 10 for tenth in range(1, 10))  # of a map's range, from which the IoU's is chosen


@dataclass(frozen=True)
class LocalizationResult:
    """How well the attention of one place, or Grad-CAM ("grad_cam of" a layer), meets the boxes, by one metric."""

    path: str
    metric: str
    attention: Interval
    vs_center_baseline: Interval  # the attention less its own weights dealt out from the centre
    vs_shuffled_baseline: Interval  # less the attention of another image

    @property
    def beats_both(self) -> bool:
        """Whether it meets the boxes better than both nulls, with intervals that exclude them."""
        return self.vs_center_baseline.low > 0 and self.vs_shuffled_baseline.low > 0


@dataclass(frozen=True)
class SaliencySource:
    """A model, and how it is asked where it looks."""

    model: nn.Module
    attention: bool
    layer: str | None  # of Grad-CAM
    left_out: tuple[str, ...]

    def __call__(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Where each place looks, (B, H, W) by path, and the answers."""
        records: dict[str, Record] = {}
        if self.attention:
            with watch(self.model, device="cpu") as seen:
                logits = self.model(images)
            records |= zip(seen.paths(), seen, strict=True)
        else:
            logits = self.model(images)
        if self.layer is not None:
            records[f"grad_cam of {self.layer}"] = class_activation(self.model, images, self.layer)
        size = images.shape[2], images.shape[3]
        maps = {path: looked_at(record, size) for path, record in records.items()}
        return {path: each.cpu() for path, each in maps.items() if each is not None}, logits


def find_saliency_source(model: nn.Module, loader: Iterable[Batch]) -> SaliencySource:
    """How this model can be asked; ValueError where it cannot."""
    first = next(iter(iter_labelled(loader, model)), None)
    if first is None:
        raise ValueError("loader: it gave no images")
    places, unseen = find_tap_points(model)
    attention, layer, left_out = bool(places or unseen), None, []
    if not attention:
        left_out.append(f"{type(model).__name__} has no attention to watch; foveal.attach adds one")
    moving = [path for path, place in places.items() if place.facts.kind in MOVING]
    if moving:
        left_out.append(f"Grad-CAM: {moving[0]!r} moves the image, so that the maps after it do not lie over it")
    else:
        try:
            layer = class_activation(model, first[0][:1]).path
        except ValueError as reason:
            left_out.append(str(reason))
    if layer is None and not attention:
        raise ValueError("; ".join(left_out))
    return SaliencySource(model, attention, layer, tuple(left_out))


def correct(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(1).cpu() == labels.cpu()).float()


def boxes_of(batch: Batch) -> Tensor | None:
    """The boxes of a batch; ValueError for one that reaches out of its image."""
    if len(batch) < 3:
        return None
    boxes, (height, width) = batch[2].float().cpu(), batch[0].shape[2:]
    outside = (boxes[:, :2] < 0).any(1) | (boxes[:, 2] > width) | (boxes[:, 3] > height)
    outside |= (boxes[:, 2:] <= boxes[:, :2]).any(1)
    if outside.any():
        raise ValueError(f"box {boxes[outside][0].tolist()}: x0, y0, x1, y1 within an image of {width}x{height} pixels")
    return boxes


def best_thresholds(looking: SaliencySource, batches: Iterable[Batch]) -> dict[str, float]:
    """For each place the threshold with the largest mean IoU."""
    found: dict[str, list[Tensor]] = {}
    for batch in batches:
        boxes = boxes_of(batch)
        if boxes is None:
            return {}
        size = batch[0].shape[2], batch[0].shape[3]
        for path, maps in looking(batch[0])[0].items():
            ious = torch.stack([iou(maps, boxes, size, threshold) for threshold in THRESHOLDS])
            found.setdefault(path, []).append(ious)
    return {path: THRESHOLDS[int(torch.cat(ious, 1).mean(1).argmax())] for path, ious in found.items()}


def locate(
    looking: SaliencySource, batches: Iterable[Batch], thresholds: dict[str, float]
) -> tuple[list[LocalizationResult], Tensor, Tensor, Tensor]:
    """How well each place meets the boxes; of each image whether the answer is right, its label, and whether it has
    another image beside it in its batch.
    """
    scores: dict[tuple[str, str], list[Tensor]] = {}
    right, labels, beside = [], [], []
    for batch in batches:
        boxes = boxes_of(batch)
        places, logits = looking(batch[0])
        right.append(correct(logits, batch[1]))
        labels.append(batch[1].cpu())
        beside.append(torch.full((len(logits),), len(logits) > 1))
        size = batch[0].shape[2], batch[0].shape[3]
        for path, maps in places.items() if boxes is not None and len(logits) > 1 else ():
            metrics: dict[str, Callable[..., Tensor]] = {
                "pointing": pointing,
                "energy": energy,
                "iou": partial(iou, threshold=thresholds.get(path, 0.5)),
            }
            for name, metric in metrics.items():
                three = [metric(each, boxes, size) for each in with_nulls(maps)]
                scores.setdefault((path, name), []).append(torch.stack(three))
    answers = torch.cat(right)
    if len(answers) < 2:
        raise ValueError(f"loader: it gave {len(answers)} image; an interval over images needs two at least")
    located = []
    for (path, name), parts in scores.items():
        own, central, other = torch.cat(parts, 1)
        located.append(LocalizationResult(path, name, interval(own), interval(own - central), interval(own - other)))
    return located, answers, torch.cat(labels), torch.cat(beside)


def with_nulls(maps: Tensor) -> list[Tensor]:
    return [maps, centered_maps(maps), shuffled_maps(maps)]


def deletion_insertion_scores(
    looking: SaliencySource, batches: Iterable[Batch], count: int
) -> list[DeletionInsertionResult]:
    """Deletion and insertion of each place's maps and their nulls, on the first images."""
    found: dict[str, list[Tensor]] = {}
    for images, *_ in batches:
        images = images[:count]
        count -= len(images)
        if len(images) > 1:
            places, logits = looking(images)
            maps = [each for own in places.values() for each in with_nulls(own)]
            under = (
                curve_areas(answer_of(looking.model, logits.argmax(1)), images, maps) if maps else torch.empty(2, 0, 0)
            )
            for path, three in zip(places, under.split(3, 1), strict=True):
                found.setdefault(path, []).append(three)
        if count < 1:
            break
    return [curve for path, parts in found.items() for curve in deletion_insertion_results(path, torch.cat(parts, 2))]


def answer_of(model: nn.Module, classes: Tensor) -> Answer:
    """The probability that a model gives to these classes."""
    return lambda images: model(images).softmax(1).gather(1, classes[:, None])[:, 0].float().cpu()
