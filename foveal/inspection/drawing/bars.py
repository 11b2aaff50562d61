"""Panels of weights without a position on the image: the gates of channels, and the shares of branches."""

from collections.abc import Sequence
from math import ceil, isfinite

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from foveal.core.record import Record
from foveal.inspection.drawing.canvas import TICK, TITLE, Sheet, title_height, wrapped
from foveal.inspection.drawing.palette import BLUE, GREEN, ORANGE, PALE_ORANGE, PURPLE

BRANCHES = (BLUE, ORANGE, GREEN, PURPLE)
RANGE = PALE_ORANGE
BARS = 16  # selections in a row at most
FEW = 4  # bars for which there is room at least
HEADING = "channels sorted by their mean gate over the images (line); pale orange: range over the images"


def grid(places: int, sheet: Sheet) -> tuple[int, int]:
    """Return the rows and columns of a grid of `places` panels."""
    most = sheet.across - 1
    rows = ceil(places / most)
    return rows, max(ceil(places / rows), most - 1)


def gate_titles(records: list[Record], sheet: Sheet) -> list[str]:
    """Return the title of each gate: place, mechanism, and the gates' standard deviation over several images."""
    width = 0.85 * sheet.width / grid(len(records), sheet)[1]
    return [wrapped(f"{record.path}\n{record.mechanism}{variation(record)}", width) for record in records]


def variation(record: Record) -> str:
    """Return a line with the standard deviation of a gate over the images, the mean of all channels."""
    if len(record.values) == 1:
        return ""
    return f"\nSD over images {record.values.std(0, correction=0).mean():.2g}"


def gates_height(records: list[Record], sheet: Sheet) -> float:
    """Return the height of the gate panels in inches."""
    row = 1.45 + title_height(gate_titles(records, sheet))
    return 0.2 + title_height([wrapped(HEADING, sheet.width)]) + grid(len(records), sheet)[0] * row


def draw_gates(part: SubFigure, records: list[Record], sheet: Sheet) -> None:
    """Draw for each place the channels' means over the images, in decreasing order, and their ranges over the images.

    The axis covers the Record's `value_range`.
    """
    rows, columns = grid(len(records), sheet)
    axes = part.subplots(rows, columns, squeeze=False)
    for axis in axes.ravel()[len(records) :]:
        axis.remove()
    for axis, record, title in zip(axes.ravel(), records, gate_titles(records, sheet), strict=False):
        gates = record.values.numpy()  # (B, C)
        gates = gates[:, np.argsort(-gates.mean(0), kind="stable")]
        low, high = (edge if isfinite(edge) else None for edge in record.value_range)
        axis.stairs(gates.mean(0), baseline=low or 0, fill=True, color=BRANCHES[0])
        axis.stairs(gates.max(0), baseline=gates.min(0), fill=True, color=RANGE)
        axis.stairs(gates.mean(0), baseline=None, color="black", linewidth=0.8)
        axis.set_ylim(low, high)
        axis.set_xlim(0, gates.shape[1])
        axis.set_xticks([0, gates.shape[1]])
        axis.tick_params(labelsize=TICK)
        axis.set_title(title, fontsize=TITLE)
    for axis in axes[:, 0]:
        axis.set_ylabel("gate", fontsize=TITLE)
    part.suptitle(wrapped(HEADING, sheet.width), fontsize=TITLE)


def selection_rows(records: list[Record]) -> list[list[Record]]:
    """Divide selections evenly into rows of bars."""
    width = ceil(len(records) / ceil(len(records) / BARS))
    return [records[first : first + width] for first in range(0, len(records), width)]


def labels_height(records: list[Record]) -> float:
    """Return the height in inches of the sloping labels below a row of bars."""
    return 0.07 * max(len(record.path) for record in records) + 0.2


def selections_height(records: list[Record], sheet: Sheet) -> float:
    """Return the height of the selections in inches."""
    return 0.5 + sum(2.2 + labels_height(row) for row in selection_rows(records))


def draw_selections(part: SubFigure, records: list[Record], sheet: Sheet) -> None:
    """Draw the share of each branch by depth, the mean over channels; one dot for each image."""
    rows = selection_rows(records)
    axes = part.subplots(len(rows), 1, squeeze=False)[:, 0]
    width = max(len(rows[0]), FEW)
    for axis, row in zip(axes, rows, strict=True):
        draw_shares(axis, row, width)
    part.suptitle("mean selection of each branch; dots: branch 1, image by image", fontsize=TITLE)
    axes[0].legend(fontsize=TICK, loc="upper left", bbox_to_anchor=(1, 1))


def draw_shares(axis: Axes, records: Sequence[Record], width: int) -> None:
    """Draw the shares of the branches at some places, on an axis of a width in bars."""
    below = np.zeros(len(records))
    shares = [record.values.mean(2) for record in records]  # (B, K) each
    for branch in range(max(share.shape[1] for share in shares)):
        height = np.array([share[:, branch].mean() if branch < share.shape[1] else 0 for share in shares])
        colour = BRANCHES[branch % len(BRANCHES)]
        axis.bar(range(len(records)), height, bottom=below, color=colour, label=f"branch {branch + 1}")
        below = below + height
    for place, share in enumerate(shares):
        axis.scatter(np.full(len(share), place), share[:, 0], s=16, color="black", zorder=3)
    axis.set_xticks(range(len(records)), [record.path for record in records], fontsize=TICK)
    for label in axis.get_xticklabels():
        label.set(rotation=40, ha="right", rotation_mode="anchor")
    axis.set_xlim(-0.5, width - 0.5)
    axis.set_ylim(0, 1)
    axis.tick_params(axis="y", labelsize=TICK)
    axis.set_ylabel("share", fontsize=TITLE)
