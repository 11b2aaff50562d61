"""Photographs and boxes from a folder in Pascal VOC form, such as BCCD (blood cells, 640x480, three classes)."""

from pathlib import Path
from xml.etree import ElementTree

import torch
from torch import Tensor
from torchvision.io import decode_image
from torchvision.transforms.functional import resize

CLASSES = ("RBC", "WBC", "Platelets")
SIDES = (192, 256)  # multiples of 32, with the ratio of the photographs' sides


def read_cells(folder: Path, count: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Return the first images of the training list, (N, 3, H, W) in [0, 1], and torchvision's targets for each."""
    images, targets = [], []
    for name in (folder / "ImageSets/Main/train.txt").read_text().split()[:count]:
        image = decode_image(str(folder / f"JPEGImages/{name}.jpg"))
        scale = SIDES[0] / image.shape[1]
        objects = ElementTree.parse(folder / f"Annotations/{name}.xml").iter("object")  # noqa: S314
        boxes, labels = [], []
        for each in objects:
            box = [float(each.findtext(f"bndbox/{side}", "")) * scale for side in ("xmin", "ymin", "xmax", "ymax")]
            if box[0] < box[2] and box[1] < box[3]:  # a few boxes of BCCD are empty
                boxes.append(box)
                labels.append(1 + CLASSES.index(each.findtext("name", "")))
        images.append(resize(image, list(SIDES)) / 255)
        targets.append({"boxes": torch.tensor(boxes), "labels": torch.tensor(labels)})
    return torch.stack(images), targets
