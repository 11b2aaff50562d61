"""Files that are no images of the known formats, or very large ones: refused before a pixel is decoded."""

import re
import struct
import time
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, features

import foveal
from foveal.data import image_files
from foveal.data.file_facts import examine
from foveal.data.image_files import read, to_bytes
from foveal.inspection.drawing.read_images import read_images


def write_png(path, width, height, rows=1):
    """Write a grey PNG that states a size, with the pixels of its first rows."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(width + 1) * rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + pixels + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((13_000, 13_000), "169,000,000 pixels; at most 67,108,864 are read: resize the image, or cut it into tiles"),
        ((30_000, 30_000), "900,000,000 pixels; at most 67,108,864 are read: resize the image, or cut it into tiles"),
        ((8192, 8193), "67,117,056 pixels; at most 67,108,864 are read: resize the image, or cut it into tiles"),
        ((1, 101), "1 x 101 pixels; at most 100 times as long as wide is read, so cut it"),
        ((20_000, 199), "20,000 x 199 pixels; at most 100 times as long as wide is read, so cut it"),
    ],
)
def test_images_that_are_too_large_are_refused_before_they_are_decoded(tmp_path, size, reason):
    path = write_png(tmp_path / "x.png", *size)
    begin = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert examine(path).reason == reason
        with pytest.raises(ValueError, match=re.escape(f"image {str(path)!r}: {reason}") + "$"):
            read(path)
    assert time.process_time() - begin < 2


def test_images_at_the_limits_are_read(tmp_path, monkeypatch):
    assert examine(write_png(tmp_path / "long.png", 1, 100, rows=100)).reason is None
    monkeypatch.setattr(image_files, "PIXELS", 120)
    assert examine(write_png(tmp_path / "x.png", 12, 10, rows=10)).reason is None
    assert examine(write_png(tmp_path / "y.png", 11, 11, rows=11)).reason.startswith("121 pixels; at most 120 are")


@pytest.mark.parametrize("kind", ["eps", "avif", "blp", "ppm", "ico", "pdf"])
def test_another_format_under_the_name_of_a_png_is_not_opened(tmp_path, kind):
    if kind == "avif" and not features.check("avif"):
        pytest.skip("this Pillow does not write AVIF")
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for index in range(4):
            Image.new("L", (9, 9), index).save(tmp_path / label / f"{index}.png")
    image = Image.new("P" if kind == "blp" else "RGB", (16, 16))
    image.save(tmp_path / f"x.{kind}")
    (tmp_path / f"x.{kind}").rename(tmp_path / "cat/x.png")
    assert foveal.load_data(tmp_path, image_size=16).skipped == {"cat/x.png": "not an image by its content"}
    with pytest.raises(ValueError, match=r"x\.png': not an image by its content$"):
        read(tmp_path / "cat/x.png")


def test_a_pil_image_of_a_truncated_file_is_refused_by_name(tmp_path):
    path = tmp_path / "cut.png"
    noise = np.random.default_rng(0).integers(0, 256, (50, 50), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    with Image.open(path) as image, pytest.raises(ValueError, match=r"cut\.png' cannot be read: [^\n]*$"):
        read_images([image])
    assert examine(path).reason.startswith("cannot be read: ")


def test_sixteen_bit_values_are_scaled_as_computed():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for low, high in ((0.0, 65535.0), (1000.0, 3000.0), (7.0, 8.0)):
        expected = np.rint(255 * ((values.astype(float) - low) / (high - low)).clip(0, 1))
        assert np.array_equal(to_bytes(values, (low, high)), expected)


def test_texts_beside_images_are_refused_by_name(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "x" / label).mkdir(parents=True)
        for index in range(4):
            Image.new("L", (9, 9), index).save(tmp_path / "x" / label / f"{index}.png")
    groups = tmp_path / "groups.csv"
    for content, message in (
        (b"cat/0.png,\xe9\n", ": not a text in UTF-8: invalid continuation byte at byte 10"),
        (b'"' + b"a" * 200_000, ", line 1: cannot be read as CSV: field larger than field limit"),
    ):
        groups.write_bytes(content)
        with pytest.raises(ValueError, match=rf"groups\.csv{message}[^\n]*$"):
            foveal.load_data(tmp_path / "x", groups=groups)
