"""Annotations of image files: which format a path holds, and which annotation belongs to which image.

An annotation belongs to the image whose path, without its ending, equals its own in most parts from the end on; the
name of the file must be equal. Of several such annotations, or images, the one that shares more folders' names is
meant.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from foveal.data import coco_objects, mask_files, pascal_voc, yolo
from foveal.data.annotated_objects import Parts, Source, Sources, parts_of

FORMATS = {".json": "COCO", ".xml": "Pascal VOC", ".txt": "YOLO", ".png": "masks"}
README = "readme"  # begin of the name of a text that is no annotation


@dataclass(frozen=True)
class Annotations:
    """The annotations in a file or a folder."""

    path: Path
    format: str
    sources: Sources

    def find(self, names: Iterable[str]) -> dict[str, Source]:
        """Return the annotations of images by their names, which are paths; images without one are left out.

        Raises:
            ValueError: none of the images has one; an image with several; an annotation of several images.
        """
        by_stem: dict[str, list[Parts]] = {}
        for parts in self.sources:
            by_stem.setdefault(parts[-1], []).append(parts)
        owners: dict[Parts, str] = {}
        names = list(names)
        for name in names:
            of_image = parts_of(name)
            ranked = sorted(by_stem.get(of_image[-1], []), key=lambda each: likeness(of_image, each), reverse=True)
            if not ranked:
                continue
            if len(ranked) > 1 and likeness(of_image, ranked[0]) == likeness(of_image, ranked[1]):
                raise self.error(f"both {as_path(ranked[0])} and {as_path(ranked[1])} may be of the image {name!r}")
            other = owners.setdefault(ranked[0], name)
            mine, theirs = (likeness(parts_of(each), ranked[0]) for each in (name, other))
            if mine == theirs and other != name:
                raise self.error(f"{as_path(ranked[0])} may be of both images {other!r} and {name!r}")
            if mine > theirs:
                owners[ranked[0]] = name
        if not owners:
            first = f", as {as_path(next(iter(self.sources)))}," if self.sources else ""
            count = f"{len(self.sources):,} {self.format} annotations{first}"
            raise self.error(f"none of its {count} has the name of an image, as {names[0]!r}")
        owned = {name: self.sources[parts] for parts, name in owners.items()}
        return {name: owned[name] for name in names if name in owned}

    def error(self, message: str) -> ValueError:
        return ValueError(f"boxes={str(self.path)!r}: {message}")


def as_path(parts: Parts) -> str:
    return repr("/".join(parts))


def likeness(image: Parts, annotation: Parts) -> tuple[int, int]:
    """Count the equal parts of two paths from the end on, and the parts that they share."""
    equal = 0
    for one, other in zip(reversed(image), reversed(annotation), strict=False):
        if one != other:
            break
        equal += 1
    return equal, len({*image} & {*annotation})


def list_annotations(path: str | Path) -> Annotations:
    """List the annotations in a file, or in a folder at any depth. Files of single images are not read yet.

    Raises:
        ValueError: no such path; no annotations, or those of several formats; a broken JSON file.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"boxes={str(path)!r}: there is no such file or folder")
    root = path if path.is_dir() else path.parent
    files = sorted(each for each in path.rglob("*") if is_annotation(each)) if path.is_dir() else [path]
    first = {each.suffix.lower(): each for each in reversed(files)}
    if len(first) > 1:
        first.pop(".png", None)  # the images beside their annotations
    if len(first) > 1:
        both = " and ".join(f"{FORMATS[suffix]} ({file.relative_to(root)})" for suffix, file in sorted(first.items()))
        raise ValueError(f"boxes={str(path)!r}: it holds {both}; name the folder or the file of one of them")
    suffix = next(iter(first), "")
    if suffix not in FORMATS:
        given = f"a file that ends in {suffix or 'nothing'}" if files else "a folder without annotations"
        known = ", ".join(f"{ending} ({name})" for ending, name in FORMATS.items())
        raise ValueError(f"boxes={str(path)!r}: {given}; {known} are known")
    files = [each for each in files if each.suffix.lower() == suffix]
    return Annotations(path, FORMATS[suffix], read_sources(root, files, suffix))


def is_annotation(file: Path) -> bool:
    """Return True if a file in a folder may be an annotation, by its name."""
    name = file.name.lower()
    plain = not name.startswith((".", README)) and name not in yolo.NAMES
    return plain and file.suffix.lower() in FORMATS and file.is_file()


def read_sources(root: Path, files: list[Path], suffix: str) -> Sources:
    """Return the sources in files of one format."""
    result: Sources = {}
    folders = {file.parent for file in files} if suffix == ".txt" else ()
    names = {folder: yolo.find_names(folder, len(folder.relative_to(root).parts)) for folder in folders}
    for file in files:
        place = file.relative_to(root).parent.parts
        stem = mask_files.image_of(file.stem) if suffix == ".png" else file.stem
        if suffix == ".json":
            found = coco_objects.sources(file, place)
        elif suffix == ".xml":
            found = {(*place, stem): pascal_voc.source(file)}
        elif suffix == ".txt":
            found = {(*place, stem): yolo.source(file, names[file.parent])}
        else:
            found = {(*place, stem): mask_files.source(file)}
        if twice := result.keys() & found.keys():
            raise ValueError(f"{file}: a second annotation of the image {as_path(min(twice))}")
        result |= found
    return result


def hash_files(files: Iterable[Path]) -> str:
    """Compute the SHA-256 of the content of files, in the order of their paths."""
    digest = hashlib.sha256()
    for file in sorted(set(files)):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
