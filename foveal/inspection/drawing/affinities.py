"""Panel of maps over the images: masks, and affinities as what one query reads from all keys, the mean of the heads.

One weight among many is small, so the scale of a column ends at its largest weight; its colour bar shows the range. The
weights of tokens outside the map, such as a class token or registers, are not drawn. Windows are put back on the map; a
query reads from its own window alone.
"""

from dataclasses import replace
from math import inf

import torch
from matplotlib.figure import SubFigure
from torch import Tensor

from foveal.core.layout import Layout, Windows
from foveal.core.record import Record
from foveal.inspection.drawing.canvas import TITLE, Sheet, title_height, wrapped
from foveal.inspection.drawing.maps import Column, Query, beside, columns_height, draw_columns, mask_column
from foveal.inspection.rollout import can_roll_out, count_tokens, layouts, rollout

AXES = ("B H W Y X", "B G H W Y X", "B G Q K", "B N G Q K", "B G N Q K")
Size = tuple[int, int]  # height and width of the image


def map_columns(records: list[Record], sheet: Sheet) -> list[Column]:
    """Return the columns of masks and affinities."""
    columns = [mask_column(each) if each.kind == "mask" else column(each, sheet.size) for each in records]
    return beside(columns, sheet)


def heading(records: list[Record], sheet: Sheet) -> str:
    """Return the line above the maps of Records."""
    reads = "what a query (orange frame) reads, mean of the heads; " * any(each.kind == "affinity" for each in records)
    return wrapped(f"{reads}marks in a bar: smallest and largest weight", sheet.width)


def maps_height(records: list[Record], sheet: Sheet) -> float:
    """Return the height in inches of the maps of Records."""
    return 0.1 + title_height([heading(records, sheet)]) + columns_height(map_columns(records, sheet), sheet)


def draw_maps(part: SubFigure, records: list[Record], sheet: Sheet) -> None:
    """Draw the maps of masks and affinities over their images."""
    part.suptitle(heading(records, sheet), fontsize=TITLE)
    draw_columns(part, map_columns(records, sheet), sheet)


def no_map(record: Record, size: Size) -> str:
    """Return the reason why a mask or an affinity is not a map over the image, or ""."""
    if record.kind == "mask":
        return ""
    if record.domain == "channel":
        return "its keys are channels"
    if record.axes.endswith("Y X") or layouts(record, size)[1]:
        return ""
    why = f": {record.tokens.why}" if record.tokens and record.tokens.why else ""
    return f"its {record.values.shape[-1]} keys are no map of the image{why}"


def column(record: Record, size: Size) -> Column:
    """Return the column of one affinity."""
    names = record.axes.split()
    weights = record.values.mean(names.index("G")) if "G" in names else record.values
    queries: Layout | Windows | None
    many = ""
    if record.axes.endswith("Y X"):
        queries = Layout(0, weights.shape[1], weights.shape[2])
        maps, query = weights[:, queries.centre[0], queries.centre[1]], "centre"
    else:
        queries, keys = layouts(record, size)
        if keys is None:
            raise ValueError(f"{record.path!r}: {no_map(record, size)}")
        if isinstance(keys, Windows):
            maps, query = reading_windows(weights, queries, keys)
            many = f", {len(keys.positions)} windows"
        else:
            read, query = reading(weights, queries)
            maps = keys.map(read)
    place = None
    if query == "centre" and queries:
        whole = queries.layout if isinstance(queries, Windows) else queries
        place = Query(*whole.centre, whole.rows, whole.columns)
    return Column(f"{record.path}\n{query}{many}", maps, scale(maps), place)


def reading_windows(weights: Tensor, queries: Layout | Windows | None, keys: Windows) -> tuple[Tensor, str]:
    """Put back on the map what is drawn of weights (B, N, Q, K); return it and the name of the query."""
    if not isinstance(queries, Windows):
        return keys.map(weights.mean(2)), "mean of the queries"
    window, token = queries.middle
    read = torch.zeros_like(weights[:, :, 0])
    read[:, window] = weights[:, window, token]
    return keys.map(read), "centre"


def reading(weights: Tensor, queries: Layout | Windows | None) -> tuple[Tensor, str]:
    """Select what is drawn of weights (B, Q, K): return (B, K) and the name of the query."""
    if weights.shape[1] == 1:
        return weights[:, 0], "the one query"
    if not isinstance(queries, Layout):
        return weights.mean(1), "mean of the queries"
    if queries.starts_with_class_token:
        return weights[:, 0], "class token"
    return weights[:, queries.middle], "centre"


def rollouts(records: list[Record], size: Size) -> list[Record]:
    """Return a mask for each group of several layers over the same tokens: the rollout of these layers."""
    layers: dict[int, list[Record]] = {}
    for record in records:
        if can_roll_out(record) and not no_map(record, size):
            layers.setdefault(count_tokens(record), []).append(record)
    return [rolled(group, size) for group in layers.values() if len(group) > 1]


def rolled(layers: list[Record], size: Size) -> Record:
    """Return the rollout of layers as a mask over the image."""
    tokens = layouts(layers[0], size)[1]
    if tokens is None:
        raise ValueError(f"{layers[0].path!r}: {no_map(layers[0], size)}")
    whole = tokens.layout if isinstance(tokens, Windows) else tokens
    matrix = rollout(layers)
    read, query = (
        (matrix[:, 0], "class token") if whole.starts_with_class_token else (matrix.mean(1), "mean of queries")
    )
    title = f"{len(layers)} layers\n{query}"
    return replace(
        layers[0], mechanism="rollout", kind="mask", axes="B H W", value_range=(0.0, inf), path=title,
        values=whole.map(read), tokens=None,
    )  # fmt: skip


def scale(maps: Tensor) -> tuple[float, float]:
    """Return the range of a scale: from 0, or the smallest negative weight, to the largest."""
    return min(0.0, maps.min().item()), maps.max().item()
