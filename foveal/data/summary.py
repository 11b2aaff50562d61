"""A data set in words: images of each class in each part, and how training reads them."""

from foveal.data.encoded_images import EncodedImages
from foveal.data.labels import count_by_class
from foveal.data.parts import PARTS, Data

ROWS = 30  # of a printed table
BALANCED = 3  # ratio of the largest class to the smallest above which the classes are unbalanced


def table(data: Data) -> tuple[list[list[str]], list[str]]:
    """Count the images of each class in each part, and in all; of more than `ROWS` classes those with the fewest
    training images, and a line that says so.
    """
    counts = [data.counts(part) for part in PARTS]
    rows = list(zip(data.classes, *counts, strict=True))
    remark = []
    if len(rows) > ROWS:
        rows = sorted(rows, key=lambda row: row[1])[:ROWS]
        remark = [f"the {ROWS} classes with the fewest training images, of {len(data.classes):,}"]
    totals = ("all", *(len(getattr(data, part)) for part in PARTS))
    return [[row[0], *(f"{count:,}" for count in row[1:])] for row in (*rows, totals)], remark


def describe(data: Data) -> list[str]:
    """Describe what training does with a data set: size and channels of the images, balance of the classes."""
    channels, height, width = data.shape
    kind = {1: "grey", 3: "colour"}.get(channels, f"{channels}-channel")
    how = "random crops resized to" if isinstance(data.train, EncodedImages) else "images of"
    lines = [f"training reads {how} {height} x {width} pixels, {kind}"]
    counts = count_by_class(data.train.labels, len(data.classes))
    most, least = int(counts.max()), int(counts[counts > 0].min())
    see = "class_weights" if data.multi_label else "the balanced accuracy, and class_weights"
    if data.multi_label:
        own = data.train.labels.sum(1)
        bare = int((own == 0).sum())
        lines.append(f"any number of classes for an image: in training {own.mean():.2f} on average, none for {bare:,}")
    if most > BALANCED * least:
        lines.append(f"classes of {least:,} to {most:,} training images: see {see}")
    return lines
