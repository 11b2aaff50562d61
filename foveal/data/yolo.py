"""Annotations of YOLO: a text file for each image, with a line for each object.

A line is the number of the class and four numbers, the box's centre x and y, width and height, or the corners x, y of a
polygon, three or more; all as shares of the image's width and height. An image without a file has no object. The names
of the classes are in `classes.txt`, a line for each, or in `data.yaml` under `names`: the nearest one, in the same
folder or above it, up to two folders above all annotations.
"""

from pathlib import Path

import numpy as np
import yaml

from foveal.core.names import one_line
from foveal.data.annotated_objects import AnnotatedObject, Size, Source, read_number, within
from foveal.data.rasterize import polygons_mask
from foveal.data.text_files import read_text

NAMES = ("classes.txt", "data.yaml")
ABOVE = 2  # folders above all annotations where the names of classes are looked for
MOST = 10_000_000  # bytes of a file


def source(path: Path, names: list[str] | None) -> Source:
    """Return the source of an image's objects, of classes of these names."""
    return Source(path, lambda size: read_objects(path, names, size))


def read_objects(path: Path, names: list[str] | None, size: Size) -> list[AnnotatedObject]:
    """Read the objects of an image of a size; ValueError for lines that are no objects, or beyond the image."""
    lines = enumerate(read_text(path, MOST).splitlines(), start=1)
    return [read_line(line.split(), f"{path}, line {number}", names, size) for number, line in lines if line.strip()]


def read_line(texts: list[str], where: str, names: list[str] | None, size: Size) -> AnnotatedObject:
    if len(texts) != 5 and (len(texts) < 7 or len(texts) % 2 == 0):
        raise ValueError(
            f"{where}: {len(texts)} values; a class and four numbers, or the corners of a polygon, are needed"
        )
    height, width = size
    number, *shares = (read_number(text, where) for text in texts)
    if number < 0 or number % 1 or (names is not None and number >= len(names)):
        known = f"a class from 0 to {len(names) - 1}" if names else "a whole number from 0"
        raise ValueError(f"{where}: class {texts[0]!r:.40}; {known} is needed")
    name = None if names is None else names[int(number)]
    if len(shares) == 4:
        x, y, w, h = (share * side for share, side in zip(shares, (width, height) * 2, strict=True))
        return AnnotatedObject(name, within((x - w / 2, y - h / 2, x + w / 2, y + h / 2), size, where))
    points = np.array(shares).reshape(-1, 2) * (width, height)
    within((*points.min(0), *points.max(0)), size, where)
    return AnnotatedObject(name, mask=lambda: polygons_mask([points], size))


def find_names(folder: Path, depth: int) -> list[str] | None:
    """Read the names of classes in a folder of annotations, which lies `depth` below their root, or above it.

    Raises:
        ValueError: a file that does not state them.
    """
    folder = folder.resolve()
    for place in (folder, *list(folder.parents)[: depth + ABOVE]):
        for file in (place / name for name in NAMES):
            if file.is_file():
                return read_names(file)
    return None


def read_names(file: Path) -> list[str]:
    """Read the names of classes in `classes.txt` or `data.yaml`."""
    text = read_text(file, MOST)
    if file.suffix == ".txt":
        return [line.strip() for line in text.rstrip().splitlines()]
    try:
        stated = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{file}: cannot be read as YAML: {one_line(error):.200}") from error
    names = stated.get("names") if isinstance(stated, dict) else None
    if isinstance(names, dict) and sorted(map(str, names)) == sorted(map(str, range(len(names)))):
        names = [{str(key): name for key, name in names.items()}[str(index)] for index in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(each, str | int) for each in names):
        raise ValueError(f"{file}: names={names!r:.80}; a list of the classes' names is needed")
    return [str(each) for each in names]
