"""Deletion and insertion curves (Petsiuk et al., 2018, RISE) of attention maps.

    deletion    pixels are set to the image's mean colour, largest weight first: the probability should fall early
    insertion   pixels of a blurred image are restored in the same order: the probability should rise early

The result is the area under the curve of the class probability over the share of pixels, from 0 to 1, by the
trapezoidal rule with `STEPS` equal steps: small is good for deletion, large for insertion. A pixel has the weight of
the map's cell that contains it. Pixels of equal weight, such as those of one cell or of a transform's region, are taken
in a random order that is the same for every map.

Departures: ten steps for all image sizes; the blur's width is proportional to the image (five pixels of 224 in the
authors' code, which hide nothing in a small image); the mean colour of each image, where the authors' code uses zeros
after normalisation.

Axes: B batch, C channel, H W image.
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
SEED = 0  # seed for the order of pixels of equal weight

Answer = Callable[[Tensor], Tensor]  # images to the probability (B,) of each image's class
Name = Literal["deletion", "insertion"]
NAMES: tuple[Name, ...] = get_args(Name)


@dataclass(frozen=True)
class DeletionInsertionResult:
    """Area under one curve of one place, 0 to 1, and its paired differences from two baselines."""

    path: str
    curve: Name
    auc: Interval
    vs_center_baseline: Interval  # area minus that of the map's weights sorted from the centre outwards
    vs_shuffled_baseline: Interval  # area minus that of another image's map

    @property
    def beats_both(self) -> bool:
        """True if the area is smaller (insertion: larger) than both baselines' and the intervals exclude 0."""
        if self.curve == "deletion":
            return self.vs_center_baseline.high < 0 and self.vs_shuffled_baseline.high < 0
        return self.vs_center_baseline.low > 0 and self.vs_shuffled_baseline.low > 0

    def __str__(self) -> str:
        outcome = "beats both nulls" if self.beats_both else "not better than chance"
        good = "small" if self.curve == "deletion" else "large"
        return (
            f"{self.path}: area under {self.curve} {self.auc} ({good} is good), minus "
            f"centred {self.vs_center_baseline}, minus another image's {self.vs_shuffled_baseline}: {outcome}"
        )


def deletion_insertion_results(path: str, found: Tensor) -> list[DeletionInsertionResult]:
    """Summarize both curves of a place, given the areas (2, 3, N) of its maps, centred maps and other images' maps."""
    return [
        DeletionInsertionResult(path, name, interval(own), interval(own - central), interval(own - other))
        for name, (own, central, other) in zip(NAMES, found, strict=True)
    ]


def curve_areas(answer: Answer, images: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """Compute the areas (2, M, B) under deletion and insertion of M maps (B, H, W) of the same images (B, C, H, W).

    `answer` is called 3 + 2 (STEPS - 1) M times.
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
    """Compute the area (B,) under a curve over [0, 1] of equidistant points (B,)."""
    return torch.trapezoid(torch.stack(points), dx=1 / (len(points) - 1), dim=0)


def removal_order(maps: Tensor, image: tuple[int, int]) -> Tensor:
    """Compute the rank (B, H, W) of each pixel of the image, from 0 for the largest weight."""
    weights = F.interpolate(maps[:, None].float().cpu(), image, mode="nearest-exact").flatten(1)  # (B, H W)
    mixed = torch.randperm(weights.shape[1], generator=torch.Generator().manual_seed(SEED))
    chosen = mixed[weights[:, mixed].argsort(dim=1, descending=True, stable=True)]
    return chosen.argsort(1).view(len(maps), *image)


def blurred(images: Tensor) -> Tensor:
    """Blur images with a Gaussian of width `BLUR`, truncated at two standard deviations, with reflected edges."""
    deviation = BLUR * min(images.shape[2:])
    reach = int(2 * deviation)
    line = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    line = (-0.5 * (line / deviation).square()).exp()
    line = line / line.sum()
    planes = F.pad(images.flatten(0, 1)[:, None], (reach,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(planes, line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1)).view_as(images)
