"""Crop the blood cells of BCCD by their boxes: one folder for each class, and groups.csv with each cell's photograph.

    python -m benchmarks.cells BCCD OUTPUT

BCCD is a folder in the form of Pascal VOC, with `JPEGImages` and `Annotations`. A comparison on the cells, with all
cells of a photograph in one part:

    foveal compare none wider se eca cbam --data folder:OUTPUT/cells --groups OUTPUT/groups.csv --image-size 32
"""

import argparse
import csv
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from PIL import Image

SMALLEST = 8  # pixels of a side: boxes at the edge of a photograph may be slivers


def boxes_of(path: Path) -> list[tuple[str, tuple[int, int, int, int]]]:
    """Read class and box (x0, y0, x1, y1) of each object of a file."""
    sides = ("xmin", "ymin", "xmax", "ymax")
    objects = ElementTree.parse(path).getroot().iter("object")  # noqa: S314  # a published data set
    return [
        (each.findtext("name", ""), tuple(int(each.findtext(f"bndbox/{side}", "0")) for side in sides))  # type: ignore
        for each in objects
    ]


def crop_cells(source: Path, output: Path) -> int:
    """Write the cells of all photographs; return their number."""
    rows = []
    for file in sorted((source / "Annotations").glob("*.xml")):
        with Image.open(source / "JPEGImages" / f"{file.stem}.jpg") as photograph:
            for index, (label, (x0, y0, x1, y1)) in enumerate(boxes_of(file)):
                if min(x1 - x0, y1 - y0) < SMALLEST:
                    continue
                folder = output / "cells" / label
                folder.mkdir(parents=True, exist_ok=True)
                name = f"{file.stem}-{index}.png"
                photograph.crop((x0, y0, x1, y1)).save(folder / name)
                rows.append((f"{label}/{name}", file.stem))
    with (output / "groups.csv").open("w", newline="") as groups:
        csv.writer(groups).writerows(rows)
    return len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cells", description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    print(f"{crop_cells(options.source, options.output):,} cells")


if __name__ == "__main__":
    main()
