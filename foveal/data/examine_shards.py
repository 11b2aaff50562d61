"""Examination of shards: which images they hold, with place and class, by the headers of their tar files.

Many shards are examined in parallel. What was found is kept in foveal's cache, one file for each folder (see
`foveal.data.examine_files`), with size and time of each shard: a shard that has changed since is examined again.
"""

import json
import re
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import groupby
from multiprocessing import current_process
from pathlib import Path
from typing import Any

from foveal.core.files import WRITTEN_BY, write_file
from foveal.core.names import one_line
from foveal.core.progress import report_progress
from foveal.data.examine_files import SETTLED, WORTH, cache_file, in_processes
from foveal.data.file_tree import Stamp
from foveal.data.parts import listed

IMAGES = ("jpg", "png", "webp", "jpeg", "bmp", "gif", "tif", "tiff")  # the first that a sample has is its image
RULES = 1  # of `examine_shard`; another number makes what was kept invalid


@dataclass
class Shard:
    """What a shard holds: of each image its name within the shard, place and size in bytes, and label."""

    names: list[str] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)  # of samples by name, of the shard itself by ""


def examine_shards(root: Path, files: Sequence[str]) -> dict[str, Shard]:
    """List the images of shards, by file in the order of `files`.

    Args:
        root: folder that the paths of the files are relative to.
        files: the shards.
    """
    stamps = {file: stamp_of(root / file) for file in files}
    cache = cache_file(root)
    cache = cache and cache.with_suffix(".shards.json")
    known = read_cache(cache, stamps) if cache else {}
    left = [file for file in files if file not in known]
    begin, now = time.perf_counter(), time.time_ns()
    alone = len(left) < 2 or current_process().daemon  # which has no processes of its own
    call = partial(examine_shard, root)
    found = dict(known)
    for file, shard in zip(left, map(call, left) if alone else in_processes(call, left), strict=True):
        found[file] = shard
        report_progress("listing shards", len(found), len(files))
    if cache and time.perf_counter() - begin > WORTH:
        settled = {file: each for file, each in found.items() if stamps[file][1] < now - SETTLED}
        with suppress(OSError):  # a cache that cannot be written
            write_cache(cache, settled, stamps)
    return {file: found[file] for file in files}


def stamp_of(path: Path) -> Stamp:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def read_cache(path: Path, stamps: Mapping[str, Stamp]) -> dict[str, Shard]:
    """Read what was found in the shards that have not changed since; nothing from a file that is missing or broken."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["rules"] != RULES:
            return {}
        shards = {file: each for file, each in stored["shards"].items() if tuple(each["stamp"]) == stamps.get(file)}
        return {file: Shard(**each["shard"]) for file, each in shards.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def write_cache(path: Path, shards: Mapping[str, Shard], stamps: Mapping[str, Stamp]) -> None:
    """Write what was found in shards."""
    stored = {file: {"stamp": stamps[file], "shard": asdict(each)} for file, each in shards.items()}
    write_file(path, json.dumps({"file": WRITTEN_BY, "rules": RULES, "shards": stored}))


def examine_shard(root: Path, name: str) -> Shard:
    """List the images of a shard that have a class, to its end or its first fault."""
    path, shard = root / name, Shard()
    members: list[tarfile.TarInfo] = []
    try:
        size = path.stat().st_size
        with tarfile.open(path, "r:") as archive:
            with suppress(tarfile.TarError):  # of a truncated shard; looked for below
                for member in archive:
                    members.append(member)
            labels = read_labels(archive, members, size)
            end = archive.offset
    except (tarfile.TarError, OSError) as error:
        shard.faults[""] = f"cannot be read as a tar file: {one_line(error)}"
        return shard
    whole = [each for each in members if is_whole_file(each, size)]
    for key, files in groupby(whole, key=lambda each: key_of(each.name)):
        add_sample(shard, key, {suffix_of(each.name): each for each in files}, labels)
    with path.open("rb") as file:
        file.seek(end)
        ended = file.read(tarfile.BLOCKSIZE) == tarfile.NUL * tarfile.BLOCKSIZE
    if not ended:
        cut = end + tarfile.BLOCKSIZE > size
        what = f"truncated after {size:,} bytes" if cut else f"broken at byte {end:,} of {size:,}"
        shard.faults[""] = f"{what}; {len(shard.names):,} images were found before"
    return shard


def read_labels(archive: tarfile.TarFile, members: Sequence[tarfile.TarInfo], size: int) -> dict[str, bytes]:
    """Read the content of the files with classes, by name."""
    held = [each for each in members if suffix_of(each.name) == "cls" and is_whole_file(each, size)]
    files: Iterator[Any] = (archive.extractfile(each) for each in held)
    return {each.name: file.read() for each, file in zip(held, files, strict=True)}


def is_whole_file(member: tarfile.TarInfo, size: int) -> bool:
    """Return True for a file that ends within a shard of a size in bytes."""
    return member.isfile() and member.offset_data + member.size <= size


def add_sample(shard: Shard, key: str, files: Mapping[str, tarfile.TarInfo], labels: Mapping[str, bytes]) -> None:
    """Add the image of a sample, or the reason for which it is left out."""
    image = next((files[suffix] for suffix in IMAGES if suffix in files), None)
    text = labels[files["cls"].name].strip() if "cls" in files else b""
    if image is None:
        shard.faults[key] = f"no image among {listed(sorted(files), 5)}"
    elif "cls" not in files:
        shard.faults[image.name] = "no .cls with its class beside it"
    elif not re.fullmatch(rb"\d{1,18}", text):
        shard.faults[image.name] = f"class {text.decode(errors='replace')!r:.80} in .cls; a whole number is needed"
    else:
        shard.names.append(image.name)
        shard.places.append((image.offset_data, image.size))
        shard.labels.append(int(text))


def key_of(name: str) -> str:
    """Return the name that the files of a sample share: up to the first dot after the last slash."""
    return name[: len(name) - len(suffix_of(name)) - 1]


def suffix_of(name: str) -> str:
    """Return what follows the first dot of a file's name, in small letters."""
    return name.rpartition("/")[2].partition(".")[2].lower()
