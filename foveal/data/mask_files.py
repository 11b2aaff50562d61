"""Masks as PNG files, one for each image: 0 is the background, each other value is an object.

In a file with a palette, as Pascal VOC's, the value 255 marks borders and is no object. The values are no names.
"""

from functools import partial
from pathlib import Path

import numpy as np

from foveal.data.annotated_objects import AnnotatedObject, Size, Source, check_stated_size
from foveal.data.image_files import opened

ENDINGS = ("_mask", "_masks", "_segmentation")  # of a name, after that of the image
MODES = ("1", "L", "P", "I;16", "I")  # Pillow's, of one channel
BORDER = 255
MOST = 128  # objects of an image


def source(path: Path) -> Source:
    """Return the source of an image's objects."""
    return Source(path, lambda size: read_objects(path, size))


def image_of(stem: str) -> str:
    """Return the name of the image of a mask, without its ending."""
    return next((stem.removesuffix(ending) for ending in ENDINGS if stem.endswith(ending)), stem)


def read_objects(path: Path, size: Size) -> list[AnnotatedObject]:
    """Read the objects of an image of a size.

    Raises:
        ValueError: no PNG file of one channel; another size; values that do not tell objects from the background.
    """
    try:
        with opened(path) as image:
            mode, pixels = image.mode, np.asarray(image) if image.mode in MODES else None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if pixels is None:
        raise ValueError(f"{path}: colours ({mode}); a mask of one channel is needed, 0 for the background")
    check_stated_size((pixels.shape[0], pixels.shape[1]), size, str(path))
    values = [int(value) for value in np.unique(pixels) if value]
    if mode == "P" and len(values) > 1:
        values = [value for value in values if value != BORDER]
    check_values(values, mode, bool((pixels == 0).any()), path)
    return [AnnotatedObject(None, mask=partial(np.equal, pixels, value)) for value in values]


def check_values(values: list[int], mode: str, background: bool, path: Path) -> None:
    """Refuse values, beside 0, that may be something else than objects."""
    if len(values) > MOST:
        raise ValueError(f"{path}: {len(values):,} values beside 0; a value for each object is needed, at most {MOST}")
    if mode == "L" and BORDER in values and len(values) > 1:
        raise ValueError(
            f"{path}: values {', '.join(map(str, values[:4]))} and others up to 255, as of a blurred mask; a value for "
            "each object is needed, without 255"
        )
    if len(values) > 1 and not background:
        raise ValueError(f"{path}: {len(values)} values and no 0, which is the background")
