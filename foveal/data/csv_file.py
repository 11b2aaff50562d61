"""A CSV file of image files and their classes, one line for each image; its first line names the columns.

    image,label,split,group            one class for each image
    cells/1.jpg,RBC,train,slide 7

    image,labels                       any number: names in one cell, separated by `|`; an empty cell is no class
    cells/1.jpg,RBC|WBC

    image,RBC,WBC,Platelets            any number: a column of 0 and 1 for each class
    cells/1.jpg,1,1,0

Columns are in any order, and found by their names of `COLUMNS`, in capitals or not. Paths are relative to the file's
folder, or absolute. `split` and `group` may be missing: without `split` the images are split 70/15/15, those of a group
in one part; with train and test alone, the validation part is a sixth of the training part. Other columns are not read
beside `label` or `labels`, nor are those without a name.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from foveal.data.file_tree import Folder
from foveal.data.labels import SEPARATOR, Label
from foveal.data.layouts import PARTS, Listing, add_file
from foveal.data.parts import listed
from foveal.data.text_files import numbered_rows

COLUMNS = {  # names of each column
    "image": ("image", "path", "file", "filename", "file_name", "filepath"),
    "label": ("label", "class"),
    "labels": ("labels", "classes"),
    "split": ("split",),
    "group": ("group",),
}
PART_OF = {name: part for part, names in PARTS.items() for name in names}
NUMBERS = {"0": False, "1": True, "0.0": False, "1.0": True}


@dataclass(frozen=True)
class Table:
    """The lines of a CSV file by column."""

    place: str  # for messages
    lines: list[int]  # number of each line in the file
    known: dict[str, list[str]]  # cells of each column of `COLUMNS` that is there
    others: dict[str, list[str]]  # cells of each other column, by its name

    def at(self, index: int) -> str:
        return f"{self.place}, line {self.lines[index]}"


def list_csv(path: Path) -> Listing:
    """List the images of a CSV file with their classes.

    Raises:
        ValueError: no such file, or no CSV; a column that is missing or named twice; a line with more or fewer cells,
            an empty path or label, an unknown part, an image that another line has, or a number of a class that is
            neither 0 nor 1; a group in two parts. The message names the line.
    """
    table = read_table(path)
    names, labels = read_names(table, path.parent), read_labels(table)
    parts = read_parts(table, len(names))
    listing = Listing(Folder.at(path.parent), {part: [] for part in ("all", *PARTS) if part in parts})
    if "label" not in table.known and "labels" not in table.known:
        listing.classes |= set(table.others)
    for name, label, part in zip(names, labels, parts, strict=True):
        listing.classes |= {label} if isinstance(label, str) else label
        add_file(listing, name, label, part)
    if "group" in table.known:
        listing.groups = {name: group for name, group in zip(names, table.known["group"], strict=True) if group}
        check_groups(table, listing.groups, dict(zip(names, parts, strict=True)))
    listing.notes |= notes_of(table, listing, labels)
    return listing


def read_table(path: Path) -> Table:
    """Read the columns of a CSV file, without the spaces around their cells."""
    place = f"data {str(path)!r}"
    if not path.is_file():
        raise ValueError(f"{place}: there is no such file")
    (_, head), *rows = numbered_rows(path) or [(1, [])]
    head = [name.strip() for name in head]
    for line, row in rows:
        if len(row) != len(head):
            raise ValueError(f"{place}, line {line}: {len(row)} cells, and the first line has {len(head)}")
    columns = find_columns(place, head)
    cells = [[row[at].strip() for _, row in rows] for at in range(len(head))]
    others = [name for at, name in enumerate(head) if name and at not in columns.values()]
    twice = next((name for name in others if others.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{place}: two columns are named {twice!r}")
    if not rows:
        raise ValueError(f"{place}: no line after that of the column names")
    return Table(
        place,
        [line for line, _ in rows],
        {column: cells[at] for column, at in columns.items()},
        {name: cells[head.index(name)] for name in others},
    )


def find_columns(place: str, head: list[str]) -> dict[str, int]:
    """Find the columns of `COLUMNS` by their names.

    Raises:
        ValueError: no column of paths; two of one kind; one for a single class and one for several.
    """
    found: dict[str, int] = {}
    for column, names in COLUMNS.items():
        places = [at for at, name in enumerate(head) if name.lower() in names]
        if len(places) > 1:
            raise ValueError(f"{place}: {listed(head[at] for at in places)} are columns of one meaning; keep one")
        if places:
            found[column] = places[0]
    if "image" not in found:
        raise ValueError(
            f"{place}: no column {' or '.join(COLUMNS['image'])} in its first line, "
            f"{listed(head) or 'which is empty'}; it names the columns, separated by commas"
        )
    if "label" in found and "labels" in found:
        raise ValueError(
            f"{place}: {head[found['label']]} is one class for each image and {head[found['labels']]} several; keep one"
        )
    return found


def read_names(table: Table, folder: Path) -> list[str]:
    """Return the paths of the images from a folder, without `.` and `..` where they can be resolved."""
    names: list[str] = []
    first: dict[str, int] = {}
    for index, cell in enumerate(table.known["image"]):
        if not cell:
            raise ValueError(f"{table.at(index)}: no path of an image")
        name = os.path.normpath(cell)
        line = table.lines[first.setdefault(os.path.abspath(folder / name), index)]
        if line != table.lines[index]:
            raise ValueError(f"{table.at(index)}: {name!r} is in line {line}, too; one line an image")
        names.append(name)
    return names


def read_labels(table: Table) -> list[Label]:
    """Return the class of each image, or its classes."""
    if "label" in table.known:
        labels = table.known["label"]
        if "" in labels:
            raise ValueError(f"{table.at(labels.index(''))}: the label is empty")
        return list(labels)
    if "labels" in table.known:
        return separated(table, table.known["labels"])
    if not table.others:
        raise ValueError(
            f"{table.place}: no column label (one class), no column labels (several, separated by {SEPARATOR!r}), and "
            "no column of 0 and 1 for each class"
        )
    for name, cells in table.others.items():
        wrong = next((index for index, cell in enumerate(cells) if cell not in NUMBERS), None)
        if wrong is not None:
            raise ValueError(
                f"{table.at(wrong)}, column {name!r}: {cells[wrong]!r:.80}; without a column label or labels, each "
                "column is a class, and 0 or 1 is needed"
            )
    rows = zip(*([NUMBERS[cell] for cell in cells] for cells in table.others.values()), strict=True)
    return [frozenset(name for name, has in zip(table.others, row, strict=True) if has) for row in rows]


def separated(table: Table, cells: list[str]) -> list[Label]:
    """Return the classes in cells that name several.

    Raises:
        ValueError: no cell has two classes, so that another separator may be meant; an empty name between separators.
    """
    if not any(SEPARATOR in cell for cell in cells):
        raise ValueError(
            f"{table.place}: no cell of its column of labels has two classes, separated by {SEPARATOR!r}; for one "
            "class an image, name the column label"
        )
    found: list[Label] = []
    for index, cell in enumerate(cells):
        names = [name.strip() for name in cell.split(SEPARATOR)] if cell else []
        if "" in names:
            raise ValueError(f"{table.at(index)}: {cell!r:.80} has an empty name beside a separator")
        found.append(frozenset(names))
    return found


def read_parts(table: Table, count: int) -> list[str]:
    """Return the part of each image, "all" without a column of parts."""
    if "split" not in table.known:
        return ["all"] * count
    cells = [cell.lower() for cell in table.known["split"]]
    wrong = next((index for index, cell in enumerate(cells) if cell not in PART_OF), None)
    if wrong is not None:
        known = ", ".join(names[0] for names in PARTS.values())
        raise ValueError(f"{table.at(wrong)}: split {table.known['split'][wrong]!r:.80}; one of {known} is needed")
    parts = [PART_OF[cell] for cell in cells]
    missing = [part for part in ("train", "test") if part not in parts]
    if missing:
        raise ValueError(
            f"{table.place}: no image of the split {' and '.join(missing)}; name train, test and best val, too, or "
            "leave the column out"
        )
    return parts


def check_groups(table: Table, groups: Mapping[str, str], parts: Mapping[str, str]) -> None:
    """Refuse a group whose images are in two parts."""
    first: dict[str, str] = {}
    for name, group in groups.items():
        other = first.setdefault(group, name)
        if parts[other] != parts[name]:
            raise ValueError(
                f"{table.place}: group {group!r} is in two parts, with {other!r} in {parts[other]} and {name!r} in "
                f"{parts[name]}"
            )


def notes_of(table: Table, listing: Listing, labels: list[Label]) -> dict[str, str]:
    """Describe what of the file was not read, and how its classes and parts were, where this is not plain."""
    notes = {}
    by_column = "label" not in table.known and "labels" not in table.known
    if table.others and not by_column:
        notes["columns"] = f"{listed(table.others)} not read"
    if by_column and all(len(label) == 1 for label in labels):
        notes["classes"] = (
            "each image has exactly one, and they are trained as if any number were possible; a column label states one"
        )
    if "train" in listing.parts and "validation" not in listing.parts:
        notes["parts"] = "the validation part is a sixth of the training part, stratified"
    return notes
