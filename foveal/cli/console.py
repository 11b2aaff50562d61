"""Output of the command: tables, a progress bar or plain lines, result files."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from foveal.core.names import remark_lines

console = Console(width=None if sys.stdout.isatty() else 140)  # whole rows in a file or a pipe


def in_millions(count: float | None) -> str:
    """Format with four digits or more; return an empty string for an unknown count."""
    return "" if count is None else f"{count:,.0f}" if count >= 1000 else f"{count:.4g}"


def print_remarks(skipped: Mapping[str, str], notes: Mapping[str, str]) -> None:
    """Print which files of a data set were left out, and how others were read."""
    for line in remark_lines(skipped, notes):
        print(line)


def written(text: str, output: Path | None, model: str, name: str) -> Path:
    """Write a result to `output`, or else into the model's folder, or else into the current one; return the path."""
    place = Path(model)
    file = output or (place if place.is_dir() else place.parent if place.exists() else Path()) / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")
    return file


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar with an estimate on a terminal; elsewhere print one line at each tenth."""
    if not console.is_terminal:
        printed = 0

        def report_progress(done: int, of: int) -> None:
            nonlocal printed
            if done * 10 // of > printed:
                printed = done * 10 // of
                print(f"{title}: {printed * 10} %", flush=True)

        yield report_progress
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
