"""The images that a run was trained on, as `split.json` stores them, compared with those that its data holds now.

A folder of images is split each time that it is read. An image that is added, removed or renamed moves others between
the parts, so that a test image may be one that the run was trained on.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveal.data.parts import PARTS, Data
from foveal.training.run_folder import SPLIT, read_split

LEARNED = ("train", "validation")  # parts that a run learns from or is chosen on


@dataclass(frozen=True)
class StoredSplit:
    """Names of a run's images by part; of image files with the absolute folder that the names are relative to."""

    parts: dict[str, list[str]]
    root: str | None = None
    labels: str | None = None  # see `digest_of`; None for a run of an older version

    def check_same(self, data: Data, way_out: str) -> None:
        """Check that a run's own data still holds the images that it was trained on, in the same parts, as they were
        labelled.

        Raises:
            ValueError: it does not; the message counts the images, and ends with `way_out`.
        """
        if self.parts != data.split:
            raise ValueError(
                f"data {data.name!r}: its images are not those that the run was trained on: "
                f"{changes(self.parts, data.split)}; restore them, or {way_out}"
            )
        if self.labels is not None and self.labels != digest_of(data):
            raise ValueError(
                f"data {data.name!r}: its labels are not those that the run was trained on; restore them, or {way_out}"
            )

    def check_apart(self, data: Data) -> None:
        """Check that no test image of other data is one that the run was trained or chosen on, as far as names show.

        Raises:
            ValueError: a test image is a file of the run's training or validation part; or the data has the names of
                the run's images, split in another way.
        """
        root = root_of(data)
        if self.root is None or root is None:  # no files, whose names are those of single images
            return
        learned = {name for part in LEARNED for name in self.parts[part]}
        files, copied = {path_in(self.root, name) for name in learned}, every(data.split) == every(self.parts)
        seen = [name for name in data.test.names if path_in(root, name) in files or (copied and name in learned)]
        if seen:
            raise ValueError(
                f"data {data.name!r}: {len(seen):,} of its {len(data.test):,} test images, as {seen[0]!r}, are images "
                "that the run was trained or chosen on; name other images, or the run's data as the run did"
            )


def path_in(root: str, name: str) -> str:
    """Return the absolute path of an image, which may be named by an absolute one, or by one that leaves its folder."""
    return os.path.normpath(os.path.join(root, name))


def every(parts: Mapping[str, Sequence[str]]) -> set[str]:
    return {name for names in parts.values() for name in names}


def root_of(data: Data) -> str | None:
    """Return the absolute folder that the names of image files are relative to; None for other data."""
    root: Path | None = getattr(data.test, "root", None)
    return None if root is None else str(root.resolve())


def facts_of(data: Data) -> dict[str, Any]:
    """Return what a run stores of its data: names by part, their folder, the files left out, notes, and a digest."""
    facts = {"root": root_of(data), "skipped": data.skipped, "notes": data.remarks, "labels": digest_of(data)}
    return {**data.split, **facts}


def digest_of(data: Data) -> str:
    """Return a digest of the classes, and of the labels of all images in their order."""
    found = hashlib.sha256("\n".join(data.classes).encode())
    for part in PARTS:
        found.update(getattr(data, part).labels.numpy().tobytes())
    return found.hexdigest()


def stored_split(folder: Path) -> StoredSplit | None:
    """Read the split that a run stored in its folder; None without any.

    Raises:
        ValueError: a file that holds no split.
    """
    if not (folder / SPLIT).is_file():
        return None
    stated = read_split(folder)
    return StoredSplit({part: stated[part] for part in PARTS}, stated["root"], stated["labels"])


def check_resumed(folder: Path, data: Data) -> None:
    """Check that a run that is continued gets the images that its finished epochs had.

    Raises:
        ValueError: other images, or no `split.json` in the folder.
    """
    stored = stored_split(folder)
    if stored is None:
        raise ValueError(
            f"{folder / SPLIT}: no such file, and the images of the earlier epochs are not known; train anew"
        )
    stored.check_same(data, f"train in another folder than {str(folder)!r}")


def changes(before: Mapping[str, Sequence[str]], now: Mapping[str, Sequence[str]]) -> str:
    """Count the images that were added, removed, or are in another part, with an example of each."""
    old, new = parts_by_name(before), parts_by_name(now)
    found = {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "in another part": [name for name in new if name in old and new[name] != old[name]],
    }
    counts = [f"{len(names):,} {what}, as {names[0]!r}" for what, names in found.items() if names]
    return "; ".join(counts) or "they are in another order"


def parts_by_name(parts: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Map each name to the parts that hold it: of some data, names count the images of each part."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for part, names in parts.items():
        for name in names:
            found[name].append(part)
    return found
