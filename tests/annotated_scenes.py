"""One scene of rectangles, annotated in each format as its own documentation describes it."""

import json

import numpy as np
from PIL import Image

SIZE = 48, 80  # height and width of the image
NAMES = ["cat", "dog"]
SCENE = [("dog", (10, 8, 40, 30)), ("cat", (44, 20, 70, 44)), ("dog", (4, 34, 24, 46))]  # x0, y0, x1, y1


def corners(box):
    x0, y0, x1, y1 = box
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def mask_of(box, size=SIZE):
    mask = np.zeros(size, dtype=np.uint8)
    x0, y0, x1, y1 = box
    mask[y0:y1, x0:x1] = 1
    return mask


def runs_of(mask):
    """Run lengths, column by column, from a run of zeros on, which may be empty."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *changes, len(flat)]).tolist()
    return lengths if flat[0] == 0 else [0, *lengths]


def write_voc(path, scene=SCENE, size=SIZE, name="scene"):
    """Whole pixels counted from 1, both ends included."""
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax>"
        f"<ymax>{y1}</ymax></bndbox></object>"
        for label, (x0, y0, x1, y1) in scene
    )
    shape = f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
    path.mkdir(parents=True, exist_ok=True)
    text = f"<annotation><filename>{name}.jpg</filename>{shape}{objects}</annotation>"
    (path / f"{name}.xml").write_text(text)
    return path


def write_yolo(path, scene=SCENE, size=SIZE, name="scene", polygons=False):
    """Shares of the image's sides: centre, width and height, or corners."""
    path.mkdir(parents=True, exist_ok=True)
    lines = []
    for label, (x0, y0, x1, y1) in scene:
        numbers = [(x0 + x1) / 2 / size[1], (y0 + y1) / 2 / size[0], (x1 - x0) / size[1], (y1 - y0) / size[0]]
        if polygons:
            numbers = (np.reshape(corners((x0, y0, x1, y1)), (4, 2)) / (size[1], size[0])).ravel().tolist()
        lines.append(" ".join([str(NAMES.index(label)), *(f"{each:.6f}" for each in numbers)]))
    (path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (path / "classes.txt").write_text("\n".join(NAMES) + "\n")
    return path


def coco(kind, scene=SCENE, size=SIZE, name="scene"):
    annotations = []
    for number, (label, box) in enumerate(scene):
        x0, y0, x1, y1 = box
        entry = {"id": number, "image_id": 7, "category_id": NAMES.index(label) + 1}
        entry |= {
            "boxes": {"bbox": [x0, y0, x1 - x0, y1 - y0]},
            "polygons": {"segmentation": [corners(box)], "bbox": [0, 0, 1, 1]},
            "runs": {"segmentation": {"size": list(size), "counts": runs_of(mask_of(box, size))}},
        }[kind]
        annotations.append(entry)
    return {
        "images": [{"id": 7, "file_name": f"{name}.jpg", "height": size[0], "width": size[1]}],
        "annotations": annotations,
        "categories": [{"id": number, "name": label} for number, label in enumerate(NAMES, start=1)],
    }


def write_coco(path, kind="boxes", **scene):
    path.mkdir(parents=True, exist_ok=True)
    file = path / "instances.json"
    file.write_text(json.dumps(coco(kind, **scene)))
    return file


def write_mask(path, scene=SCENE, size=SIZE, name="scene"):
    """The number of the object, from 1, at its pixels; 0 elsewhere."""
    path.mkdir(parents=True, exist_ok=True)
    pixels = sum(number * mask_of(box, size) for number, (_, box) in enumerate(scene, start=1))
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path / f"{name}_mask.png")
    return path


FORMATS = {
    "voc": write_voc,
    "yolo": write_yolo,
    "yolo polygons": lambda path: write_yolo(path, polygons=True),
    "coco": write_coco,
    "coco polygons": lambda path: write_coco(path, "polygons"),
    "coco runs": lambda path: write_coco(path, "runs"),
    "masks": write_mask,
}
