"""Multi-label data for tests of several rooms: images of bright bars, each a class."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("left", "right", "top")


def write_bars(folder: Path, count: int, path: str = "labels.csv") -> Path:
    """Write noisy images with any of three bright bars, and a CSV file with a column for each; return its path."""
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir(parents=True)
    rows = []
    for index in range(count):
        bars = rng.random(3) < (0.6, 0.4, 0.3)
        pixels = rng.integers(0, 100, (28, 28), dtype=np.uint8)
        for has, place in zip(bars, (np.s_[:, :6], np.s_[:, -6:], np.s_[:6]), strict=True):
            pixels[place] += np.uint8(100 * has)
        Image.fromarray(pixels).save(folder / f"photos/{index}.png")
        rows.append([f"photos/{index}.png", *bars.astype(int)])
    with (folder / path).open("w", newline="") as file:
        csv.writer(file).writerows([["image", *CLASSES], *rows])
    return folder / path
