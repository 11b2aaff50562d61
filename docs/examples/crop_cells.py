"""Crop the cells of BCCD with some surroundings: `python docs/examples/crop_cells.py BCCD OUTPUT`.

BCCD is a folder in Pascal VOC form. OUTPUT gets `cells`, with a folder of crops for each class; `groups.csv`, with the
photograph of each crop; `boxes.json`, in COCO form, with the box of the cell within each crop; and `new`, with crops of
the last photographs, which are in none of these.
"""

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

SIDES = ("xmin", "ymin", "xmax", "ymax")
SMALLEST = 8  # pixels of a box's side: boxes at the edge of a photograph may be slivers
MOST = 3  # crops of a class from a photograph: there are ten red cells for each white one
AROUND = 2  # side of a crop, in longer sides of its cell's box
SIZE = 96  # pixels of a crop's side, to which it is resized
NEW = 4  # photographs that are kept apart


def crops(path: Path, photograph: Image.Image) -> Iterator[tuple[str, Image.Image, list[float]]]:
    """Yield class, crop and box (x, y, width, height) of the cells of a photograph, from its annotations."""
    count: Counter[str] = Counter()
    for each in ElementTree.parse(path).iter("object"):  # noqa: S314 (a published data set)
        label = each.findtext("name", "")
        x0, y0, x1, y1 = (int(each.findtext(f"bndbox/{side}", "0")) for side in SIDES)
        if min(x1 - x0, y1 - y0) < SMALLEST or count[label] == MOST:
            continue
        count[label] += 1
        side = min(AROUND * max(x1 - x0, y1 - y0), *photograph.size)
        left, top = (
            max(0, min((low + high - side) // 2, size - side))
            for low, high, size in zip((x0, y0), (x1, y1), photograph.size, strict=True)
        )
        box = [number * SIZE / side for number in (x0 - left, y0 - top, x1 - x0, y1 - y0)]
        yield label, photograph.crop((left, top, left + side, top + side)).resize((SIZE, SIZE)), box


def write_crops(source: Path, output: Path) -> int:
    """Write the crops of all photographs, their groups and their boxes; return the number of crops for training."""
    groups, images, annotations, classes = [], [], [], {}
    paths = sorted((source / "Annotations").glob("*.xml"))
    for path in paths:
        photograph = Image.open(source / f"JPEGImages/{path.stem}.jpg")
        for index, (label, crop, box) in enumerate(crops(path, photograph)):
            new = path in paths[-NEW:]
            name = f"{path.stem}-{index}-{label}.jpg" if new else f"{label}/{path.stem}-{index}.jpg"
            place = output / ("new" if new else "cells") / name
            place.parent.mkdir(parents=True, exist_ok=True)
            crop.save(place, quality=95)
            if new:
                continue
            groups.append((name, path.stem))
            number, kind = len(groups), classes.setdefault(label, len(classes) + 1)
            images.append({"id": number, "file_name": name, "width": SIZE, "height": SIZE})
            annotations.append({"id": number, "image_id": number, "category_id": kind, "bbox": box})
    categories = [{"id": number, "name": name} for name, number in classes.items()]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (output / "boxes.json").write_text(json.dumps(coco))
    with (output / "groups.csv").open("w", newline="") as file:
        csv.writer(file).writerows(groups)
    return len(groups)


if __name__ == "__main__":
    print(f"{write_crops(Path(sys.argv[1]), Path(sys.argv[2])):,} cells")
