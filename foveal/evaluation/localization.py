"""Localization: where a model looks, how well this matches true boxes or masks, and whether it carries the answer.

Each place of a model is scored: its attention, where it has a map of the image, and Grad-CAM at the last map. Each is
compared with two nulls that do not depend on the image, see `foveal.evaluation.metrics`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from foveal.core.answers import Answers, read_answers, run_model
from foveal.core.record import Record
from foveal.core.validation import has_inference_weights, iter_images
from foveal.evaluation.deletion_insertion import (
    Answer,
    DeletionInsertionResult,
    curve_areas,
    deletion_insertion_results,
)
from foveal.evaluation.metrics import looked_at
from foveal.evaluation.object_scores import ObjectScores, region_scores, with_nulls
from foveal.evaluation.objects import read_objects
from foveal.evaluation.regions import unions
from foveal.inspection.finding.find import NONE_FOUND, find_places
from foveal.inspection.grad_cam import class_activation
from foveal.inspection.tap_points import Extra
from foveal.inspection.watch import watch

Batch = Sequence[Any]  # images as the model expects them, labels, and objects where they are known
MOVING = ("transform", "crop", "glimpse")  # kinds after which the positions of a map are not those of the image
NAMED = 3  # paths in one line
THRESHOLDS = tuple(tenth / 10 for tenth in range(1, 10))  # as a share of a map's range; the IoU's is chosen of these


@dataclass(frozen=True)
class SaliencySource:
    """A model and the ways in which it shows where it looks.

    Attributes:
        model: in evaluation mode.
        attention: True if the model has attention to watch.
        layer: the layer of Grad-CAM; None without one.
        outputs: the number of the model's outputs, 1 for a binary model.
        left_out: what cannot be measured of this model, and why.
    """

    model: nn.Module
    attention: bool
    layer: str | None
    outputs: int
    left_out: tuple[str, ...]
    extra: Extra | None = None
    answer: Callable[[Any], Tensor] | None = None

    def read(self, out: Any, count: int) -> Answers:
        """Read what the model returned for `count` images."""
        return read_answers(out if self.answer is None else self.answer(out), count)

    def __call__(self, images: Tensor) -> tuple[dict[str, Tensor], Answers]:
        """Return where each place looks, (B, H, W) by path on the CPU, and the answers."""
        records: dict[str, Record] = {}
        if self.attention:
            with watch(self.model, device="cpu", extra=self.extra) as seen:
                out = run_model(self.model, images)
            records |= zip(seen.paths(), seen, strict=True)
        else:
            out = run_model(self.model, images)
        answers = self.read(out, len(images))
        if self.layer is not None:
            gradient = class_activation(self.model, images, self.layer, answer=self.answer)
            records[f"grad_cam of {self.layer}"] = gradient
        size = images.shape[2], images.shape[3]
        maps = {path: looked_at(record, size) for path, record in records.items()}
        return {path: each.cpu() for path, each in maps.items() if each is not None}, answers


def find_saliency_source(
    model: nn.Module, loader: Iterable[Any], extra: Extra | None = None, answer: Callable[[Any], Tensor] | None = None
) -> SaliencySource:
    """Find how a model shows where it looks, from the first image of a loader; `extra`, `answer`: as for `score`.

    Raises:
        ValueError: no images; answers that are not logits; neither attention nor a map for Grad-CAM.
    """
    images = next(iter_images(loader, model), None)
    if images is None:
        raise ValueError("loader: it gave no images")
    source = SaliencySource(model, False, None, 0, (), extra, answer)
    outputs = count_outputs(source, images[:2])
    found = find_places(model, extra)
    places = found.places
    attention, layer, left_out = bool(places or found.reasons), None, []
    if not attention:
        left_out.append(f"{type(model).__name__}: {NONE_FOUND}; foveal.attach adds one")
    moving = [path for path, place in places.items() if place.facts.kind in MOVING]
    if moving:
        left_out.append(f"Grad-CAM: {moving[0]!r} moves the image, so that the maps after it do not lie over it")
    else:
        try:
            layer = class_activation(model, images[:1], answer=answer).path
        except ValueError as reason:
            left_out.append(str(reason))
    if layer is None and not attention:
        raise ValueError("; ".join(left_out))
    source = replace(source, attention=attention, layer=layer, outputs=outputs)
    return replace(source, left_out=(*left_out, *places_without_map(source, images[:1])))


def count_outputs(source: SaliencySource, images: Tensor) -> int:
    """Return the number of a model's outputs, 1 for a binary model, from a pass that autograd records."""
    with torch.inference_mode(False), torch.set_grad_enabled(not has_inference_weights(source.model)):
        pixels = images.detach().clone().requires_grad_(images.is_floating_point())
        out = run_model(source.model, pixels.clone())  # a copy, which may be changed in place
        return source.read(out, len(images)).outputs


def places_without_map(source: SaliencySource, images: Tensor) -> list[str]:
    """List, a line for each reason, the places of a model that show no map of the whole image."""
    places: dict[str, list[str]] = {}
    if source.attention:
        with watch(source.model, device="cpu", extra=source.extra) as seen, torch.no_grad():
            source.model(images)
        size = images.shape[2], images.shape[3]
        for path, record in zip(seen.paths(), seen, strict=True):
            spatial = record.kind == "affinity" and record.domain != "channel"  # gates and the like weigh channels
            if spatial and looked_at(record, size) is None:
                places.setdefault(f"affinities {record.axes!r} give no map of the whole image", []).append(path)
        for path, reason in seen.unseen.items():
            places.setdefault(reason, []).append(path)
    lines = [f"{listed(paths)}: {reason}" for reason, paths in places.items()]
    if not source(images)[0]:
        lines.append("boxes, deletion and insertion: no place gives a map of the whole image")
    return lines


def listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return f"{', '.join(map(repr, paths[:NAMED]))}{more}"


def correct(answers: Answers, labels: Tensor) -> Tensor:
    """Return 1 for each image whose answer is its label, else 0: (B,), float, on the CPU."""
    return (answers.classes().cpu() == labels).float()


def objects_of(batch: Batch) -> list[Tensor] | None:
    """Return the objects of each image of a batch, checked; None where they are not known."""
    return read_objects(batch[2], batch[0]) if len(batch) > 2 else None


def best_thresholds(source: SaliencySource, batches: Iterable[Batch]) -> dict[str, float]:
    """Return, by path, the threshold with the largest mean IoU of all objects; none where no objects are known."""
    found: dict[str, list[Tensor]] = {}
    for batch in batches:
        objects = objects_of(batch)
        if objects is None:
            return {}
        targets = unions(objects, (batch[0].shape[2], batch[0].shape[3]))
        for path, maps in source(batch[0])[0].items() if targets.regions else ():
            found.setdefault(path, []).append(region_scores(maps[None], targets, THRESHOLDS)[2:, 0])
    return {path: THRESHOLDS[int(torch.cat(ious, 1).mean(1).argmax())] for path, ious in found.items()}


def locate(
    source: SaliencySource, batches: Iterable[Batch], thresholds: dict[str, float]
) -> tuple[ObjectScores, Tensor, Tensor, Tensor]:
    """Score each place's maps against the objects.

    Returns:
        The scores; and of each image, (N,): 1 if its answer is right, its label, and whether its batch has another
        image.
    """
    scores = ObjectScores(thresholds)
    right, labels, beside = [], [], []
    for batch in batches:
        objects = objects_of(batch)
        places, answers = source(batch[0])
        count = len(batch[0])
        right.append(correct(answers, batch[1]))
        labels.append(batch[1])
        beside.append(torch.full((count,), count > 1))
        if objects is not None and count > 1 and places:
            scores.add(places, objects, (batch[0].shape[2], batch[0].shape[3]))
    images = sum(map(len, right))
    if images < 2:
        raise ValueError(f"loader: it gave {images} image; an interval over images needs two at least")
    return scores, torch.cat(right), torch.cat(labels), torch.cat(beside)


def deletion_insertion_scores(
    source: SaliencySource, batches: Iterable[Batch], count: int
) -> list[DeletionInsertionResult]:
    """Compute deletion and insertion of each place's maps and their nulls, on the first `count` images."""
    found: dict[str, list[Tensor]] = {}
    for images, *_ in batches:
        images = images[:count]
        count -= len(images)
        places, answers = source(images) if len(images) > 1 else ({}, None)
        if places and answers is not None:
            maps = [each for own in places.values() for each in with_nulls(own)]
            areas = curve_areas(probability_of(source, answers.classes()), images, maps)
            for path, three in zip(places, areas.split(3, 1), strict=True):
                found.setdefault(path, []).append(three)
        if count < 1:
            break
    return [curve for path, parts in found.items() for curve in deletion_insertion_results(path, torch.cat(parts, 2))]


def probability_of(source: SaliencySource, classes: Tensor) -> Answer:
    """Return the function from images to the model's probability of these classes."""
    return lambda images: source.read(source.model(images), len(images)).probabilities_of(classes).float().cpu()
