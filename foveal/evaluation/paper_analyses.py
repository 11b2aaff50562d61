"""Analyses of the papers: dependence of attention on class, object size and pose.

Excitation by class (Hu et al., 2018, Figures 6 and 7 of the journal version): mean and standard deviation of the gates
s_n over the images n of class k, for each channel. In SE-ResNet-50, early gates are about the same for all classes, and
later ones are not.

Selection by size (Li et al., 2019, Figures 3 and 4): the central object is enlarged by cropping the centre and resizing
it to the image's size. The mean attention to the branch with the larger kernel minus that to the smaller one increases
with the object's size, in early and middle blocks.

Pose before and after (Jaderberg et al., 2015, sec. 4: a transformer learns to bring its objects to one pose): theta
maps output to input, so an object's box in the transformer's output is theta^-1 of its corners. A box has no angle;
rotation is not measured.

Only sums of gates and selections are stored, so a loader may have any length.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import log2
from statistics import linear_regression
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foveal.core.answers import run_model
from foveal.core.record import Record
from foveal.core.trial_pass import eval_mode
from foveal.core.validation import check_model, iter_images, iter_labelled
from foveal.evaluation.central_objects import enlarged, iter_boxed
from foveal.evaluation.localization import Batch
from foveal.evaluation.poses import deviation, normalised_corners, pose, undone
from foveal.evaluation.trends import share_between
from foveal.inspection.drawing.paper_figures import draw_classes, draw_poses, draw_sizes
from foveal.inspection.drawing.picture import Picture
from foveal.inspection.watch import watch

CHANNELS = 50  # channels in the figure by class, as in the paper's


@dataclass(frozen=True, eq=False)
class Excitation:
    """Gates by class, for K classes; C is the number of channels of a place.

    Attributes:
        classes: Names of the K classes.
        counts: Number of images of each class, (K,).
        means: By place, (K, C): mean gates of a class; NaN for a class without images.
        deviations: By place, (K, C): standard deviation over the images of a class.
        overall: By place, (C,): mean gates of all images.
    """

    classes: tuple[str, ...]
    counts: Tensor
    means: dict[str, Tensor]
    deviations: dict[str, Tensor]
    overall: dict[str, Tensor]

    def between(self) -> dict[str, float]:
        """Compute the standard deviation between class means by place, averaged over channels; 0 is class-agnostic."""
        present = self.counts > 0
        return {path: mean[present].std(0, correction=0).mean().item() for path, mean in self.means.items()}

    def variance_between(self) -> dict[str, float]:
        """Compute the share of the gates' variance that is between classes (eta squared), by place, over all channels.

        Gates that do not depend on the class have `chance()`; NaN if all gates of a place are constant.
        """
        return {path: share_between(self.counts, mean, self.deviations[path]) for path, mean in self.means.items()}

    def chance(self) -> float:
        """Compute the expected share of gates without dependence: (K - 1) / (N - 1), classes with images, images."""
        return (int((self.counts > 0).sum()) - 1) / max(1, int(self.counts.sum()) - 1)

    def draw(self, classes: Sequence[str] | None = None, channels: int = CHANNELS) -> Picture:
        """Draw a panel for each place with a line for each class; for one or two classes, also the standard deviation.

        Args:
            classes: Names of classes; None for all that have images.
            channels: Maximum number of channels, evenly spaced over those of a place.

        Raises:
            ValueError: If a class is unknown or has no image.
        """
        present = [name for name, count in zip(self.classes, self.counts.tolist(), strict=True) if count]
        names = present if classes is None else list(classes)
        for name in names:
            if name not in present:
                raise ValueError(f"classes: {name!r} has no image; classes with images: {', '.join(present)}")
        rows = [self.classes.index(name) for name in names]
        means = {path: torch.cat([mean[rows], self.overall[path][None]]) for path, mean in self.means.items()}
        figure = draw_classes(means, {at: each[rows] for at, each in self.deviations.items()}, names, channels)
        return Picture(figure, f"mean gates of {len(names)} classes, channel by channel, at {', '.join(means)}")


@dataclass(frozen=True, eq=False)
class SelectionBySize:
    """Mean share of each branch, by place and by size of the central object.

    Attributes:
        scales: The S enlargements.
        shares: By place, (S, K): means over images and channels, which sum to one over the K branches.
    """

    scales: tuple[float, ...]
    shares: dict[str, Tensor]

    def differences(self) -> dict[str, Tensor]:
        """Compute, by place, the share of the last branch (largest kernel) minus that of the first: (S,)."""
        return {path: share[:, -1] - share[:, 0] for path, share in self.shares.items()}

    def slopes(self) -> dict[str, float]:
        """Compute, by place, the least-squares slope of `differences()` per octave (doubling) of the enlargement.

        A line is fitted to means over images, which is the mean over images of the slopes of each.

        Raises:
            ValueError: If there are fewer than two different scales.
        """
        if len(set(self.scales)) < 2:
            raise ValueError(f"scales={self.scales}: a slope needs two different ones at least")
        octaves = [log2(scale) for scale in self.scales]
        return {path: linear_regression(octaves, each.tolist()).slope for path, each in self.differences().items()}

    def draw(self) -> Picture:
        """Draw the share of each branch against the enlargement."""
        alt_text = f"share of each branch at {', '.join(self.shares)}, with the object enlarged {self.scales} times"
        return Picture(draw_sizes(self.shares, self.scales), alt_text)


@dataclass(frozen=True, eq=False)
class Poses:
    """Poses of the objects in N images: x, y and size, relative to the image's side.

    Attributes:
        before: Poses in the input, (N, 3).
        after: By place, poses in the transformer's output, (N, 3).
    """

    before: Tensor
    after: dict[str, Tensor]

    def deviations(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the standard deviations of x, y and log2(size), which ignores a common enlargement: (3,) each."""
        return deviation(self.before), {path: deviation(poses) for path, poses in self.after.items()}

    def draw(self) -> Picture:
        """Draw centres and sizes of the objects before and after each transformer."""
        before, after = self.deviations()
        sheet = {path: (self.after[path], spread) for path, spread in after.items()}
        alt_text = f"centres and sizes of {len(self.before)} objects before and after {', '.join(sheet)}"
        return Picture(draw_poses((self.before, before), sheet), alt_text)


def excitation_by_class(model: nn.Module, loader: Iterable[Any], classes: Sequence[str]) -> Excitation:
    """Compute mean and standard deviation of channel gates for each class and place.

    Args:
        model (torch.nn.Module): A model with channel gates. It is run in evaluation mode and not changed.
        loader (Iterable): Batches in a form of `foveal.score`: inputs (B, C, H, W) of the model, and labels: integers
            (B,) or (B, 1) from 0, or one-hot rows (B, K).
        classes (Sequence[str]): The name of each label, from 0: K of them.

    Returns:
        An `Excitation`: `counts`, and `means`, `deviations` and `overall` by place; `draw()` gives a picture.

    Raises:
        TypeError: If `model` is no module, or a batch is not images and labels.
        ValueError: If the model has no channel gates, the loader has no images, or labels are not one of the K classes
            for each image.

    Examples:
        >>> import foveal, torch
        >>> model = foveal.create_model("small_cnn+se", num_classes=2, in_chans=1)
        >>> loader = [(torch.rand(4, 1, 32, 32), torch.tensor([0, 1, 1, 1]))]
        >>> foveal.excitation_by_class(model, loader, ["cat", "dog"]).counts
        tensor([1, 3])
    """
    count = len(classes)
    if not count:
        raise ValueError("classes: the list is empty; the name of each label is needed")
    batches = iter_labelled(loader, model, count, named=True)
    counts, sums, squares = torch.zeros(count), dict[str, Tensor](), dict[str, Tensor]()
    for (_, labels, *_), seen in passes(model, batches, "gate", ("B C",)):
        counts += labels.bincount(minlength=count)
        for path, record in seen.items():
            gates = record.values.double()
            zero = torch.zeros(count, gates.shape[1], dtype=torch.double)
            for total, values in ((sums, gates), (squares, gates.square())):
                total[path] = total.get(path, zero).index_add(0, labels, values)
    means = {path: total / counts[:, None] for path, total in sums.items()}
    variances = {path: squares[path] / counts[:, None] - mean.square() for path, mean in means.items()}
    return Excitation(
        classes=tuple(classes),
        counts=counts.long(),
        means={path: mean.float() for path, mean in means.items()},
        deviations={path: variance.clamp(min=0).sqrt().float() for path, variance in variances.items()},
        overall={path: (total.sum(0) / counts.sum()).float() for path, total in sums.items()},
    )


def selection_by_size(
    model: nn.Module, images: Tensor | Iterable[Any], scales: Sequence[float] = (1.0, 1.5, 2.0)
) -> SelectionBySize:
    """Compute the mean share of each branch of every selective kernel while the central object is enlarged.

    Args:
        model (torch.nn.Module): A model with selective kernels. It is run in evaluation mode and not changed.
        images (torch.Tensor | Iterable): Inputs (B, C, H, W) of the model, or batches as for `foveal.audit`, read once.
        scales (Sequence[float]): Enlargements, 1 or more; 1 is the original image.

    Returns:
        A `SelectionBySize`: `scales`, and `shares` (S, K) by place; `draw()` gives a picture.

    Raises:
        TypeError: If `model` is no module, or a batch is without images.
        ValueError: If the model has no selection among branches, there are no images, or a scale is below 1.

    Examples:
        >>> import foveal, torch
        >>> model = foveal.create_model("small_cnn+sk:groups=8", num_classes=2, in_chans=1)
        >>> selection = foveal.selection_by_size(model, torch.rand(4, 1, 32, 32), scales=(1, 1.5, 2))
        >>> [share.shape for share in selection.shares.values()][0]
        torch.Size([3, 2])
    """
    if not scales or min(scales) < 1:
        raise ValueError(f"scales={tuple(scales)}: must be 1 or more; 1 shows the whole image")
    batches = iter_images([images] if isinstance(images, Tensor | np.ndarray) else images, model)
    larger = ((enlarged(batch, scale),) for batch in batches for scale in scales)
    sums: dict[str, list[Tensor]] = {}
    count = 0
    for turn, (batch, seen) in enumerate(passes(model, larger, "selection", ("B K C",))):
        count += len(batch[0])
        for path, record in seen.items():
            totals = sums.setdefault(path, [torch.zeros(()) for _ in scales])
            totals[turn % len(scales)] = totals[turn % len(scales)] + record.values.double().mean(2).sum(0)
    images_each = count / len(scales)
    return SelectionBySize(
        tuple(scales), {path: (torch.stack(totals) / images_each).float() for path, totals in sums.items()}
    )


def pose_before_and_after(model: nn.Module, loader: Iterable[Any]) -> Poses:
    """Compute the poses of objects in the input and in the output of each spatial transformer.

    Each of several transformers is applied to the boxes in the input, as if it were the only one.

    Args:
        model (torch.nn.Module): A model with spatial transformers. It is run in evaluation mode and not changed.
        loader (Iterable): Batches in a form of `foveal.score`: inputs (B, C, H, W) of the model, labels, which are not
            read, and boxes (B, 4) as x0, y0, x1, y1 in pixels.

    Returns:
        A `Poses`: `before` (N, 3), and `after` (N, 3) by place; `deviations()` and `draw()` summarize them.

    Raises:
        TypeError: If `model` is no module, or a batch is without images.
        ValueError: If no transform of the model has an inverse (splines have none), the loader has no images or boxes,
            a box is outside its image, or a transform shows a line or a point.

    Examples:
        >>> import foveal, torch
        >>> model = foveal.create_model("stn_cnn", num_classes=2, in_chans=1)
        >>> batch = torch.rand(1, 1, 40, 40), torch.tensor([0]), torch.tensor([[10.0, 10.0, 30.0, 30.0]])
        >>> foveal.pose_before_and_after(model, [batch]).before
        tensor([[0.5000, 0.5000, 0.5000]])
    """
    before: list[Tensor] = []
    after: dict[str, list[Tensor]] = {}
    for batch, seen in passes(model, iter_boxed(loader, model), "transform", ("B 2 3", "B 3 3")):
        boxes = batch[1]
        corners = normalised_corners(boxes, *batch[0].shape[2:])
        before.append(pose(corners))
        for path, record in seen.items():
            after.setdefault(path, []).append(pose(undone(record, corners)))
    return Poses(torch.cat(before), {path: torch.cat(parts) for path, parts in after.items()})


def passes(
    model: nn.Module, batches: Iterator[Batch], kind: str, axes: tuple[str, ...]
) -> Iterator[tuple[Batch, dict[str, Record]]]:
    """Yield each batch with its Records of the given kind and axes, by path, on the CPU; ValueError without any."""
    check_model(model)
    empty = True
    with eval_mode(model), torch.no_grad():
        for batch in batches:
            empty = False
            with watch(model, device="cpu") as seen:
                run_model(model, batch[0])
            found = {path: each for path, each in zip(seen.paths(), seen, strict=True) if each.kind == kind}
            found = {path: each for path, each in found.items() if each.axes in axes}
            if not found:
                raise ValueError(f"{type(model).__name__} has no {kind} of axes {' or '.join(map(repr, axes))}")
            yield batch, found
    if empty:
        raise ValueError("loader: contains no images; at least one batch is needed")
