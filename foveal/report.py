"""A comparison as one self-contained HTML page: table, plot, and what each contender attends to."""

import base64
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup
from matplotlib.figure import Figure

import foveal
from foveal.comparing import Comparison
from foveal.costs import BATCH
from foveal.drawing import Picture
from foveal.jobs import cores
from foveal.looking import look
from foveal.tables import results_table, write_tables

IMAGES = 6  # drawn for each contender

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
  h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
  table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
  th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid #ddd; }
  th:first-child, td:first-child { text-align: left; }
  .wide { overflow-x: auto; } img { max-width: 100%; height: auto; } .small { color: #555; font-size: .9rem; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p>{{ summary }}</p>
<div class="wide"><table>
<thead><tr>{% for cell in head %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</tbody>
</table></div>
<p class="small">Error on the test part, which was read once, with the epoch chosen on validation: mean, and standard
deviation over seeds. Milliseconds: median for {{ batch }} images on one thread, the contenders taken in turn.</p>
<h2>Error by contender</h2>
{{ plot }}
{% for name, picture in pictures %}
<h2>What {{ name }} attends to</h2>
{{ picture }}
{% endfor %}
<h2>How it was made</h2>
<p class="small">{{ settings }}. {{ machine }}</p>
</body>
</html>
"""


def write_report(comparison: Comparison) -> Path:
    """Write `report.html` into the comparison's folder, and each contender's picture beside it; the page's path."""
    pictures = []
    plan = comparison.plan
    for row in comparison.rows:
        if row.learned:
            folder = plan.runs(row.name)[0]
            looked = look(str(folder), [plan.recipe.data], IMAGES)
            looked.picture.save(plan.folder / f"{folder.name}.png")
            pictures.append(
                (row.name, embedded(looked.picture, f"what {row.name} attends to, on {IMAGES} test images"))
            )
    write_tables(comparison)
    head, *rows = results_table(comparison)
    recipe = plan.recipe
    template = Environment(autoescape=True).from_string(PAGE)
    page = template.render(
        title=f"Attention on {recipe.data}",
        summary=f"{len(rows)} contenders in {plan.backbone}, {plan.seeds} seeds, {recipe.epochs} epochs, one recipe "
        f"for all; {comparison.seconds:.0f} s.",
        head=head,
        rows=rows,
        batch=BATCH,
        plot=embedded(plot(comparison), "test error of each contender, a dot a seed"),
        pictures=pictures,
        settings=", ".join(f"{name} {value}" for name, value in asdict(recipe).items()),
        machine=f"foveal {foveal.__version__}, torch {version('torch')}, timm {version('timm')}; {platform.system()}, "
        f"{cores()} cores.",
    )
    path = plan.folder / "report.html"
    path.write_text(page)
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
    return Picture(figure)


def embedded(picture: Picture, says: str) -> Markup:
    data = base64.b64encode(picture.png()).decode()
    return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(says, data)
