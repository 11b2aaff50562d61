"""Panels of weights without a position on the image: the gates of channels, and the shares of branches."""

from collections.abc import Sequence
from math import ceil, isfinite

import numpy as np
from matplotlib.figure import SubFigure
from torch import Tensor

from foveal.core.record import Record
from foveal.inspection.drawing.canvas import WIDTH, fitting
from foveal.inspection.drawing.palette import BLUE, GREEN, ORANGE, PALE_ORANGE, PURPLE

BRANCHES = (BLUE, ORANGE, GREEN, PURPLE)
RANGE = PALE_ORANGE
BESIDE = 4  # gate panels in a row at most
ROOM = 3  # panels for which a row has room at least
LETTERS = 100  # characters of seven points that fit in one line below the bars
FEW = 4  # bars for which there is room at least


def grid(places: int) -> tuple[int, int]:
    """Return the rows and columns of a grid of `places` panels."""
    rows = ceil(places / BESIDE)
    return rows, max(ceil(places / rows), ROOM)


def gates_height(places: int) -> float:
    """Return the height of the gate panels in inches."""
    return 0.5 + 1.55 * grid(places)[0]


def draw_gates(part: SubFigure, records: list[Record], images: Tensor, predictions: Sequence[str] | None) -> None:
    """Draw for each place the channels' means over the images, in decreasing order, and their ranges over the images.

    The axis covers the Record's `value_range`.
    """
    rows, columns = grid(len(records))
    axes = part.subplots(rows, columns, squeeze=False)
    for axis in axes.ravel()[len(records) :]:
        axis.remove()
    for axis, record in zip(axes.ravel(), records, strict=False):
        gates = record.values.numpy()  # (B, C)
        gates = gates[:, np.argsort(-gates.mean(0), kind="stable")]
        low, high = (edge if isfinite(edge) else None for edge in record.value_range)
        axis.stairs(gates.mean(0), baseline=low or 0, fill=True, color=BRANCHES[0])
        axis.stairs(gates.max(0), baseline=gates.min(0), fill=True, color=RANGE)
        axis.stairs(gates.mean(0), baseline=None, color="black", linewidth=0.8)
        axis.set_ylim(low, high)
        axis.set_xlim(0, gates.shape[1])
        axis.set_xticks([0, gates.shape[1]])
        axis.tick_params(labelsize=6)
        title = f"{record.path}\n{record.mechanism}"
        axis.set_title(title, fontsize=fitting(title, 0.85 * WIDTH / columns))
    for axis in axes[:, 0]:
        axis.set_ylabel("gate", fontsize=7)
    part.suptitle(
        "channels sorted by their mean over the images, black line; orange: range over the images", fontsize=9
    )


def draw_selections(part: SubFigure, records: list[Record], images: Tensor, predictions: Sequence[str] | None) -> None:
    """Draw the share of each branch by depth, the mean over channels; one dot for each image."""
    axis = part.subplots()
    below = np.zeros(len(records))
    shares = [record.values.mean(2) for record in records]  # (B, K) each
    for branch in range(max(share.shape[1] for share in shares)):
        height = np.array([share[:, branch].mean() if branch < share.shape[1] else 0 for share in shares])
        axis.bar(
            range(len(records)),
            height,
            bottom=below,
            color=BRANCHES[branch % len(BRANCHES)],
            label=f"branch {branch + 1}",
        )
        below = below + height
    for place, share in enumerate(shares):
        axis.scatter(np.full(len(share), place), share[:, 0], s=8, color="black", zorder=3)
    axis.set_xticks(range(len(records)), [record.path for record in records], fontsize=7)
    if sum(len(record.path) for record in records) > LETTERS:
        for label in axis.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")
    axis.set_xlim(-0.5, max(len(records), FEW) - 0.5)
    axis.set_ylim(0, 1)
    axis.tick_params(axis="y", labelsize=7)
    axis.set_ylabel("mean selection", fontsize=8)
    axis.set_title("share of each branch; dots: branch 1, image by image", fontsize=9)
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
