"""Analyses of the papers: what their attention depends on, as functions of a model and images.

Excitation by class (Hu et al., 2018, Figures 6 and 7 of the journal's version): for the images n of class k, the mean
of a place's gates s_n, channel by channel, and their standard deviation. In SE-ResNet-50 early gates are about the same
for all classes and later ones are not.

Selection by size (Li et al., 2019, Figures 3 and 4): the central object is enlarged, by a crop of the middle
that is brought back to the image's size; the mean attention of the branch of the larger kernel less that of the smaller
one rises with the size of the object, in early and middle blocks.

Pose before and after (Jaderberg et al., 2015, sec. 4: a transformer learns to bring its objects to one pose): theta
maps output to input, so an object's box is, in what the transformer gives out, theta^-1 of its corners. A box has no
angle; rotation is not measured.

Only sums are kept of gates and selections, so a loader of any length fits.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveal.core.record import Record
from foveal.core.trial_pass import eval_mode
from foveal.evaluation.localization import Batch, boxes_of
from foveal.inspection.drawing.draw import Picture
from foveal.inspection.drawing.paper_figures import draw_classes, draw_poses, draw_sizes
from foveal.inspection.watch import watch
from foveal.ops.geometry import affine_grid, sample

CHANNELS = 50  # of those of a place that the figure of the classes shows, as the paper's does


@dataclass(frozen=True, eq=False)
class Excitation:
    """Gates by class. K classes; each place has its own C channels.

    Attributes:
        classes: their K names.
        counts: images of each, (K,).
        means: by place (K, C): the mean gates of a class; not a number where it has no image.
        deviations: by place (K, C): the standard deviation over the images of a class.
        overall: by place (C,): the mean gates of all images.
    """

    classes: tuple[str, ...]
    counts: Tensor
    means: dict[str, Tensor]
    deviations: dict[str, Tensor]
    overall: dict[str, Tensor]

    def between(self) -> dict[str, float]:
        """By place: the standard deviation between the classes' means, the mean over channels; 0 is class-agnostic."""
        held = self.counts > 0
        return {path: mean[held].std(0, correction=0).mean().item() for path, mean in self.means.items()}

    def draw(self, classes: Sequence[str] | None = None, channels: int = CHANNELS) -> Picture:
        """A panel for each place, a line for each class; of two classes at most also the spread within each.

        Args:
            classes: which; all that have images if left out.
            channels: how many at most, spread evenly over those of a place.

        Raises:
            ValueError: a class that is not known or has no image.
        """
        held = [name for name, count in zip(self.classes, self.counts.tolist(), strict=True) if count]
        names = held if classes is None else list(classes)
        for name in names:
            if name not in held:
                raise ValueError(f"classes: {name!r} has no image; there are {', '.join(held)}")
        rows = [self.classes.index(name) for name in names]
        means = {path: torch.cat([mean[rows], self.overall[path][None]]) for path, mean in self.means.items()}
        figure = draw_classes(means, {at: each[rows] for at, each in self.deviations.items()}, names, channels)
        return Picture(figure, f"mean gates of {len(names)} classes, channel by channel, at {', '.join(means)}")


@dataclass(frozen=True, eq=False)
class SelectionBySize:
    """The mean share of each branch, by place and by the size of the central object.

    Attributes:
        scales: the S enlargements.
        shares: by place (S, K), means over images and channels, one in sum over the K branches.
    """

    scales: tuple[float, ...]
    shares: dict[str, Tensor]

    def differences(self) -> dict[str, Tensor]:
        """By place: the share of the last branch, of the largest kernel, less that of the first: (S,)."""
        return {path: share[:, -1] - share[:, 0] for path, share in self.shares.items()}

    def draw(self) -> Picture:
        says = f"share of each branch at {', '.join(self.shares)}, with the object enlarged {self.scales} times"
        return Picture(draw_sizes(self.shares, self.scales), says)


@dataclass(frozen=True, eq=False)
class Poses:
    """Where the objects lie and how large they are: x, y and size, in sides of the image; N images.

    Attributes:
        before: (N, 3) in the input.
        after: by place (N, 3), in what that transformer gives out.
    """

    before: Tensor
    after: dict[str, Tensor]

    def deviations(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Standard deviations of x, y and the size's logarithm to the base 2: (3,) before, and by place after.

        Of the logarithm, since a transformer that enlarges all objects alike leaves their variation as it is.
        """
        return deviation(self.before), {path: deviation(poses) for path, poses in self.after.items()}

    def draw(self) -> Picture:
        before, after = self.deviations()
        sheet = {path: (self.after[path], spread) for path, spread in after.items()}
        says = f"centres and sizes of {len(self.before)} objects before and after {', '.join(sheet)}"
        return Picture(draw_poses((self.before, before), sheet), says)


def excitation_by_class(model: nn.Module, loader: Iterable[Batch], classes: Sequence[str]) -> Excitation:
    """The mean gates of each class, place by place, and how they vary within a class.

    Args:
        model: with gates of channels; run in evaluation mode, and left as it was.
        loader: batches of images as the model wants them and labels; what follows is not read.
        classes: the name of each label, from 0.

    Raises:
        ValueError: a model without gates of channels, a loader without images, a label without a name.
    """
    count = len(classes)
    counts, sums, squares = torch.zeros(count), dict[str, Tensor](), dict[str, Tensor]()
    for (_, labels, *_), seen in passes(model, loader, "gate", ("B C",)):
        labels = labels.cpu().long()
        if labels.min() < 0 or labels.max() >= count:
            raise ValueError(f"classes: {count} names, but there are labels from {labels.min()} to {labels.max()}")
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
    model: nn.Module, images: Tensor | Iterable[Batch], scales: Sequence[float] = (1.0, 1.5, 2.0)
) -> SelectionBySize:
    """The mean share of each branch of every selective kernel, as the object in the middle grows.

    Args:
        model: run in evaluation mode, and left as it was.
        images: as the model wants them, (B, C, H, W), or a loader of batches of images and what else there is. It is
            read once.
        scales: how much larger; 1 is the image as it is.

    Raises:
        ValueError: a model without selection among branches, no images, a scale below 1.
    """
    if not scales or min(scales) < 1:
        raise ValueError(f"scales={tuple(scales)}: from 1, where the whole image is seen")
    batches: Iterable[Batch] = [(images,)] if isinstance(images, Tensor) else images
    larger = ((enlarged(batch[0], scale),) for batch in batches for scale in scales)
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


def pose_before_and_after(model: nn.Module, loader: Iterable[Batch]) -> Poses:
    """The poses of the objects in the input, and in what each spatial transformer makes of it.

    Of several transformers each is measured against the input alone, as if it stood there.

    Args:
        model: run in evaluation mode, and left as it was.
        loader: batches of images as the model wants them, labels and boxes (B, 4): x0, y0, x1, y1 in pixels.

    Raises:
        ValueError: a model without a transform that has an inverse, as a spline has none; a loader without images or
            boxes; a box outside its image; a transform that shows a line or a point.
    """
    before: list[Tensor] = []
    after: dict[str, list[Tensor]] = {}
    for batch, seen in passes(model, loader, "transform", ("B 2 3", "B 3 3")):
        boxes = boxes_of(batch)
        if boxes is None:
            raise ValueError("loader: images, labels and boxes are needed")
        corners = normalised_corners(boxes, *batch[0].shape[2:])
        before.append(pose(corners))
        for path, record in seen.items():
            after.setdefault(path, []).append(pose(undone(record, corners)))
    return Poses(torch.cat(before), {path: torch.cat(parts) for path, parts in after.items()})


def passes(
    model: nn.Module, loader: Iterable[Batch], kind: str, axes: tuple[str, ...]
) -> Iterator[tuple[Batch, dict[str, Record]]]:
    """Batch by batch, the Records of a kind and of such axes, by path, on the CPU.

    Raises:
        ValueError: no such Record, or no batch.
    """
    empty = True
    with eval_mode(model), torch.no_grad():
        for batch in loader:
            empty = False
            with watch(model, device="cpu") as seen:
                model(batch[0])
            found = {path: each for path, each in zip(seen.paths(), seen, strict=True) if each.kind == kind}
            found = {path: each for path, each in found.items() if each.axes in axes}
            if not found:
                raise ValueError(f"{type(model).__name__} shows no {kind} of axes {' or '.join(map(repr, axes))}")
            yield batch, found
    if empty:
        raise ValueError("loader: it gave no images")


def enlarged(images: Tensor, scale: float) -> Tensor:
    """The middle of images (B, C, H, W), a `scale`-th of each side, at their full size."""
    theta = torch.tensor([[[1 / scale, 0.0, 0.0], [0.0, 1 / scale, 0.0]]], device=images.device)
    grid = affine_grid(theta, images.shape[2], images.shape[3])
    return images if scale == 1 else sample(images, grid.expand(len(images), -1, -1, -1))


def normalised_corners(boxes: Tensor, height: int, width: int) -> Tensor:
    """The corners of boxes (B, 4) in pixels, clockwise from the upper left, normalised: (B, 4, 2)."""
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].unflatten(1, (4, 2))
    return 2 * corners / torch.tensor([width, height]) - 1


def undone(record: Record, points: Tensor) -> Tensor:
    """Where points (B, N, 2) of the input lie in what a transform gives out."""
    theta = record.values.double()
    last = torch.tensor([[[0.0, 0.0, 1.0]]], dtype=theta.dtype).expand(len(theta), 1, 3)
    matrix = theta if theta.shape[1] == 3 else torch.cat([theta, last], 1)
    inverse, info = torch.linalg.inv_ex(matrix)
    if info.any():
        raise ValueError(f"{record.path!r}: a transform shows a line or a point; see foveal.audit")
    moved = torch.cat([points.double(), torch.ones_like(points[..., :1]).double()], -1) @ inverse.mT
    return (moved[..., :2] / moved[..., 2:]).float()


def pose(corners: Tensor) -> Tensor:
    """Centre and size of quadrilaterals of normalised corners (B, 4, 2), in sides of the image: x, y, size (B, 3).

    The size is the root of the area; the centre, the corners' mean.
    """
    places = (corners + 1) / 2
    (x, y), (u, v) = places.unbind(-1), places.roll(-1, 1).unbind(-1)
    area = ((x * v - u * y).sum(1) / 2).abs()
    return torch.cat([places.mean(1), area.sqrt()[:, None]], 1)


def deviation(poses: Tensor) -> Tensor:
    return torch.stack([*poses[:, :2].unbind(1), poses[:, 2].log2()], 1).std(0, correction=0)
