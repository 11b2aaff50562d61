"""Properties of image files, as far as their headers show them, or their pixels where these are needed."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from PIL import Image, ImageFile

from foveal.data.image_files import ALPHA, DEEPEST, decode, is_transparent, opened, split_alpha, why_no_image

SAMPLES, STRIPS, STRIP_SIZES = 277, 273, 279  # tags of a TIFF: number of bands; begins and lengths of strips
LAST = 8  # bytes
ENDINGS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b";"}
SIZED = {"WEBP": (4, 8), "BMP": (2, 0)}  # offset of the size that the header states, and what it leaves out


@dataclass(frozen=True)
class FileFacts:
    """Properties of a file that reading it shows; `reason` states why it cannot be read, None if it can."""

    reason: str | None = None
    pages: int = 1
    mode: str = ""  # Pillow's
    bands: int = 3  # that the file stores
    transparent: bool = False  # of a file that was not decoded: it can be
    values: tuple[float, float] | None = None  # least and largest of an image of 16 bits

    @property
    def note(self) -> str:
        """State which pages were read, if there are several."""
        return f"page 1 of {self.pages} read" if self.pages > 1 else ""


def examine(path: str | Path, whole: bool = True) -> FileFacts:
    """Report the properties of a file, or why it cannot be read.

    Args:
        path: the file.
        whole: decode it. If False, only the header is read, except where it does not tell what is needed: of 16 bits or
            more for the range of values, and of a file that does not end as its format does, since it may be truncated.
    """
    if (reason := why_no_image(path)) is not None:
        return FileFacts(reason)
    try:
        with opened(path) as image:
            pages, mode, bands = getattr(image, "n_frames", 1), image.mode, stored_bands(image)
            if not whole and not is_deep(image) and is_complete(image):
                return FileFacts(None, pages, mode, bands, mode in ALPHA or "transparency" in image.info)
            pixels = decode(image, path)
            if isinstance(pixels, Image.Image):
                return FileFacts(None, pages, mode, bands, is_transparent(pixels))
            colours, opacity = split_alpha(pixels)
            transparent = opacity is not None and int(opacity.min()) < DEEPEST
            return FileFacts(None, pages, mode, bands, transparent, (float(colours.min()), float(colours.max())))
    except ValueError as error:
        return FileFacts(str(error))


def is_deep(image: Image.Image) -> bool:
    """Return True for pixels that are not of 8 bits, by the header."""
    return image.mode[0] in "IF" or any(";16" in str(tile[3]) for tile in getattr(image, "tile", []))


def is_complete(image: Image.Image) -> bool:
    """Return True if the file of an image that was just opened ends as its format does, so that it is not truncated.

    False says nothing: other programs may append to a file, and of TIFF only strips are looked for.
    """
    file = cast(ImageFile.ImageFile, image).fp
    if file is None:  # of a format that Pillow reads whole when it opens it
        return False
    place = file.tell()
    try:
        return ends_whole(image, file, file.seek(0, os.SEEK_END))
    finally:
        file.seek(place)


def ends_whole(image: Image.Image, file: IO[bytes], size: int) -> bool:
    """Return True if a file of a size in bytes ends as the format of its image does."""
    kind = image.format
    if kind == "TIFF":
        tags = getattr(image, "tag_v2", {})
        strips = zip(tags.get(STRIPS, ()), tags.get(STRIP_SIZES, ()), strict=False)
        return 0 < max((begin + length for begin, length in strips), default=0) <= size
    if kind in SIZED:
        offset, added = SIZED[kind]
        file.seek(offset)
        return int.from_bytes(file.read(4), "little") + added == size
    file.seek(max(0, size - LAST))
    return kind in ENDINGS and file.read(LAST).endswith(ENDINGS[kind])


def stored_bands(image: Image.Image) -> int:
    """Count the bands that a file stores: those of its mode, and further ones of a TIFF, which Pillow drops."""
    return max(len(image.getbands()), getattr(image, "tag_v2", {}).get(SAMPLES, 0))


def dropped(facts: FileFacts) -> int:
    """Count the bands of a file that are neither colours nor transparency."""
    colours = 4 if facts.mode == "CMYK" or facts.mode in ALPHA else 3
    return facts.bands - colours


def range_of(facts: Mapping[str, FileFacts]) -> tuple[float, float] | None:
    """Compute the range of values over the images of 16 bits; None if there are none.

    Raises:
        ValueError: all of them hold one single value.
    """
    found = {name: each.values for name, each in facts.items() if each.values is not None}
    if not found:
        return None
    low, high = min(each[0] for each in found.values()), max(each[1] for each in found.values())
    if low == high:
        raise ValueError(f"16-bit images that all hold the one value {low:g}, as {next(iter(found))!r}")
    return low, high


def notes_of(facts: Mapping[str, FileFacts], value_range: tuple[float, float] | None, source: str) -> dict[str, str]:
    """Describe how files were read where this is not plain: by file for pages, by kind for pixels.

    Args:
        facts: of the files by name.
        value_range: of 16-bit values.
        source: origin of this range.
    """
    low, high = value_range or (0, 0)
    kinds: dict[str, tuple[Callable[[FileFacts], bool], str]] = {
        "images with transparency": (lambda each: each.transparent, "composed over white"),
        "CMYK images": (lambda each: each.mode == "CMYK", "converted without their colour profile"),
        "images of further bands": (lambda each: dropped(each) > 0, "bands beyond the colours not read"),
        "16-bit images": (
            lambda each: each.values is not None,
            f"values {low:g} to {high:g}, {source}, become 0 to 255",
        ),
    }
    notes = {name: each.note for name, each in facts.items() if each.note}
    for kind, (belongs, text) in kinds.items():
        names = [name for name, each in facts.items() if belongs(each)]
        if names:
            notes[kind] = f"{len(names):,}, as {names[0]}: {text}"
    return notes
