"""Image files: which can be read, and how their pixels become 8-bit RGB.

- Transparent pixels are composed over white.
- 16 bits a pixel, grey or colour (PNG): one range of values, the same for all files of a data set, becomes 0 to 255.
- CMYK is converted as R = (1 - C)(1 - K), and so on; an embedded colour profile is not applied.
- The first page of an animation or of a file of several pages is read, and the first three bands of RGB with further
  ones that are no transparency.
- Float and signed pixels, and 16 bits in colour other than PNG, are not read.

Only the formats of `SUFFIXES` are opened, whatever a file's name: other readers of Pillow start programs (EPS) or are
seldom used. The size is checked before any pixel is decoded, since a small file may state a very large one.
"""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from foveal.core.names import one_line

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # of these names
PIXELS = 2**26  # at most: 256 MB as RGBA, decoded in seconds; the largest sensors of 35 mm cameras have 61 million
RATIO = 100  # of the longer side to the shorter at most: the shorter side is resized to that of the network's images
ALPHA = {"RGBA", "LA", "PA", "RGBa", "La"}
DEEPEST = 65535
File = str | Path | bytes  # path of an image file, or its content
ORIENTATION = 274  # tag of the camera's orientation


def why_no_image(path: str | Path) -> str | None:
    """Return why a path is none of an image file, without opening it; None if it may be one."""
    suffix = os.path.splitext(path)[1]
    if suffix.lower() not in SUFFIXES:
        return f"not an image by its name ({suffix or 'no suffix'})"
    return None if os.path.isfile(path) else "no such file"


@contextmanager
def opened(file: File) -> Iterator[Image.Image]:
    """Open an image file, and check its size before a pixel is decoded.

    Raises:
        ValueError: the file cannot be opened, is too large, or what is done within the context fails; the message does
            not name the file.
    """
    try:
        # a stream also for a path, of which Pillow maps grey TIFFs into memory, and those turned by the camera wrongly
        with BytesIO(file) if isinstance(file, bytes) else Path(file).open("rb") as stream:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of a limit of its own
                image = Image.open(stream, formats=FORMATS)
            with image:
                check_size(image)
                yield image
    except UnidentifiedImageError as error:
        raise ValueError("not an image by its content") from error
    except (TooLargeError, Image.DecompressionBombError) as error:
        raise ValueError(str(error) if isinstance(error, TooLargeError) else too_large(str(error))) from error
    except Exception as error:  # a decoder may raise anything at a broken file
        raise ValueError(f"cannot be read: {one_line(error):.300}") from error


class TooLargeError(ValueError):
    """An image of more pixels than are read."""


def check_size(image: Image.Image) -> None:
    """Refuse an image of more than `PIXELS` pixels, or one with a side more than `RATIO` times the other.

    Raises:
        TooLargeError: such an image.
    """
    width, height = image.size
    if width * height > PIXELS:
        raise TooLargeError(too_large(str(width * height)))
    if max(width, height) > RATIO * min(width, height):
        raise TooLargeError(f"{width:,} x {height:,} pixels; at most {RATIO} times as long as wide is read, so cut it")


def too_large(text: str) -> str:
    """Return the message for an image of too many pixels, of which a text first states the number, as Pillow's does."""
    count = int(re.findall(r"\d+", text)[0])
    return f"{count:,} pixels; at most {PIXELS:,} are read: resize the image, or cut it into tiles"


def why_not(file: File, value_range: tuple[float, float] | None = None) -> str | None:
    """Return why a file cannot be read as an image, None if it can; arguments as for `read`."""
    try:
        read(file, value_range)
    except ValueError as error:
        return str(error).removeprefix(f"{place_of(file)}: ")
    return None


def place_of(file: File) -> str:
    """Name a file for messages."""
    return "image" if isinstance(file, bytes) else f"image {str(file)!r}"


def read(file: File, value_range: tuple[float, float] | None = None) -> Image.Image:
    """Read an image as 8-bit RGB, turned by its camera's orientation, transparent pixels over white.

    Args:
        file: its path, or its content.
        value_range: values of 16-bit pixels that become 0 and 255; values beyond it are clipped. Files of 8 bits
            ignore it.

    Raises:
        ValueError: a file that cannot be read; pixels of 16 bits without a range.
    """
    try:
        with opened(file) as image:
            pixels = decode(image, file)
            return compose(pixels if isinstance(pixels, Image.Image) else as_bytes(pixels, value_range))
    except ValueError as error:
        raise ValueError(f"{place_of(file)}: {error}") from error


def from_memory(image: Image.Image, name: str, value_range: tuple[float, float] | None = None) -> Image.Image:
    """Convert an image of Pillow to 8-bit RGB, as `read` does those of files; `name` is for messages.

    Raises:
        ValueError: an image that is too large, cannot be decoded, or whose pixels are not 8 or 16 bits; 16 bits without
            a range.
    """
    try:
        check_size(image)
        pixels = decode(image, None)
        return compose(pixels if isinstance(pixels, Image.Image) else as_bytes(pixels, value_range))
    except Exception as error:  # a decoder may raise anything at a broken file
        raise ValueError(f"{name}: {one_line(error):.300}") from error


def as_bytes(pixels: np.ndarray, value_range: tuple[float, float] | None) -> Image.Image:
    """Convert uint16 (H, W, bands) to an image of 8 bits; ValueError without a range."""
    if value_range is None:
        raise ValueError("16-bit values, and no value range is known that becomes 0 to 255")
    colours, opacity = split_alpha(pixels)
    bands = [Image.fromarray(to_bytes(band, value_range)) for band in np.moveaxis(colours, 2, 0)]
    if opacity is not None:
        bands.append(Image.fromarray(to_bytes(opacity, (0, DEEPEST))))
    return Image.merge({1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[len(bands)], bands)


def decode(image: Image.Image, file: File | None) -> Image.Image | np.ndarray:
    """Decode the first page: an image of 8 bits, or uint16 (H, W, bands) for one of 16 bits, read from its `file`."""
    if image.mode[0] not in "IF" and any(";16" in str(tile[3]) for tile in getattr(image, "tile", [])):
        return deep_colours(image, file)
    image.load()
    turned = image if image.getexif().get(ORIENTATION, 1) == 1 else ImageOps.exif_transpose(image)
    if turned.mode[0] not in "IF":
        return turned
    pixels = np.asarray(turned)
    if pixels.dtype.kind == "f" or pixels.min() < 0 or pixels.max() > DEEPEST:
        raise ValueError(f"pixels from {pixels.min():.4g} to {pixels.max():.4g}, not 8 or 16 bits")
    return pixels.astype(np.uint16)[..., None]


def deep_colours(image: Image.Image, file: File | None) -> np.ndarray:
    """Read 16-bit bands through torchvision: Pillow keeps only the upper eight bits of each."""
    if file is None:
        raise ValueError("16 bits a channel in colour, of which Pillow keeps eight; hand over its path")
    if image.format != "PNG" or image.getexif().get(ORIENTATION, 1) != 1:
        raise ValueError("16 bits a channel in colour; convert it to an upright PNG, or to 8 bits")
    try:
        from torchvision.io import decode_image
    except ImportError as error:  # it is deprecated there
        raise ValueError("16 bits a channel in colour; convert it to 8 bits") from error
    content = np.frombuffer(bytearray(file if isinstance(file, bytes) else Path(file).read_bytes()), np.uint8)
    return decode_image(torch.from_numpy(content)).permute(1, 2, 0).numpy()


def split_alpha(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Split (H, W, bands) into colours (H, W, 1 or 3) and opacity (H, W) of two or four bands."""
    return (pixels, None) if pixels.shape[2] % 2 else (pixels[..., :-1], pixels[..., -1])


def to_bytes(values: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Map a range of 16-bit values to 0 to 255, uint8."""
    low, high = value_range
    table = np.rint(255 * ((np.arange(DEEPEST + 1) - low) / (high - low)).clip(0, 1)).astype(np.uint8)
    return table[values]


def is_transparent(image: Image.Image) -> bool:
    """Return True if a pixel is not opaque."""
    if image.mode not in ALPHA and "transparency" not in image.info:
        return False
    return bool(np.asarray(with_alpha(image).getchannel("A")).min() < 255)


def with_alpha(image: Image.Image) -> Image.Image:
    """Convert to RGBA; an image that has this mode is returned itself."""
    straight = image.convert("LA") if image.mode == "La" else image
    return straight if straight.mode == "RGBA" else straight.convert("RGBA")


def compose(image: Image.Image) -> Image.Image:
    """Convert to RGB, transparent pixels over white; an image of mode RGB is returned itself, which saves time."""
    if not is_transparent(image):
        return image if image.mode == "RGB" else image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), with_alpha(image)).convert("RGB")
