"""Write files whole or not at all, and never over a file that foveal did not write.

A file is written under a temporary name beside its final one, flushed to the disk, and renamed. Whenever the process
ends, the file under the final name is complete: the earlier content or the new one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

WRITTEN_BY = "written by foveal"  # stored in each file that a command writes, near its begin or its end
ENDS = 2**16  # bytes at the begin and at the end of a file that are searched for it
DRAFTS = ".foveal-*.half*"  # names of temporary files


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path of the same suffix; at the end of the context, the file written there becomes `path`.

    If the context raises an exception, nothing changes.

    Raises:
        OSError: If the file cannot be written; `filename` is `path`.
    """
    draft = path.with_name(f".foveal-{uuid4().hex[:12]}.half{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def write_file(path: Path, content: str | bytes) -> Path:
    """Write a whole file, unless it already has this content; return its path. Text is encoded as UTF-8."""
    data = content.encode() if isinstance(content, str) else content
    if not has_content(path, data):
        with whole_file(path) as draft:
            draft.write_bytes(data)
    return path


def has_content(path: Path, data: bytes) -> bool:
    """Return True if the file exists and has exactly this content."""
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


def output_path(output: str | Path) -> Path:
    """Return the path of a result; "~" at its begin is a home folder, as in a shell.

    Raises:
        ValueError: If there is no such home folder.
    """
    try:
        return Path(output).expanduser()
    except RuntimeError as error:
        raise ValueError(f"output={str(output)!r}: {Path(output).parts[0]!r} is no home folder") from error


def check_replaceable(path: Path, overwrite: bool = False) -> None:
    """Check, before long work, that a result may be written to `path`.

    Raises:
        ValueError: If `path` is a folder, or a file that foveal did not write and `overwrite` is False.
    """
    if path.is_dir():
        raise ValueError(f"output={str(path)!r} is a folder; name a file")
    if not overwrite and path.exists() and not is_written_by_foveal(path):
        raise ValueError(
            f"output={str(path)!r} exists, and foveal did not write it; name another file, or replace it with "
            "--overwrite"
        )


def check_new(path: Path, overwrite: bool = False) -> None:
    """Check, before long work, that a result that cannot say who wrote it, as a CSV file, may be written to `path`.

    Raises:
        ValueError: If `path` is a folder, or a file and `overwrite` is False.
    """
    check_replaceable(path, overwrite=True)
    if path.exists() and not overwrite:
        raise ValueError(f"output={str(path)!r} exists; name another file, or replace it with --overwrite")


def is_written_by_foveal(path: Path) -> bool:
    """Return True if a file contains `WRITTEN_BY` near its begin or its end."""
    with path.open("rb") as file:
        begin = file.read(ENDS)
        file.seek(max(0, path.stat().st_size - ENDS))
        return WRITTEN_BY.encode() in begin or WRITTEN_BY.encode() in file.read()
