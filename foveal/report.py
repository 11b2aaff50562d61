"""A comparison as one self-contained HTML page: table, plot, and what each contender attends to."""

import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from matplotlib.figure import Figure

import foveal
from foveal.comparing import Comparison, cores, job_folder
from foveal.costs import BATCH
from foveal.drawing import Picture
from foveal.looking import look
from foveal.templates import fill

IMAGES = 6  # drawn for each contender


def write_report(comparison: Comparison) -> Path:
    """Write `report.html` into the comparison's folder, and each contender's picture beside it; the page's path."""
    pictures = []
    for row in comparison.rows:
        if row.name != "none":
            looked = look(str(job_folder(comparison.folder, row.name, 0)), [comparison.recipe.data], IMAGES)
            looked.picture.save(comparison.folder / f"{job_folder(Path(), row.name, 0)}.png")
            pictures.append((row.name, looked.picture))
    head, *rows = table_rows(comparison)
    recipe, seeds = comparison.recipe, len(comparison.rows[0].errors)
    page = fill(
        "report.html",
        title=f"Attention on {recipe.data}",
        summary=f"{len(rows)} contenders in {comparison.backbone}, {seeds} seeds, {recipe.epochs} epochs, one recipe "
        f"for all; {comparison.seconds:.0f} s.",
        head=head,
        rows=rows,
        batch=BATCH,
        plot=plot(comparison),
        pictures=pictures,
        settings=", ".join(f"{name} {value}" for name, value in asdict(recipe).items()),
        machine=f"foveal {foveal.__version__}, torch {version('torch')}, timm {version('timm')}; {platform.system()}, "
        f"{cores()} cores.",
    )
    path = comparison.folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def table_rows(comparison: Comparison) -> list[list[str]]:
    """Head and rows of the table."""
    rows = [["contender", "error %", "each seed", "parameters", "MMACs", "ms"]]
    for row in comparison.rows:
        each = "  ".join(f"{error:.2f}" for error in row.errors)
        rows.append(
            [
                row.name,
                f"{row.mean:.2f} ± {row.spread:.2f}",
                each,
                f"{row.cost.parameters:,}",
                f"{row.cost.macs / 1e6:.2f}",
                f"{row.cost.milliseconds:.1f}",
            ]
        )
    return rows


def plot(comparison: Comparison) -> Picture:
    """The error of each contender: a dot a seed, a line at the mean."""
    figure = Figure(figsize=(7, 0.6 + 0.45 * len(comparison.rows)), layout="constrained")
    axis = figure.subplots()
    for place, row in enumerate(comparison.rows):
        axis.plot([row.mean] * 2, [place - 0.25, place + 0.25], color="#0072b2", linewidth=2)
        axis.scatter(row.errors, [place] * len(row.errors), color="#e69f00", s=28, zorder=3)
    axis.set_yticks(range(len(comparison.rows)), [row.name for row in comparison.rows])
    axis.invert_yaxis()
    axis.set_xlim(left=0)
    axis.set_xlabel("test error, %")
    return Picture(figure, "test error of each contender, a dot a seed")
