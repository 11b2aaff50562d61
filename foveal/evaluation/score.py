"""Scores of attention: localization, deletion and insertion curves, and ablation.

Each place of attention is scored in three ways.

- Localization: how well the weights match the objects, given as boxes or masks (`foveal.evaluation.objects`), by three
  metrics (`foveal.evaluation.metrics`), compared with two nulls that do not depend on the image. Several objects of an
  image count together, and each alone; images without objects do not count.
- Curves: how the answer changes when the pixels with the largest weights are removed, or are the only ones present
  (`foveal.evaluation.deletion_insertion`), compared with the same nulls.
- Ablation: how much accuracy is lost when the weights of a place are replaced by others,

    mean       the mean weights over a data set, which do not depend on the image
    another    those of another image, the one before in its batch
    none       weights without a preference: 1, equal shares, the identity

Localization and curves are also computed for Grad-CAM at the last map (`foveal.inspection.grad_cam`), which needs no
attention: attention shows what is let through, Grad-CAM what changes the logit.

Every figure is a mean over images with its 95 % interval; differences are paired by image. An interval covers other
images of the same kind with the same network; it does not cover another training.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from foveal.core.answers import run_model
from foveal.core.files import WRITTEN_BY
from foveal.core.trial_pass import eval_mode
from foveal.core.validation import check_model, check_read_again, iter_labelled
from foveal.data.annotated_data import AnnotationFacts
from foveal.evaluation.deletion_insertion import DeletionInsertionResult
from foveal.evaluation.localization import (
    Batch,
    SaliencySource,
    best_thresholds,
    correct,
    deletion_insertion_scores,
    find_saliency_source,
    listed,
    locate,
)
from foveal.evaluation.metrics import Interval, interval, shuffled_maps
from foveal.evaluation.object_scores import LocalizationResult
from foveal.inspection.replace import New, not_replaceable, replace
from foveal.inspection.tap_points import Extra
from foveal.inspection.watch import watch
from foveal.ops.warps import CONTROL


@dataclass(frozen=True)
class AblationResult:
    """Accuracy that is lost with other weights at one place."""

    path: str
    replacement: str
    accuracy_drop: Interval


@dataclass(frozen=True)
class ScoreResult:
    """Result of `foveal.score`."""

    accuracy: float
    images: int
    located: tuple[LocalizationResult, ...]
    curves: tuple[DeletionInsertionResult, ...]
    ablations: tuple[AblationResult, ...]
    left_out: tuple[str, ...] = ()  # what could not be measured of this network, and why
    annotations: AnnotationFacts | None = None  # of the objects, where they were read from files

    def to_json(self) -> str:
        return json.dumps({"file": WRITTEN_BY, **asdict(self)}, indent=2) + "\n"

    def __str__(self) -> str:
        lines = [f"accuracy {self.accuracy:.4f} of {self.images} images; means over images with 95 % intervals"]
        lines += [f"left out: {each}" for each in self.left_out]
        lines += map(str, self.located)
        lines += map(str, self.curves)
        lines += [
            f"{each.path}: accuracy lost with weights of {each.replacement}: {each.accuracy_drop}"
            for each in self.ablations
        ]
        return "\n".join(lines)


def score(
    model: nn.Module,
    loader: Iterable[Batch],
    choose: Iterable[Batch] | None = None,
    *,
    curved: int = 64,
    extra: Extra | None = None,
    answer: Callable[[Any], Tensor] | None = None,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> ScoreResult:
    """Score every attention of a model that can be watched, and Grad-CAM; without attention Grad-CAM alone.

    Args:
        model: returns logits (B, K); for two classes also one logit z for each image, (B, 1) or (B,), with class 1
            where z > 0. A mapping's "logits", an object's `.logits` and the first element of a tuple or list are read
            as the logits. The model is scored in evaluation mode, and its modes are restored.
        loader: batches of images (B, C, H, W) as the model expects them, labels and, where they are known, objects:
            boxes (B, 4) as x0, y0, x1, y1 in pixels, or (B, N, 4) with rows of zeros or -1 as padding; masks (B, H, W)
            or (B, N, H, W) of 0 and 1; a list with boxes (N, 4), masks (N, H, W), or torchvision's detection target for
            each image. Labels are integers (B,) or (B, 1) from 0, or one-hot rows (B, K); for a model with one output
            also floats 0 and 1. A batch is a tuple, a list, or a dict with the keys `images`, `image` or
            `pixel_values`, `labels` or `label`, and `boxes` or `masks`; of tensors or NumPy arrays. The loader is read
            several times, in the same order: a list or a DataLoader, not a generator; neighbouring images should be no
            more alike than others. For an image that is alone in its batch, nothing is computed that needs another one.
        choose: batches for every choice (threshold of the IoU, mean weights), those of the validation part; by default
            the loader itself.
        curved: number of images, the first ones, for the curves: 57 forward passes over them for the first place, 54
            for each further place. 0 leaves the curves out.
        extra: as for `foveal.watch`.
        answer: function from what the model returns to its logits, where they are not found as above.
        on_progress: called with the number of passes done and of all passes.

    Returns:
        Accuracy, and the scores of every place; `left_out` lists what could not be measured, and why.

    Raises:
        TypeError: `model` is not a module; a batch is not images and labels.
        ValueError: a model with neither attention nor a map for Grad-CAM; answers that are not logits or not finite;
            labels that are not one class of the model for each image; a loader with fewer than two images, that can be
            read only once, fails, or changes its order; boxes that are not within the images.

    >>> import foveal, torch
    >>> model = foveal.create_model("small_cnn+se", num_classes=2)
    >>> loader = [(torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 0, 1]))]
    >>> result = foveal.score(model, loader, curved=0)
    >>> result.images, [each.replacement for each in result.ablations][:3]
    (4, ['mean', 'another', 'none'])
    """
    check_model(model)
    check_read_again(loader)
    check_read_again(choose, "choose")
    with eval_mode(model), torch.no_grad():
        source = find_saliency_source(model, loader, extra, answer)
        labelled = partial(iter_labelled, loader, model, source.outputs)
        chosen = labelled if choose is None else partial(iter_labelled, choose, model, source.outputs, "choose")
        thresholds = best_thresholds(source, chosen())
        scores, right, labels, beside = locate(source, labelled(), thresholds)
        others, fixed = alternatives(source, chosen()) if source.attention else ({}, [])
        done, of, ablations = 2, 2 + sum(map(len, others.values())), []
        on_progress(1, of)
        curves = deletion_insertion_scores(source, labelled(), curved)
        on_progress(done, of)
        for path, weights in others.items():
            for replacement, new in weights.items():
                with replace(model, {path: new}, extra):
                    lost = right - answered(source, labelled(), labels)
                lost = lost[beside] if replacement == "another" else lost
                if len(lost) > 1:
                    ablations.append(AblationResult(path, replacement, interval(lost)))
                done += 1
                on_progress(done, of)
    located, left_out = tuple(scores.results()), (*source.left_out, *scores.left_out(), *fixed)
    return ScoreResult(right.mean().item(), len(right), located, tuple(curves), tuple(ablations), left_out)


def answered(source: SaliencySource, batches: Iterable[Batch], expected: Tensor) -> Tensor:
    """Return 1 for each image that is answered right, else 0: (N,); `expected` are the labels of an earlier reading."""
    read = [
        (correct(source.read(run_model(source.model, images), len(images)), labels), labels)
        for images, labels, *_ in batches
    ]
    right, labels = (torch.cat(each) for each in zip(*read, strict=True))
    if not torch.equal(labels, expected):
        raise ValueError("loader: read again it gave other labels; it must keep its order, as shuffle=False does")
    return right


def alternatives(source: SaliencySource, batches: Iterable[Batch]) -> tuple[dict[str, dict[str, New]], list[str]]:
    """Return, for each place, the weights that replace its own; and, a line for each reason, places of which none can.

    A glimpse has none: its path is known only after the pass. A place that is called several times has a mean for each
    call, but `replace` sets one weight for all calls; only another image's weights, which each call has, are set.
    """
    with watch(source.model, keep="statistics", extra=source.extra) as seen:
        for images, *_ in batches:
            source.model(images)
    found: dict[str, dict[str, New]] = {}
    for key, held in zip(seen.paths(), seen, strict=True):
        path, _, call = key.partition("#")
        if held.kind == "glimpse" or path in found:
            continue
        mean = held.across_images.mean.float()
        found[path] = {"another": shuffled_maps} if call else {"mean": mean[None], "another": shuffled_maps}
        unmoved = None if call or held.hard else neutral(held.kind, held.axes, mean)
        if unmoved is not None:
            found[path]["none"] = unmoved
    fixed = not_replaceable(source.model, found, images, source.extra)
    lines = [
        f"ablation of {listed([path for path in fixed if fixed[path] == reason])}: {reason}"
        for reason in dict.fromkeys(fixed.values())
    ]
    return {path: weights for path, weights in found.items() if path not in fixed}, lines


def neutral(kind: str, axes: str, mean: Tensor) -> Tensor | None:
    """Return weights of this kind, without B, that change nothing; None where no such weights exist."""
    if kind == "transform":
        return torch.tensor(CONTROL) if axes == "B P 2" else torch.eye(mean.shape[0], 3)
    if kind == "selection":
        return torch.full_like(mean, 1 / mean.shape[0])
    if kind in ("gate", "mask"):
        shares = kind == "mask" and abs(mean.sum().item() - 1) < 1e-3  # weights of the positions sum to 1
        return torch.full_like(mean, 1 / mean.numel() if shares else 1.0)
    return None
