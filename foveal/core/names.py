"""Look up names given by the user, with a suggestion for a typo; make names that are valid file names."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")
MOST = 30  # names listed in an error message at most, and lines of remarks


def unknown_name_error(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """Return the ValueError for an unknown name; it suggests the nearest known name, or else lists the known ones."""
    known = sorted(known)
    near = get_close_matches(name, known, n=1)
    some = ", ".join(known[:MOST]) + (f" and {len(known) - MOST} more" if len(known) > MOST else "")
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {some}"
    return ValueError(f"unknown {kind} {name!r:.200}; {hint}")


def slug(name: str) -> str:
    """Return `name` as a file name: with a hyphen for characters that a file system may refuse, and none at the start,
    where commands read options."""
    return re.sub(r"[^A-Za-z0-9_.=,+-]+", "-", name).lstrip("-")


def as_cell(text: str) -> str:
    """Return `text` for a CSV file, after an apostrophe if a spreadsheet would compute it as a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def lookup(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Return `table[name]`.

    Raises:
        ValueError: `name` is not a key of `table`; the message suggests the nearest key.
    """
    if name not in table:
        raise unknown_name_error(kind, name, table)
    return table[name]


def remark_lines(skipped: Mapping[str, str], notes: Mapping[str, str]) -> list[str]:
    """List which files of a data set were left out, with the reason, and how others were read, at most 30 of each."""
    left_out, read = ([f"{name}: {reason}" for name, reason in each.items()] for each in (skipped, notes))
    lines = [f"left out {line}" for line in left_out[:MOST]]
    lines += [f"left out {len(left_out) - MOST:,} more"] if len(left_out) > MOST else []
    lines += read[:MOST]
    return [*lines, f"and {len(read) - MOST:,} more notes"] if len(read) > MOST else lines


def class_names(instance: object) -> list[str]:
    """Return the full names of an object's classes in method resolution order, its own class first."""
    return [f"{cls.__module__}.{cls.__qualname__}" for cls in type(instance).__mro__]


def one_line(error: BaseException) -> str:
    """Return an error's message in one line, or the name of its class if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
