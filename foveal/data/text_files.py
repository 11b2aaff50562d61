"""Files of text: read whole, in UTF-8, with one line that names the file if they cannot be."""

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path


def read_text(path: Path, most: int | None = None) -> str:
    """Read a file of text, without the byte order mark that spreadsheets write before it.

    Raises:
        ValueError: not UTF-8; more than `most` bytes.
    """
    size = path.stat().st_size
    if most is not None and size > most:
        raise ValueError(f"{path}: {size:,} bytes; at most {most:,} are read")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text in UTF-8: {error.reason} at byte {error.start:,}") from error


def read_csv(path: Path) -> list[list[str]]:
    """Read the rows of a CSV file, without empty lines.

    Raises:
        ValueError: not a text; a quoted field that never ends, or goes on after its last quote.
    """
    return [row for _, row in numbered_rows(path)]


def numbered_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Read the rows of a CSV file as `read_csv` does, each after the number of its last line."""
    reader = csv.reader(StringIO(read_text(path), newline=""), strict=True)  # a stray quote would swallow lines
    try:
        return [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: cannot be read as CSV: {error}") from error


def check_names(what: str, names: Sequence[str]) -> None:
    """Refuse a name of bytes that are no UTF-8, as old archives have: it cannot be written into a file of text."""
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        odd = next(each for each in names if error.object[error.start] in each)
        raise ValueError(f"{what}: {odd!a} has a name that is no UTF-8; rename it") from error
