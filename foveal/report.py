"""A comparison as one self-contained HTML page: table, plot, and what each contender attends to."""

import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from matplotlib.figure import Figure

import foveal
from foveal.comparing import Comparison
from foveal.costs import BATCH
from foveal.drawing import Picture
from foveal.jobs import cores
from foveal.looking import look
from foveal.tables import results_table, write_tables
from foveal.templates import fill

IMAGES = 6  # drawn for each contender


def write_report(comparison: Comparison) -> Path:
    """Write `report.html` into the comparison's folder, and each contender's picture beside it; the page's path."""
    pictures = []
    plan = comparison.plan
    for row in comparison.rows:
        if row.learned:
            folder = plan.runs(row.name)[0]
            looked = look(str(folder), [plan.recipe.data], IMAGES)
            looked.picture.save(plan.folder / f"{folder.name}.png")
            pictures.append((row.name, looked.picture))
    write_tables(comparison)
    head, *rows = results_table(comparison)
    recipe = plan.recipe
    page = fill(
        "report.html",
        title=f"Attention on {recipe.data}",
        summary=f"{len(rows)} contenders in {plan.backbone}, {plan.seeds} seeds, {recipe.epochs} epochs, one recipe "
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
    path = plan.folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def plot(comparison: Comparison) -> Picture:
    """The error of each contender: a dot a seed, a line at the mean."""
    figure = Figure(figsize=(7, 0.6 + 0.45 * len(comparison.rows)), layout="constrained")
    axis = figure.subplots()
    for place, row in enumerate(comparison.rows):
        axis.plot([row.mean] * 2, [place - 0.25, place + 0.25], color="#0072b2", linewidth=2)
        axis.scatter(list(row.errors.values()), [place] * len(row.errors), color="#e69f00", s=28, zorder=3)
    axis.set_yticks(range(len(comparison.rows)), [row.name for row in comparison.rows])
    axis.invert_yaxis()
    axis.set_xlim(left=0)
    axis.set_xlabel("test error, %")
    return Picture(figure, "test error of each contender, a dot a seed")
