"""The error of the best answer that does not depend on the image: a run with an error as large has learned nothing."""

import csv
from collections import Counter
from pathlib import Path

from foveal.training.predictions import PREDICTIONS, read_multi_label


def constant_answer(folder: Path) -> tuple[int, float]:
    """Return the number of test images of a run, and the error of the best constant answer to them in per cent."""
    with (folder / PREDICTIONS).open(newline="") as file:
        classes = Counter(line["class"] for line in csv.DictReader(file))
    images = classes.total()
    return images, 100 * (1 - max(classes.values()) / images)


def constant_ranking(folder: Path) -> tuple[int, float]:
    """Return the number of test images of a multi-label run, and 100 - mAP of equal probabilities for all images."""
    _, labels, _ = read_multi_label(folder / PREDICTIONS)
    shares = labels.double().mean(0)  # of the images that have a class: the average precision of a constant
    return len(labels), 100 * (1 - float(shares[shares > 0].mean()))
