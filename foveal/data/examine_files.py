"""Examination of the image files of a folder: in parallel, by their headers, and once.

What was found is kept in a cache of foveal's own, one file for each folder, with size and time of each image: an image
that has changed since is examined again. The environment variable FOVEAL_CACHE names the cache's folder, otherwise it
is `~/.cache/foveal/folders`; any file in it may be deleted.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from multiprocessing import current_process, get_all_start_methods, get_context
from pathlib import Path
from typing import TypeVar

from foveal.core.files import WRITTEN_BY, write_file
from foveal.core.processes import end_with_parent, signals_blocked
from foveal.core.progress import report_progress
from foveal.data.file_facts import FileFacts, examine
from foveal.data.file_tree import Stamp
from foveal.profiling.environment import cores

BATCH = 256  # files that a process examines at a time; so many or fewer are examined by this process
WORTH = 0.5  # seconds that an examination must take to be kept
SETTLED = 2_000_000_000  # nanoseconds: a file that changed later before its examination may change unseen
RULES = 1  # of `examine`; another number makes what was kept invalid
METHOD = "fork" if "fork" in get_all_start_methods() else "spawn"
Facts = dict[str, FileFacts]
Work = TypeVar("Work")
Found = TypeVar("Found")


def examine_files(root: Path, names: Sequence[str], stamps: Mapping[str, Stamp], whole: bool = False) -> Facts:
    """Report the properties of files, by name in the order of `names`.

    Args:
        root: folder that the names are relative to.
        names: of the files.
        stamps: size and time of each.
        whole: decode each file; nothing is then taken from the cache or kept. If False, see `examine`.
    """
    cache = None if whole else cache_file(root)
    known = read_cache(cache, stamps) if cache else {}
    left = [name for name in names if name not in known]
    begin, now = time.perf_counter(), time.time_ns()
    found = known | dict(zip(left, examine_all(root, left, whole), strict=True))
    if cache and time.perf_counter() - begin > WORTH:
        settled = {name: each for name, each in found.items() if stamps[name][1] < now - SETTLED}
        with suppress(OSError):  # a cache that cannot be written
            write_cache(cache, root, settled, stamps)
    return {name: found[name] for name in names}


def examine_all(root: Path, names: Sequence[str], whole: bool) -> Iterator[FileFacts]:
    """Examine files in order, many by several processes."""
    batches = [names[begin : begin + BATCH] for begin in range(0, len(names), BATCH)]
    call = partial(examine_batch, str(root), whole)
    done, alone = 0, len(batches) < 2 or current_process().daemon  # which has no processes of its own
    for batch, found in zip(batches, map(call, batches) if alone else in_processes(call, batches), strict=True):
        yield from found
        done += len(batch)
        report_progress("checking images", done, len(names))


def examine_batch(root: str, whole: bool, names: Sequence[str]) -> list[FileFacts]:
    """Examine files; equal results are one object, which is sent once to another process."""
    same: dict[FileFacts, FileFacts] = {}
    return [same.setdefault(each, each) for each in (examine(os.path.join(root, name), whole) for name in names)]


def in_processes(call: Callable[[Work], Found], works: Sequence[Work]) -> Iterator[Found]:
    """Call a function with each piece of work, in as many processes as there are cores; yield the results in order."""
    pool = ProcessPoolExecutor(min(cores(), len(works)), get_context(METHOD), begin, (os.getpid(),))
    try:
        with signals_blocked():
            results = [pool.submit(call, work) for work in works]
        for result in results:
            yield result.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def begin(parent: int) -> None:
    """Initialize a process: it ends by SIGTERM, or with its parent."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent(parent)


def cache_file(root: Path) -> Path | None:
    """Return the cache's file for a folder; None without a home folder."""
    with suppress(RuntimeError):
        place = os.environ.get("FOVEAL_CACHE") or Path.home() / ".cache" / "foveal" / "folders"
        return Path(place) / f"{sha256(str(root.resolve()).encode()).hexdigest()[:24]}.json"
    return None


def read_cache(path: Path, stamps: Mapping[str, Stamp]) -> Facts:
    """Read the properties of the files that have not changed since; none from a file that is missing or not plain."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["rules"] != rules():
            return {}
        facts = [FileFacts(**{**each, "values": each["values"] and tuple(each["values"])}) for each in stored["facts"]]
        files = stored["files"]
        return {
            name: facts[entry[2]]
            for name, stamp in stamps.items()
            if (entry := files.get(name)) is not None and (entry[0], entry[1]) == stamp
        }
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return {}


def write_cache(path: Path, root: Path, facts: Facts, stamps: Mapping[str, Stamp]) -> None:
    """Write the properties of files, each different one once."""
    numbers: dict[FileFacts, int] = {}
    files = {name: (*stamps[name], numbers.setdefault(each, len(numbers))) for name, each in facts.items()}
    stored = {
        "file": WRITTEN_BY,
        "folder": str(root.resolve()),
        "rules": rules(),
        "facts": [asdict(each) for each in numbers],
        "files": files,
    }
    write_file(path, json.dumps(stored))


def rules() -> str:
    """Return what the result of an examination depends on, apart from the file."""
    return f"{RULES}, foveal {version('foveal')}, Pillow {version('pillow')}"
