"""Panels of weights without a place on the image: the gates of channels, and the shares of branches."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import SubFigure
from torch import Tensor

from foveal.drawing.canvas import SCALE
from foveal.record import Record

BRANCHES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")


def draw_gates(part: SubFigure, records: list[Record], images: Tensor, predictions: Sequence[str] | None) -> None:
    """Place by place: a row an image, a column a channel; a gate of channel and position by its mean over these."""
    axes = part.subplots(len(records), 1, squeeze=False)[:, 0]
    for axis, record in zip(axes, records, strict=True):
        low, high = record.within
        gate = record.values.unsqueeze(-1).flatten(2).mean(2).numpy()  # (B, C)
        drawn = axis.imshow(gate, vmin=low, vmax=high, cmap=SCALE, aspect="auto", interpolation="nearest")
        labels = predictions[: len(images)] if predictions else [str(index) for index in range(len(images))]
        axis.set_yticks(range(len(images)), labels, fontsize=7)
        mean = ", mean over positions" if record.values.ndim > 2 else ""
        axis.set_title(f"{record.where}: {record.mechanism}, gate of each channel{mean}", fontsize=9, loc="left")
    axes[-1].set_xlabel("channel", fontsize=8)
    part.colorbar(drawn, ax=axes, shrink=0.9).set_label("gate", fontsize=8)


def draw_selections(part: SubFigure, records: list[Record], images: Tensor, predictions: Sequence[str] | None) -> None:
    """The share of each branch by depth, the mean over channels; a dot an image."""
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
    axis.set_xticks(range(len(records)), [record.where for record in records], fontsize=7)
    axis.set_ylim(0, 1)
    axis.set_ylabel("mean selection", fontsize=8)
    axis.set_title("selective kernel: share of each branch; dots: branch 1, image by image", fontsize=9, loc="left")
    axis.legend(fontsize=7, loc="upper right")
