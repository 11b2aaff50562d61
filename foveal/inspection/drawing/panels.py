"""Panels of a sheet, one for some kinds of Records each: what they draw, how tall they are, and what they refuse."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from matplotlib.figure import SubFigure
from torch import Tensor

from foveal.core.record import Record
from foveal.inspection.drawing.affinities import AXES, draw_maps, maps_height, no_map
from foveal.inspection.drawing.bars import (
    BARS,
    draw_gates,
    draw_selections,
    gates_height,
    selections_height,
)
from foveal.inspection.drawing.canvas import ACROSS, Sheet
from foveal.inspection.drawing.maps import marginals
from foveal.inspection.drawing.regions import (
    crops_height,
    draw_crops,
    draw_glimpses,
    draw_transforms,
    glimpses_height,
    transforms_height,
)


@dataclass(frozen=True, eq=False)
class Panel:
    """Panel for some kinds of Records.

    Attributes:
        axes: for each kind the axes of the Records that it can draw.
        page: places on a page at most.
        height: function from Records and sheet to the height in inches.
        fill: function that draws Records on a part of the figure.
        refuses: function that returns the reason why a Record of these axes cannot be drawn, or "".
        shows_images: True if it shows the images and their predictions.
    """

    axes: dict[str, tuple[str, ...]]
    page: int
    height: Callable[[list[Record], Sheet], float]
    fill: Callable[[SubFigure, list[Record], Sheet], None]
    refuses: Callable[[Record, tuple[int, int]], str] = lambda record, size: ""
    shows_images: bool = True

    def draws(self, record: Record, size: tuple[int, int]) -> bool:
        """Return True if the panel can draw a Record over images of a size."""
        return record.axes in self.axes.get(record.kind, ()) and not self.refuses(record, size)


PANELS = (
    Panel({"transform": ("B 2 3", "B 3 3", "B P 2")}, 2, transforms_height, draw_transforms),
    Panel({"mask": ("B H W",), "affinity": AXES}, ACROSS - 1, maps_height, draw_maps, no_map),
    Panel({"glimpse": ("B T 2",)}, 2, glimpses_height, draw_glimpses),
    Panel({"crop": ("B K 2 3",)}, 2, crops_height, draw_crops),
    Panel({"gate": ("B C",)}, 2 * (ACROSS - 1), gates_height, draw_gates, shows_images=False),
    Panel({"selection": ("B K C",)}, BARS, selections_height, draw_selections, shows_images=False),
)


def shows_positions(seen: Iterable[Record], images: Tensor) -> bool:
    """Return True if the drawing of some Records shows where on the images (B, C, H, W) a model attends."""
    size = images.shape[2], images.shape[3]
    panels = [panel for panel in PANELS if panel.shows_images]
    return any(panel.draws(each, size) for each in marginals(list(seen)) for panel in panels)


def refusal(record: Record, size: tuple[int, int]) -> str:
    """Return the reason why a Record cannot be drawn, or ""."""
    panel = next((panel for panel in PANELS if record.axes in panel.axes.get(record.kind, ())), None)
    if panel is None:
        return f"no picture shows a {record.kind} of axes {record.axes!r}"
    return panel.refuses(record, size)


def not_shown(refused: dict[str, str]) -> list[str]:
    """Return a line for each reason why places are left out."""
    places: dict[str, list[str]] = {}
    for path, why in refused.items():
        places.setdefault(why, []).append(path)
    return [
        f"not shown: {', '.join(each[:3])}{f' and {len(each) - 3} more' if len(each) > 3 else ''}: {why}"
        for why, each in places.items()
    ]
