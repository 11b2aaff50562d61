"""Charts of a comparison: error against cost, paired differences, learning curves.

Colours are those of Okabe and Ito (2008), which colour-blind readers can distinguish, and each has its own marker. The
charts are vector graphics, drawn for a phone's width and for a page's, so that their text stays readable.
"""

import base64
import io
import statistics
from collections.abc import Iterable, Mapping
from html import escape
from math import ceil, isfinite, sqrt
from textwrap import wrap
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, ScalarFormatter
from matplotlib.transforms import ScaledTranslation

from foveal.comparison.compare import ComparisonResult, ContenderResult
from foveal.comparison.verdicts import FEWEST, LEVEL, Verdict
from foveal.inspection.drawing.canvas import PLAIN_TEXT
from foveal.inspection.drawing.palette import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY_BLUE, VERMILION
from foveal.inspection.drawing.picture import Picture
from foveal.profiling.costs import BATCH
from foveal.reports.ranking import ranked
from foveal.training.run_figures import validation_figure
from foveal.training.run_folder import read_lines

COLOURS = (BLACK, ORANGE, BLUE, GREEN, VERMILION, PURPLE, SKY_BLUE)  # the first one is for the baseline
MARKERS = "osD^vPX<>*hp"
WIDTH = 4.2  # inches, on a phone
WIDE = 8.4  # inches, on a wider screen and on paper
PHONE = "(max-width: 40rem)"
STYLE: dict[Any, Any] = {
    **PLAIN_TEXT, "font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "foveal",
}  # fmt: skip
LONGEST = 40  # maximum length of a name in a legend
VERDICT_STYLES = {  # by kind
    "better": (BLUE, "^"), "worse": (VERMILION, "v"), "same": (BLACK, "o"), "open": (ORANGE, "s"), "few": (GREY, "D"),
    "unstable": (GREY, "X"),
}  # fmt: skip
LOG_RATIO = 4  # ratio of largest to smallest value above which an axis is logarithmic


class Chart(Picture):
    """A chart that is embedded in a page as vector graphics (SVG): one for phones, one for wider screens and paper."""

    def svg(self, width: float = WIDE) -> bytes:
        """Render the chart as SVG of a width in inches."""
        buffer = io.BytesIO()
        with rc_context(STYLE):
            self.figure.set_size_inches(width, self.figure.get_figheight())
            self.figure.savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue()

    def __html__(self) -> str:
        narrow, wide = (
            f"data:image/svg+xml;base64,{base64.b64encode(self.svg(width)).decode()}" for width in (WIDTH, WIDE)
        )
        return (
            f'<picture><source media="{PHONE}" srcset="{narrow}">'
            f'<img class="chart" alt="{escape(self.alt_text)}" src="{wide}"></picture>'
        )


def looks(compared: ComparisonResult) -> dict[str, tuple[str, str]]:
    """Return colour and marker of each contender; above seven contenders, colours repeat with other markers."""
    names = [compared.plan.baseline, *(row.name for row in compared.rows if row.name != compared.plan.baseline)]
    return {name: (COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]) for index, name in enumerate(names)}


def accuracy_against_cost(compared: ComparisonResult) -> Chart | None:
    """Plot test error against measured milliseconds with the Pareto front of the means; None if every run failed."""
    rows = [row for row in compared.rows if row.errors]
    if not rows:
        return None
    style, front = looks(compared), pareto({row.name: (row.cost.batch, row.mean) for row in rows})
    with rc_context(STYLE):
        legend_rows = ceil((len(rows) + 1) / legend_columns(rows))
        figure = Figure(figsize=(WIDTH, 2.7 + 0.17 * legend_rows), layout="constrained")
        axis = figure.subplots()
        beside = axis.transData + ScaledTranslation(-6 / 72, 0, figure.dpi_scale_trans)  # left of the error bar
        for row in rows:
            colour, marker = style[row.name]
            errors = list(row.errors.values())
            axis.scatter(
                [row.cost.batch] * len(errors), errors, s=9, color=colour, alpha=0.6, linewidths=0, transform=beside
            )
            axis.errorbar(
                row.cost.batch, row.mean, half_interval(row), color=colour, marker=marker, markersize=6,
                markeredgecolor="white", markeredgewidth=0.6, capsize=3, elinewidth=1, linestyle="none",
                label=cut(row.name),
            )  # fmt: skip
        on_front = sorted((row.cost.batch, row.mean) for row in rows if row.name in front)
        line = axis.plot(*zip(*on_front, strict=True), drawstyle="steps-post", color=GREY, linewidth=1, zorder=0)
        line[0].set_label("Pareto front")
        axis.set_xlabel(f"milliseconds for {BATCH} images")
        axis.set_ylabel(f"test {compared.plan.measure.error}, %")
        axis.margins(0.08)
        low, _ = axis.get_ylim()
        axis.set_ylim(bottom=max(low, 0))
        figure.legend(loc="outside lower left", ncols=legend_columns(rows), frameon=False, fontsize=7)
    means = "; ".join(f"{row.name} {row.mean:.2f} % at {row.cost.batch:.1f} ms" for row in rows)
    names = ", ".join(row.name for row in rows if row.name in front)
    what = f"Test {compared.plan.measure.error} against milliseconds for {BATCH} images"
    return Chart(figure, f"{what}: {means}. On the Pareto front: {names}.")


def legend_columns(rows: Iterable[ContenderResult]) -> int:
    """Return the number of legend columns that fit the longest name."""
    longest = max((len(row.name) for row in rows), default=0)
    return 3 if longest <= 14 else 2 if longest <= 24 else 1


def cut(name: str) -> str:
    """Shorten a long name in its middle, since several names often have the same beginning."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2]} ... {name[5 - LONGEST // 2 :]}"


def half_interval(row: ContenderResult) -> float | None:
    """Compute half the width of the mean's 95 % interval over seeds (Student's t); None for fewer than three seeds."""
    from scipy.stats import t

    seeds = len(row.errors)
    return float(t.isf(LEVEL / 2, seeds - 1)) * row.spread / sqrt(seeds) if seeds >= FEWEST else None


def pareto(points: Mapping[str, tuple[float, float]]) -> set[str]:
    """Return the names on the Pareto front of two figures, where lower is better in both."""
    return {
        name
        for name, own in points.items()
        if not any(other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in points.values())
    }


def paired_differences(compared: ComparisonResult) -> Chart | None:
    """Draw a forest plot: mean difference, interval and the seeds as dots for each verdict; None without verdicts."""
    if not compared.verdicts:
        return None
    rows = {row.name: row for row in compared.rows}
    base, twin = rows[compared.plan.baseline], rows.get(compared.plan.twin or "")
    bases = [row.errors for row in (base, twin) if row and row.errors]
    verdicts = [compared.verdicts[row.name] for row in ranked(compared) if row.name in compared.verdicts]
    names = ["\n".join(wrap(cut(each.contender), 22)) for each in verdicts]
    with rc_context(STYLE):
        heights = sum(0.28 + 0.11 * name.count("\n") for name in names)
        figure = Figure(figsize=(WIDTH, 0.75 + heights), layout="constrained")
        axis = figure.subplots()
        axis.axvline(0, color=GREY, linewidth=1, zorder=0)
        for place, each in enumerate(verdicts):
            colour, marker = VERDICT_STYLES[each.kind]
            own = rows[each.contender].errors
            common = [seed for seed in own if all(seed in run for run in bases)]
            seeds = [statistics.fmean(run[seed] for run in bases) - own[seed] for seed in common]
            axis.scatter(seeds, [place + 0.22] * len(seeds), s=9, color=colour, alpha=0.6, linewidths=0)
            if isfinite(each.ci_low):
                axis.plot([each.ci_low, each.ci_high], [place] * 2, color=colour, linewidth=1.5)
            filled = colour if each.kind not in ("few", "unstable") else "none"
            axis.plot(each.mean, place, marker=marker, markersize=6, color=colour, markerfacecolor=filled)
        axis.set_yticks(range(len(names)), names)
        axis.tick_params("y", length=0)
        axis.set_ylim(len(names) - 0.4, -0.6)
        low, high = axis.get_xlim()
        axis.set_xlim(min(low, -0.1 * high), max(high, -0.1 * low))
        axis.spines["left"].set_visible(False)
        quality = compared.plan.measure.quality
        figure.supxlabel(f"worse than the baseline  ←  percentage points of {quality}  →  better", fontsize=8)
    return Chart(
        figure,
        f"Differences from the baseline, {base.name}, in percentage points of {quality}: {differences_text(verdicts)}.",
    )


def differences_text(verdicts: Iterable[Verdict]) -> str:
    """Describe the mean differences and their intervals for the alternative text of the chart."""
    return "; ".join(
        f"{each.contender} {each.mean:+.2f}"
        + (f", from {each.ci_low:+.2f} to {each.ci_high:+.2f}" if isfinite(each.ci_low) else ", no interval")
        for each in verdicts
    )


Curve = dict[int, float]  # epoch to value


def learning_curves(compared: ComparisonResult, what: str) -> Chart | None:
    """Plot learning curves, one panel for each contender.

    Thin lines are seeds, the thick line is their mean, and the dashed line is the mean of the baseline.

    Args:
        compared: The comparison; the metrics of its runs are read from its folder.
        what: "training loss", or what is written beside the axis of the validation error.

    Returns:
        The chart, or None if no run has finished an epoch.
    """
    curves = {row.name: [curve for curve in curves_of(compared, row.name, what) if curve] for row in compared.rows}
    curves = {name: each for name, each in curves.items() if each}
    if not curves:
        return None
    style, base = looks(compared), curves.get(compared.plan.baseline)
    columns = min(len(curves), 2 if len(curves) <= 4 else 3)
    lines = ceil(len(curves) / columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.35 + 1.35 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat
        for (name, seeds), axis in zip(curves.items(), panels, strict=False):
            colour, marker = style[name]
            for curve in seeds:
                axis.plot(list(curve), list(curve.values()), color=colour, linewidth=0.6, alpha=0.45)
            if base and name != compared.plan.baseline:
                mean = mean_curve(base)
                axis.plot(list(mean), list(mean.values()), color=COLOURS[0], linewidth=0.9, linestyle=(0, (4, 2)))
            mean = mean_curve(seeds)
            axis.plot(
                list(mean), list(mean.values()), color=colour, linewidth=1.6, marker=marker, markersize=3.5,
                markevery=[-1],
            )  # fmt: skip
            axis.set_title("\n".join(wrap(cut(name), 42 // columns)), fontsize=7.5, loc="left")
            axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        for axis in list(panels):  # unused panels of the grid
            axis.set_axis_off()
        scale(figure.axes[0], [value for seeds in curves.values() for curve in seeds for value in curve.values()])
        figure.supxlabel("epoch", fontsize=8)
        figure.supylabel(what, fontsize=8)
    last = {name: mean_curve(seeds) for name, seeds in curves.items()}
    values = "; ".join(f"{name} {list(each.values())[-1]:.3g} after {max(each)} epochs" for name, each in last.items())
    return Chart(figure, f"{what.capitalize()} by epoch, means over seeds: {values}.")


def curves_of(compared: ComparisonResult, name: str, what: str) -> list[Curve]:
    """Read the learning curve of each seed of a contender."""
    lines = [[line for line in read_lines(folder) if "epoch" in line] for folder in compared.plan.runs(name).values()]
    if what == "training loss":
        return [{line["epoch"]: line["train_loss"] for line in each} for each in lines]
    return [{line["epoch"]: 100 * (1 - validation_figure(line)) for line in each} for each in lines]


def mean_curve(seeds: Iterable[Curve]) -> Curve:
    """Average curves, at each epoch over the seeds that have finished it."""
    seeds = list(seeds)
    epochs = sorted({epoch for curve in seeds for epoch in curve})
    return {epoch: statistics.fmean(curve[epoch] for curve in seeds if epoch in curve) for epoch in epochs}


def scale(axis: Axes, values: list[float]) -> None:
    """Make the axis logarithmic if the values span a large range, so that the first epochs do not hide the others."""
    if min(values) > 0 and max(values) > LOG_RATIO * min(values):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(ScalarFormatter())
        axis.yaxis.set_minor_locator(NullLocator())
