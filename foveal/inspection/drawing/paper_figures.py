"""Figures of the papers' analyses: curves and points from plain tensors, without a model or a Record."""

from collections.abc import Mapping, Sequence
from math import ceil

import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from foveal.inspection.drawing.canvas import BOX, PLAIN_TEXT, TICK, WIDTH, wrapped
from foveal.inspection.drawing.palette import BLUE, GREEN, LIGHT_GREY, ORANGE, PURPLE, SKY_BLUE, VERMILION, YELLOW

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY_BLUE, VERMILION, YELLOW, LIGHT_GREY)
BEFORE = BLUE
BESIDE = 3  # panels side by side


@rc_context(PLAIN_TEXT)
def panels(count: int, beside: int = BESIDE, tall: float = 1.9) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels, and room for its legend and its title; and the panels."""
    rows = ceil(count / beside)
    figure = Figure(figsize=(WIDTH, 0.8 + tall * rows), layout="constrained")
    axes = list(figure.subplots(rows, beside, squeeze=False).ravel())
    for axis in axes[count:]:
        axis.remove()
    for axis in axes[:count]:
        axis.tick_params(labelsize=6)
    return figure, axes[:count]


@rc_context(PLAIN_TEXT)
def draw_classes(
    means: Mapping[str, Tensor], spreads: Mapping[str, Tensor], names: Sequence[str], shown: int
) -> Figure:
    """Draw for each place the mean gates of the classes over some channels, one line each; that of all images is black.

    Args:
        means: by place (K + 1, C), the last row is that of all images.
        spreads: by place (K, C), the standard deviation within each class; drawn as bands if there are at most two
            classes.
        names: names of the K classes.
        shown: number of channels to show, spread evenly over all.
    """
    figure, axes = panels(len(means))
    for axis, (path, mean) in zip(axes, means.items(), strict=True):
        channels = torch.linspace(0, mean.shape[1] - 1, min(shown, mean.shape[1])).round().long()
        x = range(len(channels))
        for index, name in enumerate(names):
            colour = COLOURS[index % len(COLOURS)]
            line, spread = mean[index, channels], spreads[path][index, channels]
            axis.plot(x, line, color=colour, linewidth=1, label=name)
            if len(names) <= 2:
                axis.fill_between(x, line - spread, line + spread, color=colour, alpha=0.25, linewidth=0)
        axis.plot(x, mean[-1, channels], color="black", linewidth=0.8, linestyle="--", label="all")
        axis.set_ylim(0, 1)
        axis.set_title(wrapped(path, 0.85 * WIDTH / BESIDE, TICK), fontsize=TICK)
    axes[0].set_ylabel("mean gate", fontsize=7)
    heading = "mean gate of each class" + (", and its standard deviation over the images" if len(names) <= 2 else "")
    figure.suptitle(f"{heading}; {shown} channels, spread evenly, at most", fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=8, fontsize=7)
    return figure


@rc_context(PLAIN_TEXT)
def draw_sizes(shares: Mapping[str, Tensor], scales: Sequence[float]) -> Figure:
    """Draw by depth, one line for each scale, the mean share of each branch, and the last branch's minus the first's.

    Args:
        shares: by place (S, K), in the order of the network.
        scales: the S enlargements of the central object.
    """
    count = max(share.shape[1] for share in shares.values())
    figure, axes = panels(count + 1, beside=1)
    lines = torch.full((len(shares), len(scales), count + 1), torch.nan)
    for place, share in enumerate(shares.values()):
        lines[place, :, : share.shape[1]] = share
        lines[place, :, -1] = share[:, -1] - share[:, 0]
    names = [f"share of branch {branch + 1}" for branch in range(count)] + ["last branch less first"]
    for axis, name, line in zip(axes, names, lines.unbind(-1), strict=True):
        for index, scale in enumerate(scales):
            axis.plot(line[:, index], marker=".", linewidth=1, color=COLOURS[index % len(COLOURS)], label=f"{scale:g}x")
        axis.set_ylabel(name, fontsize=7)
        axis.set_xticks(range(len(shares)), [""] * len(shares))
        axis.grid(alpha=0.3)
    axes[-1].axhline(0, color="black", linewidth=0.6)
    axes[-1].set_xticks(range(len(shares)), list(shares), fontsize=7)
    for label in axes[-1].get_xticklabels():
        label.set(rotation=40, ha="right", rotation_mode="anchor")
    figure.suptitle("mean selection by depth, the central object enlarged", fontsize=9)
    axes[0].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@rc_context(PLAIN_TEXT)
def draw_trend(
    name: str,
    values: Mapping[str, Sequence[float]],
    intervals: Mapping[str, tuple[float, float, float]],
    reference: float,
) -> Figure:
    """Draw a figure by depth: a point for each trained network, the mean with its interval, and a reference line.

    Args:
        name: of the figure, on the vertical axis.
        values: by place, in the order of the network, those of the trained networks.
        intervals: by place, mean, low and high; low and high are NaN where there is no interval.
        reference: value where there is no dependence.
    """
    figure, (axis,) = panels(1, beside=1, tall=2.6)
    axis.axhline(reference, color="black", linewidth=0.8, linestyle="--", label=f"no dependence: {reference:.2g}")
    for place, path in enumerate(intervals):
        label = "" if place else "one trained network"
        beside = [place + 0.02 * len(values)] * len(values[path])
        axis.scatter(beside, values[path], s=14, color=ORANGE, linewidths=0, label=label)
    means, lows, highs = zip(*intervals.values(), strict=True)
    axis.vlines(range(len(means)), lows, highs, color=BLUE, linewidth=1.2)
    axis.plot(means, marker="o", markersize=4, linewidth=1, color=BLUE, label="mean, and its 95 % interval")
    axis.set_ylabel(wrapped(name, 2.4, TICK), fontsize=7)
    axis.set_xticks(range(len(intervals)), list(intervals), fontsize=7, rotation=40, ha="right", rotation_mode="anchor")
    axis.grid(alpha=0.3)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7)
    return figure


Posed = tuple[Tensor, Tensor]  # (N, 3) x, y, size in image sides; (3,) their SDs, that of the size in octaves


@rc_context(PLAIN_TEXT)
def draw_poses(before: Posed, after: Mapping[str, Posed]) -> Figure:
    """Draw for each place the objects' centres and sizes, in the transformer's input and in its output."""
    figure, axes = panels(2 * len(after), beside=2, tall=3.6)
    for (centres, sizes), (path, moved) in zip(zip(axes[::2], axes[1::2], strict=True), after.items(), strict=True):
        edges = torch.linspace(0, max(before[0][:, 2].max().item(), moved[0][:, 2].max().item()), 41).tolist()
        for name, (poses, spread), colour in (("input", before, BEFORE), ("transformed", moved, BOX)):
            x, y, size = spread.tolist()
            label = f"{name}: SD {x:.3f}, {y:.3f}"
            centres.scatter(poses[:, 0], poses[:, 1], s=5, alpha=0.6, color=colour, label=label)
            sizes.hist(poses[:, 2], bins=edges, alpha=0.6, color=colour, label=f"{name}: SD {size:.2f} octaves")
        centres.set_xlim(0, 1)
        centres.set_ylim(1, 0)
        centres.set_aspect("equal")
        centres.set_title(f"{path}: centres of the objects on the image", fontsize=8)
        sizes.set_title(f"{path}: their sizes, in sides of the image", fontsize=8)
        sizes.set_ylabel("images", fontsize=7)
        for axis in (centres, sizes):
            axis.legend(fontsize=6.5, loc="upper left", bbox_to_anchor=(0, -0.08), ncols=2, frameon=False)
    figure.suptitle("poses before and after the transformer", fontsize=9)
    return figure
