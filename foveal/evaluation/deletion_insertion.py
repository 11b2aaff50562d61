"""Deletion and insertion curves (Petsiuk et al., 2018, RISE): does what a map marks carry the answer?

    deletion    pixels take the image's mean colour, the largest weight first: the probability should fall early
    insertion   a blurred image gets its pixels back in the same order: the probability should rise early

What is told is the area under the curve of the probability over the share of the pixels, from 0 to 1, by the
trapezoidal rule over `STEPS` equal steps: for a good map small in deletion, large in insertion. A pixel has the weight
of the cell of the map that it lies in. Pixels of one weight, as those of a cell or of a transform's region, come in a
random order, the same for every map.

Departures: ten steps for all image sizes; the blur's width goes with the image (five pixels of 224 in the authors'
code, which hide nothing in a small image); the mean colour of each image, where theirs takes zeros after normalisation.

This file knows no model: an answer is a function of images. Axes: B batch, C channel, H W image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from foveal.evaluation.metrics import Interval, interval

STEPS = 10
BLUR = 1 / 8  # standard deviation as a share of the shorter side
SEED = 0  # of the order of pixels of one weight

Answer = Callable[[Tensor], Tensor]  # from images to the probability of each one's class, (B,)
Name = Literal["deletion", "insertion"]
NAMES: tuple[Name, ...] = get_args(Name)


@dataclass(frozen=True)
class DeletionInsertionResult:
    """The area under a curve of one place, 0 to 1; its differences are image by image."""

    path: str
    curve: Name
    auc: Interval
    vs_center_baseline: Interval  # less that of the map's own weights dealt out from the centre
    vs_shuffled_baseline: Interval  # less that of another image's map

    @property
    def beats_both(self) -> bool:
        """Whether the area is smaller (insertion: larger) than both nulls', with intervals that exclude them."""
        if self.curve == "deletion":
            return self.vs_center_baseline.high < 0 and self.vs_shuffled_baseline.high < 0
        return self.vs_center_baseline.low > 0 and self.vs_shuffled_baseline.low > 0

    def __str__(self) -> str:
        beats = "beats both nulls" if self.beats_both else "not better than chance"
        wanted = "small" if self.curve == "deletion" else "large"
        return (
            f"{self.path}: area under {self.curve} {self.auc} ({wanted} is good), less "
            f"centred {self.vs_center_baseline}, less another image's {self.vs_shuffled_baseline}: {beats}"
        )


def deletion_insertion_results(path: str, found: Tensor) -> list[DeletionInsertionResult]:
    """Both curves of a place from the areas (2, 3, N) of its maps, the centred ones and other images'."""
    return [
        DeletionInsertionResult(path, name, interval(own), interval(own - central), interval(own - other))
        for name, (own, central, other) in zip(NAMES, found, strict=True)
    ]


def curve_areas(answer: Answer, images: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """The areas under deletion and insertion of M maps (B, H, W) of the same images (B, C, H, W): (2, M, B).

    It asks for 3 + 2 (STEPS - 1) M answers.
    """
    grey, blurry = images.mean((2, 3), keepdim=True).expand_as(images), blurred(images)
    whole, ends = answer(images), (answer(grey), answer(blurry))
    pixels = images.shape[2] * images.shape[3]
    found = []
    for each in maps:
        when = removal_order(each, (images.shape[2], images.shape[3])).to(images.device)[:, None]  # (B, 1, H, W)
        taken = [when < pixels * step / STEPS for step in range(1, STEPS)]
        deletion = [answer(torch.where(gone, grey, images)) for gone in taken]
        insertion = [answer(torch.where(back, images, blurry)) for back in taken]
        found.append(torch.stack([auc([whole, *deletion, ends[0]]), auc([ends[1], *insertion, whole])]))
    return torch.stack(found, 1)


def auc(points: list[Tensor]) -> Tensor:
    """Under a curve over [0, 1] of points (B,) at equal distances: (B,)."""
    return torch.trapezoid(torch.stack(points), dx=1 / (len(points) - 1), dim=0)


def removal_order(maps: Tensor, image: tuple[int, int]) -> Tensor:
    """When each pixel's turn is, from 0, those of the largest weight first: (B, H, W) of the image."""
    weights = F.interpolate(maps[:, None].float().cpu(), image, mode="nearest-exact").flatten(1)  # (B, H W)
    mixed = torch.randperm(weights.shape[1], generator=torch.Generator().manual_seed(SEED))
    chosen = mixed[weights[:, mixed].argsort(dim=1, descending=True, stable=True)]
    return chosen.argsort(1).view(len(maps), *image)


def blurred(images: Tensor) -> Tensor:
    """Images under a Gaussian of a width of `BLUR`, cut at two standard deviations; at the edges they are mirrored."""
    deviation = BLUR * min(images.shape[2:])
    reach = int(2 * deviation)
    line = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    line = (-0.5 * (line / deviation).square()).exp()
    line = line / line.sum()
    planes = F.pad(images.flatten(0, 1)[:, None], (reach,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(planes, line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1)).view_as(images)
