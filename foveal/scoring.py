"""Score: does the attention look at the object, and does the network need it?

Two questions, asked place by place. Located: how well what the attention weighs meets the true box (`foveal.metrics`),
against two nulls that have not seen the image. Needed: how much accuracy is lost when its weights are taken from
somewhere else,

    mean       the mean weights over a data set: what remains says nothing of the image
    another    those of another image, the one before in its batch
    none       weights that prefer nothing: 1, equal shares, the identity

Every figure is a mean over images with its 95 % interval; differences are paired, image by image. An interval says how
the same network would do on other such images, not what another training would give.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor, nn

from foveal.metrics import Interval, another, centred, energy, interval, iou, looked_at, pointing
from foveal.recording import watch
from foveal.replacing import New, replace
from foveal.shapes import evaluating
from foveal.warps import CONTROL

Batch = Sequence[Tensor]  # images as the network wants them, labels, and boxes where they are known
THRESHOLDS = tuple(tenth / 10 for tenth in range(1, 10))  # of a map's range, from which the IoU's is chosen


@dataclass(frozen=True)
class Located:
    """How well the attention of one place meets the boxes, by one metric."""

    where: str
    metric: str
    attention: Interval
    over_centred: Interval  # the attention less its own weights dealt out from the centre
    over_another: Interval  # less the attention of another image

    @property
    def beats_both(self) -> bool:
        """Whether it meets the boxes better than both nulls, with intervals that exclude them."""
        return self.over_centred.low > 0 and self.over_another.low > 0


@dataclass(frozen=True)
class Needed:
    """How much accuracy is lost with other weights at one place."""

    where: str
    instead: str
    lost: Interval


@dataclass(frozen=True)
class Score:
    """What `foveal.score` found."""

    accuracy: float
    images: int
    located: tuple[Located, ...]
    needed: tuple[Needed, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    def __str__(self) -> str:
        lines = [f"accuracy {self.accuracy:.4f} of {self.images} images; means over images with 95 % intervals"]
        for each in self.located:
            beats = "beats both nulls" if each.beats_both else "not better than chance"
            lines.append(
                f"{each.where}: {each.metric} {each.attention}, over centred {each.over_centred}, "
                f"over another image's {each.over_another}: {beats}"
            )
        lines += [f"{each.where}: accuracy lost with weights of {each.instead}: {each.lost}" for each in self.needed]
        return "\n".join(lines)


def score(
    model: nn.Module,
    loader: Iterable[Batch],
    choose: Iterable[Batch] | None = None,
    *,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Score:
    """Score every attention of a model that can be seen.

    Args:
        model: on images, answering logits; scored in evaluation mode, and left as it was.
        loader: batches of images as the model wants them, labels and, where they are known, boxes (B, 4): x0, y0, x1,
            y1 in pixels. It is read several times, in the same order: a list or a DataLoader, no generator; in an order
            in which an image and the one before are no more alike than any others.
        choose: batches for every choice, those of the validation part: the threshold of the IoU, the mean weights; the
            loader itself if left out.
        on_progress: told the number of passes done and of all.

    Raises:
        ValueError: a model without attention, a loader without images, boxes that lie outside the images.
    """
    choose = loader if choose is None else choose
    with evaluating(model), torch.no_grad():
        thresholds = best_thresholds(model, choose)
        located, right = locate(model, loader, thresholds)
        others = alternatives(model, choose)
        of, needed = 1 + sum(map(len, others.values())), []
        on_progress(1, of)
        for where, weights in others.items():
            for instead, new in weights.items():
                with replace(model, {where: new}):
                    lost = right - answered(model, loader)
                needed.append(Needed(where, instead, interval(lost)))
                on_progress(1 + len(needed), of)
    return Score(right.mean().item(), len(right), tuple(located), tuple(needed))


def answered(model: nn.Module, loader: Iterable[Batch]) -> Tensor:
    """Whether each answer is right, 1 or 0: (N,)."""
    right = [correct(model(images), labels) for images, labels, *_ in loader]
    if not right:
        raise ValueError("loader: it gave no images")
    return torch.cat(right)


def correct(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(1) == labels).float().cpu()


def where_it_looks(model: nn.Module, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
    """Where each place looks on a batch, by path, and whether each answer is right."""
    images, labels, *_ = batch
    size = images.shape[2], images.shape[3]
    with watch(model, device="cpu") as seen:
        logits = model(images)
    maps = {path: looked_at(record, size) for path, record in zip(seen.paths(), seen, strict=True)}
    return {path: each for path, each in maps.items() if each is not None}, correct(logits, labels)


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


def best_thresholds(model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
    """For each place the threshold with the largest mean IoU."""
    found: dict[str, list[Tensor]] = {}
    for batch in loader:
        boxes = boxes_of(batch)
        if boxes is None:
            return {}
        size = batch[0].shape[2], batch[0].shape[3]
        for path, maps in where_it_looks(model, batch)[0].items():
            ious = torch.stack([iou(maps, boxes, size, threshold) for threshold in THRESHOLDS])
            found.setdefault(path, []).append(ious)
    return {path: THRESHOLDS[int(torch.cat(ious, 1).mean(1).argmax())] for path, ious in found.items()}


def locate(model: nn.Module, loader: Iterable[Batch], thresholds: dict[str, float]) -> tuple[list[Located], Tensor]:
    """How well each place meets the boxes, and whether each answer is right."""
    scores: dict[tuple[str, str], list[Tensor]] = {}
    right = []
    for batch in loader:
        boxes = boxes_of(batch)
        places, answers = where_it_looks(model, batch)
        right.append(answers)
        size = batch[0].shape[2], batch[0].shape[3]
        alone = len(answers) == 1  # with no other image beside it
        for path, maps in places.items() if boxes is not None and not alone else ():
            metrics: dict[str, Callable[..., Tensor]] = {
                "pointing": pointing,
                "energy": energy,
                "iou": partial(iou, threshold=thresholds.get(path, 0.5)),
            }
            for name, metric in metrics.items():
                three = [metric(each, boxes, size) for each in (maps, centred(maps), another(maps))]
                scores.setdefault((path, name), []).append(torch.stack(three))
    if not right:
        raise ValueError("loader: it gave no images")
    located = []
    for (path, name), parts in scores.items():
        own, central, other = torch.cat(parts, 1)
        located.append(Located(path, name, interval(own), interval(own - central), interval(own - other)))
    return located, torch.cat(right)


def alternatives(model: nn.Module, loader: Iterable[Batch]) -> dict[str, dict[str, New]]:
    """For each place the weights to set in the place of its own. A glimpse's path is told when it is over: none.

    A place that is called several times has a mean for each call but takes one weight for all: it gets another image's.
    """
    with watch(model, keep="statistics") as seen:
        for images, *_ in loader:
            model(images)
    found: dict[str, dict[str, New]] = {}
    for path, held in zip(seen.paths(), seen, strict=True):
        where, _, call = path.partition("#")
        if held.kind == "glimpse" or where in found:
            continue
        mean = held.between.mean.float()
        found[where] = (
            {"another": another} if call else {"mean": mean[None], "another": another}
        )  # each call has its own
        unmoved = None if call or held.hard else neutral(held.kind, held.axes, mean)
        if unmoved is not None:
            found[where]["none"] = unmoved
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
