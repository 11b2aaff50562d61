"""WebDataset: shards, tar files in which the files of a sample follow each other and share their name up to the first
dot: `0001.jpg` beside `0001.cls`, which holds the number of the class.

A folder with shards is read, at any depth, or one shard. `_info.json`, as timm writes it, names the splits and their
shards; otherwise a shard belongs to the part that its path names last, as in `flowers-train-0007.tar` or
`val/0007.tar`, and shards without such names are split by foveal.

The headers of each shard are listed when the data is loaded, so that every image has a number, a name and a label, and
epochs are exact whatever the number of workers. Images are then read at their places in the shards, one by one: no
shard is held in memory. A shard that is truncated or broken is named, with the number of images before the fault, which
are used. Shards must be files on this machine, not compressed.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveal.core.names import one_line
from foveal.data.encoded_images import EncodedImages
from foveal.data.examine_shards import Shard, examine_shards
from foveal.data.layouts import PARTS
from foveal.data.parts import listed
from foveal.data.splits_by_name import NamedSplits
from foveal.data.text_files import read_text

INFO = "_info.json"
MIXED = 8192  # images of shards that follow each other are read in random order, as many as timm's reader mixes
PART_OF = {name: names[0] for names in PARTS.values() for name in names}
NUMBERS = re.compile(r"[-_.]?\d[\d-]*$")


@dataclass(frozen=True)
class ShardImages(EncodedImages):
    """A part that is read from shards, through timm's transform."""

    root: Path
    names: Sequence[str]  # of the shard, and within it
    labels: Tensor
    transform: Any
    value_range: tuple[float, float] | None
    shards: Sequence[str]
    places: np.ndarray  # (N, 3) int64: index of the shard, place and size in bytes

    def file(self, index: int) -> bytes:
        shard, place, size = self.places[index].tolist()
        with (self.root / self.shards[shard]).open("rb") as file:
            file.seek(place)
            return file.read(size)

    def shuffled(self) -> Tensor:
        """Draw an order from torch's random stream in which shards follow each other, with `MIXED` images mixed."""
        shards = torch.from_numpy(self.places[:, 0])
        position = torch.randperm(len(self.shards))[shards]
        order = torch.argsort(position, stable=True)
        return torch.cat([near[torch.randperm(len(near))] for near in order.split(MIXED)])


def list_shards(path: Path) -> NamedSplits:
    """List the images of all shards, by split.

    Raises:
        ValueError: no shard, or none that can be read; an `_info.json` that is not understood.
    """
    name = f"data 'wds/{path}'"
    root, files = find_shards(name, path)
    splits = read_info(name, root) if path.is_dir() else {}
    by_split = splits or by_part(files)
    found = examine_shards(root, [file for names in by_split.values() for file in names])
    skipped = {file: "in no split of _info.json" for file in files if file not in found}
    for file, shard in found.items():
        skipped |= {f"{file}/{sample}" if sample else file: reason for sample, reason in shard.faults.items()}
    return as_splits(name, root, by_split, found, skipped)


def as_splits(
    name: str, root: Path, by_split: Mapping[str, list[str]], found: Mapping[str, Shard], skipped: dict[str, str]
) -> NamedSplits:
    """Join what shards hold; classes are named by their numbers."""
    numbers = sorted({label for shard in found.values() for label in shard.labels})
    if not numbers:
        raise ValueError(f"{name}: no image with a class in its shards; {reasons(skipped)}")
    names = {split: [f"{file}/{each}" for file in files for each in found[file].names]
             for split, files in by_split.items()}  # fmt: skip
    twice = next((each[0] for every in names.values() for each in pairwise(sorted(every)) if each[0] == each[1]), None)
    if twice is not None:
        raise ValueError(f"{name}: two images are named {twice!r}; names must differ within a shard")
    places = {
        split: np.array([(index, *place) for index, file in enumerate(files) for place in found[file].places], np.int64)
        for split, files in by_split.items()
    }

    def part(split: str, rows: np.ndarray, labels: Tensor, transform: Any, value_range: Any) -> ShardImages:
        chosen = [names[split][row] for row in rows.tolist()]
        return ShardImages(root, chosen, labels, transform, value_range, by_split[split], places[split][rows])

    labels = {
        split: torch.from_numpy(np.searchsorted(numbers, [each for file in files for each in found[file].labels]))
        for split, files in by_split.items()
    }
    return NamedSplits(name, tuple(map(str, numbers)), labels, part, skipped)


def reasons(skipped: Mapping[str, str]) -> str:
    return listed((f"{name}: {reason}" for name, reason in skipped.items()), 3)


def find_shards(name: str, path: Path) -> tuple[Path, list[str]]:
    """Return a folder and the shards in it, by their paths from there."""
    if path.is_file():
        return path.parent, [path.name]
    if not path.is_dir():
        hint = "; copy the shards to this machine" if ":" in str(path) else ""
        raise ValueError(f"{name}: there is no such folder or file{hint}")
    files = sorted(each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file())
    shards = [file for file in files if file.endswith(".tar")]
    packed = [file for file in files if re.search(r"\.(tgz|tar\.\w+)$", file)]
    if not shards:
        hint = f"; unpack the compressed ones, as gunzip does: {listed(packed, 3)}" if packed else ""
        raise ValueError(f"{name}: no shard, a file that ends with .tar, in it{hint}")
    return path, shards


def read_info(name: str, root: Path) -> dict[str, list[str]]:
    """Read the shards of each split from `_info.json`; none without such a file.

    Raises:
        ValueError: a file of another content; shards that are missing; labels in another place than `.cls`.
    """
    if not (root / INFO).is_file():
        return {}
    try:
        splits = {str(split): dict(facts) for split, facts in json.loads(read_text(root / INFO))["splits"].items()}
        files = {split: list(map(str, facts["filenames"])) for split, facts in splits.items()}
    except Exception as error:  # any content
        raise ValueError(f"{name}: {INFO} is not understood, {type(error).__name__}: {one_line(error)}") from error
    for split, facts in splits.items():
        if facts.get("alt_label"):
            raise ValueError(
                f"{name}: {INFO}, {split}: alt_label={facts['alt_label']!r:.80}; classes are read from .cls alone"
            )
    missing = [file for names in files.values() for file in names if not (root / file).is_file()]
    if missing:
        raise ValueError(f"{name}: {len(missing):,} shards of {INFO} are missing, as {missing[0]!r}")
    return {split: names for split, names in files.items() if names}


def by_part(files: Sequence[str]) -> dict[str, list[str]]:
    """Sort shards by the part that their path names last; those that name none by what is before their number."""
    found: dict[str, list[str]] = {}
    for file in files:
        words = [word for word in re.split(r"[-_./]", file.removesuffix(".tar").lower()) if word in PART_OF]
        rest = NUMBERS.sub("", file.removesuffix(".tar"))
        found.setdefault(PART_OF[words[-1]] if words else rest, []).append(file)
    return found if any(part in found for part in PART_OF.values()) else {"all": list(files)}
