"""A CSV file of images that belong together (of one patient, one slide), with lines `image,group`.

    cells/1.jpg,slide 7
    cells/2.jpg,slide 7

Paths are those of the images in their folder. A first line that names no image may name the columns. An image with an
empty group, or without a line, is a group of its own.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from foveal.data.text_files import numbered_rows


def read_groups(path: Path, images: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Read the group of each image that has one; and a note on the images without a line, if there are any.

    Lines of images of other data are let pass, unless images of this data have none: these may be meant.

    Raises:
        ValueError: no such file; a line of other than two cells; an image in two groups; no line, or not all that are
            needed, with the name of an image.
    """
    place = f"groups={str(path)!r}"
    if not path.is_file():
        raise ValueError(f"{place}: there is no such file")
    stated: dict[str, tuple[int, str]] = {}
    rows = numbered_rows(path)
    for line, row in rows:
        if len(row) != 2:
            raise ValueError(f"{place}, line {line}: {len(row)} cells, and `image,group` has two")
        name, group = os.path.normpath(row[0].strip()), row[1].strip()
        first, other = stated.setdefault(name, (line, group))
        if other != group:
            raise ValueError(f"{place}, line {line}: {name!r} is in group {group!r}, and in {other!r} by line {first}")
    known = {os.path.normpath(image): image for image in images}
    strange = [name for name, (line, _) in stated.items() if name not in known and line != rows[0][0]]
    without = [image for name, image in known.items() if name not in stated]
    if len(without) == len(known):
        raise ValueError(f"{place}: none of its lines `image,group` names an image of the folder")
    if without and strange:
        raise ValueError(
            f"{place}, line {stated[strange[0]][0]}: {strange[0]!r} is no image of the data, and {len(without):,} of "
            f"its images, as {without[0]!r}, have no line; write the paths so, or remove lines of other images"
        )
    groups = {known[name]: group for name, (_, group) in stated.items() if group and name in known}
    if not without:
        return groups, {}
    note = f"{len(without):,} images, as {without[0]!r}, have no line in {str(path)!r}; each is alone"
    return groups, {"groups": note}
