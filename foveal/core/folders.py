"""Folders that foveal fills: recognized by a marker file, and written by one process at a time."""

import json
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from foveal.core.files import DRAFTS, WRITTEN_BY, write_file

MARKER = ".foveal"  # holds the last process that wrote to the folder
LOCK = ".foveal.lock"


class BeingWrittenError(ValueError):
    """Another process writes to the folder."""


def check_folder_is_ours(folder: Path, overwrite: bool = False) -> None:
    """Check that results may be written to a folder: it is new, empty, or marked as filled by foveal.

    Raises:
        ValueError: If `folder` is a file, or holds files without the marker and `overwrite` is False.
    """
    if folder.is_symlink() and not folder.exists():
        raise ValueError(f"output={str(folder)!r} is a link to nothing; name a folder")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output={str(folder)!r} is a file; name a folder")
    if overwrite or not folder.is_dir() or (folder / MARKER).is_file():
        return
    found = next((each.name for each in sorted(folder.iterdir()) if each.name != LOCK), None)
    if found is not None:
        raise ValueError(
            f"output={str(folder)!r} holds files that foveal did not write, such as {found!r}; name another folder, or "
            "allow files in it to be replaced with --overwrite"
        )


@contextmanager
def locked_folder(folder: Path, overwrite: bool = False) -> Iterator[None]:
    """Create or take a folder for this process; other processes are refused until the context, or the process, ends.

    Raises:
        BeingWrittenError: If another process writes to the folder.
        ValueError: As `check_folder_is_ours`.
        OSError: If the folder cannot be created or locked.
    """
    check_folder_is_ours(folder, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise BeingWrittenError(
            f"output={str(folder)!r} is being written by {holder(folder)}; wait for its end, or name another folder"
        ) from error
    try:
        mark(folder)
        for draft in folder.glob(DRAFTS):  # of a process that was killed while it wrote
            draft.unlink()
        yield
    finally:
        lock.release()


@contextmanager
def drafts_removed(folders: Iterable[Path]) -> Iterator[None]:
    """At the end of the context, remove temporary files from folders that other processes, now ended, wrote to.

    A folder that another process still writes to is left alone.
    """
    try:
        yield
    finally:
        for folder in filter(Path.is_dir, folders):
            with suppress(ValueError), locked_folder(folder):
                pass


def mark(folder: Path) -> None:
    """Write the marker with this process."""
    facts = {"folder": WRITTEN_BY, "process": os.getpid(), "host": socket.gethostname()}
    write_file(folder / MARKER, json.dumps(facts) + "\n")


def holder(folder: Path) -> str:
    """Describe the process that the marker names."""
    try:
        facts = json.loads((folder / MARKER).read_text())
        return f"process {facts['process']} on {facts['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
