"""Output of the command: tables, a progress bar or plain lines, result files."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cyclopts import Parameter, Token
from rich.console import Console
from rich.table import Table
from rich.text import Text

from foveal.core.files import check_replaceable, output_path
from foveal.core.names import remark_lines

console = Console(width=None if sys.stdout.isatty() else 140)  # whole rows in a file or a pipe


def in_millions(count: float | None) -> str:
    """Format with four digits or more; return an empty string for an unknown count."""
    return "" if count is None else f"{count:,.0f}" if count >= 1000 else f"{count:.4g}"


def print_remarks(skipped: Mapping[str, str], notes: Mapping[str, str]) -> None:
    """Print which files of a data set were left out, and how others were read."""
    for line in remark_lines(skipped, notes):
        print(line)


def path_of(kind: type[Path], tokens: Sequence[Token]) -> Path:
    """Convert the value of `--output`, where "~" is the home folder; an empty one would be the current folder."""
    if not tokens[0].value.strip():
        raise ValueError("--output is empty; name a path, '.' for the current folder")
    return output_path(tokens[0].value)


OutputPath = Parameter(converter=path_of)


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; the text of its rows is no markup.

    On a narrow terminal the first column stays whole if it takes at most half, since it names what somebody may type.
    No word of the head is cut; other long words are folded.
    """
    rows = [*rows]
    short = 2 * max((len(row[0]) for row in rows), default=0) <= console.width
    table = Table(box=None)
    for column, name in enumerate(head):
        longest = max(map(len, name.split()), default=0)
        table.add_column(name, min_width=longest, no_wrap=short and column == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def print_line(text: str) -> None:
    """Print a line of plain text above the progress bar."""
    console.print(Text(text))


def result_path(output: Path | None, model: str, name: str, overwrite: bool) -> Path:
    """Return the path of a result: `output`, or else `name` in the model's folder, or else in the current one.

    Raises:
        ValueError: If there is a file that foveal did not write, and `overwrite` is False.
    """
    place = Path(model)
    path = output or (place if place.is_dir() else place.parent if place.exists() else Path()) / name
    check_replaceable(path, overwrite)
    return path


def progress_lines(patience: float = 2.0) -> Callable[[str, int, int], None]:
    """Return a function that prints a line at each tenth of some work, from `patience` seconds after its begin on."""
    printed: dict[str, tuple[float, int]] = {}

    def show(title: str, done: int, of: int) -> None:
        begin, tenth = printed.setdefault(title, (time.perf_counter(), 0))
        if done * 10 // of > tenth and time.perf_counter() - begin >= patience:
            printed[title] = begin, done * 10 // of
            print_line(f"{title}: {done * 10 // of * 10} % of {of:,}")
        if done == of:
            del printed[title]

    return show


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
