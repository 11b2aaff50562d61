"""Score: does the attention look at the object, does what it looks at carry the answer, does the network need it?

Three questions, asked place by place. Located: how well what the attention weighs meets the true box
(`foveal.evaluation.metrics`), against two nulls that have not seen the image. Curves: how the answer fares when the
pixels that it weighs most are taken away, or are all that there is (`foveal.evaluation.deletion_insertion`), against
the same nulls. Both are also asked of Grad-CAM at the last map (`foveal.inspection.grad_cam`), which needs no
attention: beside what attention lets through, what moves the logit. Needed: how much accuracy is lost when an
attention's weights are taken from somewhere else,

    mean       the mean weights over a data set: what remains says nothing of the image
    another    those of another image, the one before in its batch
    none       weights that prefer nothing: 1, equal shares, the identity

Every figure is a mean over images with its 95 % interval; differences are paired, image by image. An interval says how
the same network would do on other such images, not what another training would give.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor, nn

from foveal.core.trial_pass import eval_mode
from foveal.core.validation import check_model, check_read_again, iter_labelled
from foveal.evaluation.deletion_insertion import DeletionInsertionResult
from foveal.evaluation.localization import (
    Batch,
    LocalizationResult,
    best_thresholds,
    correct,
    deletion_insertion_scores,
    find_saliency_source,
    locate,
)
from foveal.evaluation.metrics import Interval, interval, shuffled_maps
from foveal.inspection.replace import New, replace
from foveal.inspection.watch import watch
from foveal.ops.warps import CONTROL


@dataclass(frozen=True)
class AblationResult:
    """How much accuracy is lost with other weights at one place."""

    path: str
    replacement: str
    accuracy_drop: Interval


@dataclass(frozen=True)
class ScoreResult:
    """What `foveal.score` found."""

    accuracy: float
    images: int
    located: tuple[LocalizationResult, ...]
    curves: tuple[DeletionInsertionResult, ...]
    ablations: tuple[AblationResult, ...]
    left_out: tuple[str, ...] = ()  # what could not be asked of this network, and why

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    def __str__(self) -> str:
        lines = [f"accuracy {self.accuracy:.4f} of {self.images} images; means over images with 95 % intervals"]
        lines += [f"left out: {each}" for each in self.left_out]
        for each in self.located:
            beats = "beats both nulls" if each.beats_both else "not better than chance"
            lines.append(
                f"{each.path}: {each.metric} {each.attention}, over centred {each.vs_center_baseline}, "
                f"over another image's {each.vs_shuffled_baseline}: {beats}"
            )
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
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> ScoreResult:
    """Score every attention of a model that can be seen, and Grad-CAM; of a model without attention Grad-CAM alone.

    Args:
        model: on images, answering logits; scored in evaluation mode, and left as it was.
        loader: batches of images as the model wants them, labels and, where they are known, boxes (B, 4): x0, y0, x1,
            y1 in pixels. It is read several times, in the same order: a list or a DataLoader, no generator; in an order
            in which an image and the one before are no more alike than any others. Where an image is alone in its
            batch, nothing is asked that needs another one.
        choose: batches for every choice, those of the validation part: the threshold of the IoU, the mean weights; the
            loader itself if left out.
        curved: images, the first ones, of which curves are drawn: 57 forward passes over them for the first place, 54
            for each more. 0 draws none.
        on_progress: told the number of passes done and of all.

    Raises:
        TypeError: `model` is no module; a batch is not images and labels.
        ValueError: a model with neither attention nor a map for Grad-CAM; a loader with fewer than two images, that
            can be read only once, fails, or changes its order; boxes that lie outside the images.
    """
    check_model(model)
    check_read_again(loader)
    check_read_again(choose, "choose")
    with eval_mode(model), torch.no_grad():
        looking = find_saliency_source(model, loader)
        chosen = partial(
            iter_labelled, loader if choose is None else choose, model, "loader" if choose is None else "choose"
        )
        thresholds = best_thresholds(looking, chosen())
        located, right, labels, beside = locate(looking, iter_labelled(loader, model), thresholds)
        others = alternatives(model, chosen()) if looking.attention else {}
        done, of, ablations = 2, 2 + sum(map(len, others.values())), []
        on_progress(1, of)
        curves = deletion_insertion_scores(looking, iter_labelled(loader, model), curved)
        on_progress(done, of)
        for path, weights in others.items():
            for replacement, new in weights.items():
                with replace(model, {path: new}):
                    lost = right - answered(model, iter_labelled(loader, model), labels)
                lost = lost[beside] if replacement == "another" else lost
                if len(lost) > 1:
                    ablations.append(AblationResult(path, replacement, interval(lost)))
                done += 1
                on_progress(done, of)
    return ScoreResult(
        right.mean().item(), len(right), tuple(located), tuple(curves), tuple(ablations), looking.left_out
    )


def answered(model: nn.Module, batches: Iterable[Batch], expected: Tensor) -> Tensor:
    """Whether each answer is right, 1 or 0, of images whose labels were these when they were read before: (N,)."""
    read = [(correct(model(images), labels), labels.cpu()) for images, labels, *_ in batches]
    right, labels = (torch.cat(each) for each in zip(*read, strict=True))
    if not torch.equal(labels, expected):
        raise ValueError("loader: read again it gave other labels; it must keep its order, as shuffle=False does")
    return right


def alternatives(model: nn.Module, batches: Iterable[Batch]) -> dict[str, dict[str, New]]:
    """For each place the weights to set in the place of its own. A glimpse's path is told when it is over: none.

    A place that is called several times has a mean for each call but takes one weight for all: it gets another image's.
    """
    with watch(model, keep="statistics") as seen:
        for images, *_ in batches:
            model(images)
    found: dict[str, dict[str, New]] = {}
    for key, held in zip(seen.paths(), seen, strict=True):
        path, _, call = key.partition("#")
        if held.kind == "glimpse" or path in found:
            continue
        mean = held.across_images.mean.float()
        found[path] = (
            {"another": shuffled_maps} if call else {"mean": mean[None], "another": shuffled_maps}
        )  # each call has its own
        unmoved = None if call or held.hard else neutral(held.kind, held.axes, mean)
        if unmoved is not None:
            found[path]["none"] = unmoved
    return found


def neutral(kind: str, axes: str, mean: Tensor) -> Tensor | None:
    """Weights like these, without B, that change nothing; None where there are none such."""
    if kind == "transform":
        return torch.tensor(CONTROL) if axes == "B P 2" else torch.eye(mean.shape[0], 3)
    if kind == "selection":
        return torch.full_like(mean, 1 / mean.shape[0])
    if kind in ("gate", "mask"):
        shares = kind == "mask" and abs(mean.sum().item() - 1) < 1e-3  # of the positions, one in sum
        return torch.full_like(mean, 1 / mean.numel() if shares else 1.0)
    return None
