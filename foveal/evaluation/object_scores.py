"""Scores of a model's places against the objects of images, gathered over batches.

The region of an image is the union of its objects; where images have several, the scores of each object alone are
averaged over the image too. Only images with objects count.

Axes: B batch, R regions, H W map, V versions of a map: its own and both nulls'.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from foveal.evaluation.metrics import Interval, centered_maps, energy, interval, iou, pointing, shuffled_maps
from foveal.evaluation.regions import Size, Targets, singles, unions

METRICS = ("pointing", "energy", "iou")
REGIONS = 256  # scored at once, for memory
LEAST = 2  # images that an interval needs
Objects = Literal["all", "each"]


@dataclass(frozen=True)
class LocalizationResult:
    """Agreement of one place's attention, or of Grad-CAM ("grad_cam of" a layer), with the objects, by one metric.

    Attributes:
        path, metric: the place and the metric.
        objects: "all", the union of an image's objects; or "each", the mean over its objects, each alone.
        images: number of images with objects, which alone count.
        attention: of the map itself.
        vs_center_baseline: the difference to the map's own weights, sorted from the centre outwards.
        vs_shuffled_baseline: the difference to the map of another image.
    """

    path: str
    metric: str
    objects: Objects
    images: int
    attention: Interval
    vs_center_baseline: Interval
    vs_shuffled_baseline: Interval

    @property
    def beats_both(self) -> bool:
        """Return True if both differences are positive, and their intervals exclude 0."""
        return self.vs_center_baseline.low > 0 and self.vs_shuffled_baseline.low > 0

    @property
    def measure(self) -> str:
        """The metric, and of which objects."""
        return self.metric if self.objects == "all" else f"{self.metric} of each object alone"

    def __str__(self) -> str:
        outcome = "beats both nulls" if self.beats_both else "not better than chance"
        return (
            f"{self.path}: {self.measure} {self.attention}, over centred {self.vs_center_baseline}, "
            f"over another image's {self.vs_shuffled_baseline}: {outcome}"
        )


def with_nulls(maps: Tensor) -> list[Tensor]:
    """Return maps and both of their nulls."""
    return [maps, centered_maps(maps), shuffled_maps(maps)]


def region_scores(maps: Tensor, targets: Targets, thresholds: Sequence[float]) -> Tensor:
    """Score maps (V, B, H, W) by pointing, energy, and the IoU at T thresholds: (2 + T, V, images with regions)."""
    cells = maps.shape[2], maps.shape[3]
    scores = [maps.new_zeros(2 + len(thresholds), len(maps), 0)]
    for some in targets.parts(REGIONS):
        cover, holds = some.coverage(cells), some.holds(cells)
        for_each_version = [
            torch.stack([pointing(own, holds), energy(own, cover), *(iou(own, cover, each) for each in thresholds)])
            for own in maps[:, some.owners]
        ]
        scores.append(torch.stack(for_each_version, 1))
    return targets.average(torch.cat(scores, 2))


class ObjectScores:
    """Scores of every place.

    Args:
        thresholds: of the IoU, by path; 0.5 for others.
    """

    def __init__(self, thresholds: Mapping[str, float]):
        self._thresholds = thresholds
        self._scores: dict[tuple[str, Objects], list[Tensor]] = {}
        self._known = self._shown = 0
        self._several = False

    def add(self, places: Mapping[str, Tensor], objects: Sequence[Tensor], image: Size) -> None:
        """Add a batch: maps (B, H, W) by path, and the objects of each of its images, see `read_objects`."""
        counts = [len(each) for each in objects]
        self._known += len(counts)
        self._shown += sum(count > 0 for count in counts)
        several = max(counts) > 1
        self._several |= several
        every, each = unions(objects, image), singles(objects, image) if several else None
        for path, maps in places.items():
            versions, threshold = torch.stack(with_nulls(maps)), [self._thresholds.get(path, 0.5)]
            scores = region_scores(versions, every, threshold)
            self._scores.setdefault((path, "all"), []).append(scores)
            alone = region_scores(versions, each, threshold) if each else scores
            self._scores.setdefault((path, "each"), []).append(alone)

    def results(self) -> Iterator[LocalizationResult]:
        """Yield the results of every place; for each object alone only if an image has several."""
        for (path, objects), parts in self._scores.items():
            scores = torch.cat(parts, 2)
            if scores.shape[2] < LEAST or (objects == "each" and not self._several):
                continue
            for metric, (own, central, other) in zip(METRICS, scores, strict=True):
                three = interval(own), interval(own - central), interval(own - other)
                yield LocalizationResult(path, metric, objects, len(own), *three)

    def left_out(self) -> list[str]:
        """Say how many images do not count."""
        without = self._known - self._shown
        if not without:
            return []
        few = f"; an interval needs {LEAST}, so they are not computed" if self._shown < LEAST else ""
        return [f"pointing, energy and iou: {without:,} of {self._known:,} images, which show no object{few}"]
