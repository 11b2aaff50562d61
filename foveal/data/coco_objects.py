"""Annotations of COCO: one JSON file for many images, with boxes, polygons and run lengths.

Where an object has a segmentation, this is its mask; otherwise its bbox (x, y, width, height in pixels) is its box. A
crowd is one object.
"""

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from foveal.core.names import one_line
from foveal.data.annotated_objects import (
    AnnotatedObject,
    Parts,
    Size,
    Source,
    Sources,
    check_stated_size,
    parts_of,
    read_number,
    within,
)
from foveal.data.rasterize import check_runs, decompress_runs, polygons_mask, runs_mask

MOST = 2**31  # bytes of a file
Entry = Mapping[str, Any]


def sources(path: Path, prefix: Parts = ()) -> Sources:
    """Read a file; return the sources by the parts of their images' file names, after `prefix`.

    Raises:
        ValueError: a file that is none of COCO's; two images of one name; an annotation of no image.
    """
    whole = load(path)
    images, annotations = (entries(whole, part, path) for part in ("images", "annotations"))
    names = category_names(whole, path)
    of_image: dict[Any, list[tuple[str, Entry]]] = {}
    for number, entry in enumerate(images):
        if (identity := key(entry, "id", f"{path}: image {number}")) in of_image:
            raise ValueError(f"{path}: image {number}: the id {identity!r:.80} of another image")
        of_image[identity] = []
    for number, entry in enumerate(annotations):
        where = f"{path}: annotation {number}"
        if (found := of_image.get(key(entry, "image_id", where))) is None:
            raise ValueError(f"{where}: image_id {entry['image_id']!r:.80} is the id of no image")
        found.append((where, entry))
    result: Sources = {}
    for number, entry in enumerate(images):
        name, where = entry.get("file_name"), f"{path}: image {number}"
        if not isinstance(name, str) or not (parts := parts_of(name)):
            raise ValueError(f"{where}: file_name {name!r:.80}; the name of a file is needed")
        if (*prefix, *parts) in result:
            raise ValueError(f"{where}: a second image {name!r:.200}")
        result[*prefix, *parts] = Source(path, partial(read_objects, where, entry, of_image[entry["id"]], names))
    return result


def load(path: Path) -> Entry:
    """Parse a JSON file; ValueError for one that is no object."""
    if (length := path.stat().st_size) > MOST:
        raise ValueError(f"{path}: {length:,} bytes; at most {MOST:,} are read")
    try:
        whole = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as JSON: {one_line(error):.200}") from error
    if not isinstance(whole, dict):
        raise ValueError(f"{path}: a {type(whole).__name__}; COCO's annotations are an object with images, annotations")
    return whole


def entries(whole: Entry, part: str, path: Path) -> list[Entry]:
    """Return the objects of a list in the file."""
    found = whole.get(part)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError(f"{path}: {part}={found!r:.40}; COCO's is a list of objects")
    return found


def key(entry: Entry, name: str, where: str) -> int | str:
    """Return an id, which is a whole number or a text."""
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{where}: {name} {value!r:.80}; a whole number is needed")
    return value


def by_id(place: str, items: Sequence[Entry], of: str) -> dict[int | str, str]:
    """Return a text of each item, `of`, by its id; neither may be there twice."""
    found: dict[int | str, str] = {}
    first: dict[str, int] = {}  # the number of the item that has a text
    for number, item in enumerate(items):
        where = f"{place} {number}"
        identity, text = key(item, "id", where), item.get(of)
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{where}: {of} {text!r:.80}; a text is needed")
        if identity in found:
            raise ValueError(f"{where}: the id {identity!r:.80} of another")
        text = os.path.normpath(text) if of == "file_name" else text
        if first.setdefault(text, number) != number:
            raise ValueError(f"{where}: {of} {text!r:.80}, which number {first[text]} has, too")
        found[identity] = text
    return found


def category_names(whole: Entry, path: Path) -> dict[int | str, str] | None:
    """Return the names of the categories by their ids; None without any."""
    if not whole.get("categories"):
        return None
    return by_id(f"{path}: category", entries(whole, "categories", path), "name")


def read_objects(
    where: str,
    image: Entry,
    annotations: list[tuple[str, Entry]],
    names: Mapping[int | str, str] | None,
    size: Size,
) -> list[AnnotatedObject]:
    """Read the objects of an image of a size.

    Raises:
        ValueError: another size than stated; an annotation without a box or a segmentation, or beyond the image.
    """
    stated = [read_number(image[side], f"{where}: {side}") for side in ("height", "width") if side in image]
    if len(stated) == 2:
        check_stated_size((int(stated[0]), int(stated[1])), size, where)
    return [read_object(place, entry, names, size) for place, entry in annotations]


def read_object(where: str, entry: Entry, names: Mapping[int | str, str] | None, size: Size) -> AnnotatedObject:
    name = None
    if names is not None:
        category = key(entry, "category_id", where)
        if category not in names:
            raise ValueError(f"{where}: category_id {category!r:.80} is the id of no category")
        name = names[category]
    segmentation = entry.get("segmentation")
    if isinstance(segmentation, dict):
        counts = read_runs(segmentation, where, size)
        return AnnotatedObject(name, mask=partial(runs_mask, counts, size))
    if segmentation:
        polygons = read_polygons(segmentation, where, size)
        return AnnotatedObject(name, mask=partial(polygons_mask, polygons, size))
    x, y, width, height = read_numbers(entry.get("bbox"), f"{where}: bbox", 4)
    return AnnotatedObject(name, within((x, y, x + width, y + height), size, where))


def read_polygons(stated: object, where: str, size: Size) -> list[np.ndarray]:
    """Read polygons, each a list of numbers x, y, x, y: points (P, 2)."""
    if not isinstance(stated, list):
        raise ValueError(f"{where}: segmentation {stated!r:.80}; a list of polygons or run lengths are needed")
    polygons = [np.array(read_numbers(each, f"{where}: segmentation")).reshape(-1, 2) for each in stated]
    for points in polygons:
        within((*points.min(0), *points.max(0)), size, f"{where}: segmentation")
    return polygons


def read_runs(stated: Entry, where: str, size: Size) -> list[int]:
    """Read run lengths, as a list of numbers or as COCO's text."""
    height, width = read_numbers(stated.get("size"), f"{where}: size of the segmentation", 2)
    check_stated_size((int(height), int(width)), size, f"{where}: segmentation")
    counts = stated.get("counts")
    try:
        runs = decompress_runs(counts) if isinstance(counts, str) else counts
        if not isinstance(runs, list) or not all(type(each) is int for each in runs):
            raise ValueError(f"counts {counts!r:.80}; a list of whole numbers, or a text, are needed")
        check_runs(runs, size)
    except ValueError as error:
        raise ValueError(f"{where}: segmentation: {error}") from error
    return runs


def read_numbers(stated: object, where: str, count: int | None = None) -> list[float]:
    """Return a list of `count` numbers; without `count`, of the corners x, y of a polygon, three or more."""
    length = len(stated) if isinstance(stated, list) else 0
    fits = length == count if count else length >= 6 and length % 2 == 0
    if not isinstance(stated, list) or not fits:
        raise ValueError(f"{where}: {stated!r:.80}; {count or 'six or more'} numbers are needed")
    return [read_number(each, where) for each in stated]
