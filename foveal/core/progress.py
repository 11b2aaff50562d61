"""Progress of long work: reported where the work is done, shown by whoever started it, as the command does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Show = Callable[[str, int, int], None]  # of a title, and the numbers of things done and of all

_show: ContextVar[Show] = ContextVar("show", default=lambda title, done, of: None)


def report_progress(title: str, done: int, of: int) -> None:
    """Report how much of some work is done."""
    _show.get()(title, done, of)


@contextmanager
def progress_shown(show: Show) -> Iterator[None]:
    """Call a function with all progress that is reported in this context, in this thread."""
    token = _show.set(show)
    try:
        yield
    finally:
        _show.reset(token)
