"""Output of benchmark results as Markdown, JSON and a plot."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.measuring import Row
from foveal.inspection.drawing.palette import BLUE, GREY, ORANGE, VERMILION

WORDS = {"reached": BLUE, "within noise": ORANGE, "missed": VERMILION}  # colours for colour-blind readers
LEGEND = (
    "ours / theirs: median and interquartile range over rounds; the bar is the goal\n"
    "blue: reached, orange: within noise, red: missed; round: one thread, square: two, diamond: counted"
)
MARKERS = {None: "D", 1: "o", 2: "s"}
TICKS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def write_results(found: Mapping[str, Sequence[Row]], about: Mapping[str, str], output: Path) -> list[Path]:
    """Write the results to `output` with the endings md, json and png, and return the paths."""
    output.parent.mkdir(parents=True, exist_ok=True)
    paths = [output.with_name(output.name + ending) for ending in (".md", ".json", ".png")]
    paths[0].write_text(markdown(found, about))
    rows = {part: [asdict(row) | {"verdict": row.verdict} for row in rows] for part, rows in found.items()}
    paths[1].write_text(json.dumps({"about": about, "parts": rows}, indent=1) + "\n")
    plot(found).savefig(paths[2], dpi=110)
    return paths


def markdown(found: Mapping[str, Sequence[Row]], about: Mapping[str, str]) -> str:
    """Format all results as Markdown."""
    lines = ["# Ratios ours / theirs: below one, ours is better", ""]
    lines += [f"- {name}: {what}" for name, what in about.items()]
    goals = [row.verdict for rows in found.values() for row in rows if row.verdict]
    lines.append("- Goals: " + ", ".join(f"{goals.count(word)} {word}" for word in WORDS))
    for part, rows in found.items():
        lines += ["", f"## {part}", "", "| case | threads | ours | theirs | ratio | quartiles | goal | |"]
        lines += ["| --- | ---: | --- | --- | ---: | --- | ---: | --- |", *map(line_of, rows)]
    return "\n".join(lines) + "\n"


def line_of(row: Row) -> str:
    """Format a row of the table."""
    ours, theirs = (f"{name}, {shown(figure, row.unit)}" for name, figure in sides(row))
    half = "" if row.threads is None else f"{row.low:.2f} to {row.high:.2f}"
    digits = 3 if row.threads is None else 2
    goal = "" if row.goal is None else f"{row.goal:.2f}"
    cells = row.case, row.threads or "", ours, theirs, f"{row.ratio:.{digits}f}", half, goal, row.verdict
    return f"| {' | '.join(map(str, cells))} |"


def sides(row: Row) -> tuple[tuple[str, float], tuple[str, float]]:
    """Return name and figure of both contenders."""
    return (row.ours, row.figure), (row.theirs, row.beside)


def shown(figure: float, unit: str) -> str:
    """Format a figure with its unit."""
    return f"{figure / 1e6:.1f} MB" if unit == "bytes" else f"{figure:.3g} {unit}"


def plot(found: Mapping[str, Sequence[Row]]) -> Figure:
    """Plot every ratio with a goal on a logarithmic axis, with its interquartile range and a bar at the goal."""
    panels = {part: rows for part, rows in found.items() if names_of(rows)}
    heights = [len(names_of(rows)) + 2 for rows in panels.values()] or [1]
    figure = Figure(figsize=(9, 0.17 * sum(heights) + 1), layout="constrained")
    if panels:
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)
        for axis, (part, rows) in zip(axes.flat, panels.items(), strict=True):
            draw_panel(axis, part, rows)
        axes.flat[-1].set_xlabel(LEGEND, fontsize=7)
    return figure


def names_of(rows: Sequence[Row]) -> list[str]:
    """List the names of the rows with a goal."""
    return [*dict.fromkeys(name_of(row) for row in rows if row.goal is not None)]


def name_of(row: Row) -> str:
    """Return the name of a row in the plot."""
    return f"{row.case}: {row.ours} / {row.theirs}"


def draw_panel(axis: Axes, part: str, rows: Sequence[Row]) -> None:
    """Draw the ratios of one part."""
    names = names_of(rows)
    for row in rows:
        if row.goal is None:
            continue
        place = names.index(name_of(row)) + (0.18 if row.threads == 2 else -0.18)
        colour, marker = WORDS[row.verdict], MARKERS.get(row.threads, "^")
        axis.plot([row.low, row.high], [place, place], color=colour, linewidth=1)
        axis.plot(row.ratio, place, marker, color=colour, markersize=3.5)
        axis.plot(row.goal, round(place), "|", color="black", markersize=9)
    axis.axvline(1, color=GREY, linewidth=0.6)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(TICKS))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_yticks(range(len(names)), names, fontsize=6)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_title(part, loc="left", fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
