"""A folder of files, each of its folders read once, with size and time of each file."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from foveal.data.image_files import SUFFIXES

Stamp = tuple[int, int]  # of a file: bytes, and nanoseconds of its last change


@dataclass(frozen=True)
class Folder:
    """A folder; its entries are read when they are first used."""

    path: str
    name: str
    linked: bool = False  # it is a symbolic link

    @classmethod
    def at(cls, path: Path) -> "Folder":
        return cls(str(path), path.name)

    @cached_property
    def everything(self) -> dict[str, "Folder | Stamp | None"]:
        """Folders and files by name, in the order of names, and None for what is neither, such as a broken link."""
        found: dict[str, Folder | Stamp | None] = {}
        with os.scandir(self.path) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                if entry.is_dir():
                    found[entry.name] = Folder(entry.path, entry.name, entry.is_symlink())
                elif entry.is_file():
                    stat = entry.stat()
                    found[entry.name] = stat.st_size, stat.st_mtime_ns
                else:
                    found[entry.name] = None
        return found

    @cached_property
    def entries(self) -> dict[str, "Folder | Stamp"]:
        """Folders and files by name, in the order of names."""
        return {name: each for name, each in self.everything.items() if each is not None}

    @property
    def broken(self) -> dict[str, str]:
        """What is neither, by name, with the reason: links to nothing, pipes and the like."""
        paths = {name: os.path.join(self.path, name) for name, each in self.everything.items() if each is None}
        return {name: "a link to nothing" if os.path.islink(path) else "not a file" for name, path in paths.items()}

    @cached_property
    def folders(self) -> list["Folder"]:
        """The folders in it that are not hidden."""
        return [each for each in self.subfolders if not each.name.startswith((".", "__"))]

    @property
    def subfolders(self) -> list["Folder"]:
        """All folders in it."""
        return [each for each in self.entries.values() if isinstance(each, Folder)]

    @property
    def files(self) -> list[str]:
        """The names of the files in it."""
        return [name for name, each in self.entries.items() if not isinstance(each, Folder)]

    @cached_property
    def images(self) -> list[str]:
        """The names of the files in it that are images by their names."""
        return [name for name in self.files if os.path.splitext(name)[1].lower() in SUFFIXES]

    @cached_property
    def holds_images(self) -> bool:
        """Whether there are images at any depth."""
        return bool(self.images) or any(each.holds_images for each in self.subfolders if not each.linked)

    def count_images(self) -> int:
        """Count the images at any depth."""
        return len(self.images) + sum(each.count_images() for each in self.subfolders if not each.linked)

    def folder(self, name: str) -> "Folder":
        """Return a folder by its path from this one; "" is this one. KeyError if there is none."""
        first, _, rest = name.partition("/")
        if not first:
            return self
        found = self.entries[first]
        if not isinstance(found, Folder):
            raise KeyError(first)
        return found.folder(rest)

    def walk(self, prefix: str) -> Iterator[tuple[str, Stamp]]:
        """Yield the files at any depth, with their stamps, named from `prefix` on, in the order of paths.

        Links to folders are not followed.
        """
        for name, each in self.entries.items():
            if not isinstance(each, Folder):
                yield prefix + name, each
            elif not each.linked:
                yield from each.walk(f"{prefix}{name}/")

    def lost(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Yield what `walk` passes over, with the reason."""
        for name, reason in self.broken.items():
            yield prefix + name, reason
        for each in self.subfolders:
            if each.linked:
                yield f"{prefix}{each.name}/", "a link to a folder, which is not followed"
            else:
                yield from each.lost(f"{prefix}{each.name}/")
