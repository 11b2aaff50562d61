"""Names that somebody typed: looked up with a helpful no, or made fit for a file."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")
MOST = 30  # names in one line


def unknown_name_error(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a name that is not known: it names the nearest one, or else the first of all."""
    known = sorted(known)
    near = get_close_matches(name, known, n=1)
    some = ", ".join(known[:MOST]) + (f" and {len(known) - MOST} more" if len(known) > MOST else "")
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {some}"
    return ValueError(f"unknown {kind} {name!r}; {hint}")


def slug(name: str) -> str:
    """A name that any file system takes."""
    return re.sub(r"[^A-Za-z0-9_.=,+-]+", "-", name)


def lookup(kind: str, name: str, table: Mapping[str, T]) -> T:
    """`table[name]`; ValueError with the nearest name where there is none."""
    if name not in table:
        raise unknown_name_error(kind, name, table)
    return table[name]


def class_names(instance: object) -> list[str]:
    """List the full names of an object's classes, its own first."""
    return [f"{cls.__module__}.{cls.__qualname__}" for cls in type(instance).__mro__]


def one_line(error: BaseException) -> str:
    """Join the lines of an error's message; the name of its class if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: BaseException) -> str:
    """Take the first line of an error's message; the name of its class if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
