"""Well-formed files of every kind that foveal reads, and hostile images."""

import gzip
import io
import json
import shutil
import zlib
from functools import cache
from pathlib import Path
from random import Random
from struct import pack
from typing import Any

import numpy as np
from PIL import Image

import foveal
from benchmarks.mutants import Mutant, as_png, mutate_bytes
from foveal.comparison.plan import FILE, fixed
from foveal.core.folders import locked_folder
from foveal.training.config import CompareConfig, RunConfig

COMPARED = CompareConfig(data="digits", epochs=1, seeds=2)
BANDS = {0: 1, 2: 3, 6: 4}  # of the colour types of PNG
STATES = ("finished", "stopped", "untested")  # of a run


class StoppedError(Exception):
    """The end of a run before its first, or a further, epoch."""


def photograph(seed: int, bands: int = 3) -> np.ndarray:
    """Return a smooth picture with some noise, (30, 40, bands) uint8."""
    y, x = np.mgrid[:30, :40]
    noise = np.random.default_rng(seed).integers(0, 20, (30, 40, bands))
    return (noise + (3 * x + 2 * y)[..., None] * np.arange(1, bands + 1) / bands).clip(0, 255).astype(np.uint8)


def write_images(folder: Path) -> None:
    """Write two classes of small images in the folder `plain`, and one image of each kind."""
    for label in ("cat", "dog"):
        (folder / "plain" / label).mkdir(parents=True)
        for index in range(4):
            Image.fromarray(photograph(index)).save(folder / "plain" / label / f"{index}.png")
    image = Image.fromarray(photograph(9))
    frames = [Image.fromarray(photograph(index)) for index in range(3)]
    exif = Image.Exif()
    exif[274] = 6  # orientation
    image.save(folder / "colour.png", exif=exif)
    Image.fromarray(photograph(8, 4)).save(folder / "alpha.png")
    Image.fromarray(photograph(7)[..., 0].astype(np.uint16) * 200).save(folder / "deep.png")
    deep = photograph(6).astype(">u2") * 200
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    head = pack(">IIBBBBB", 40, 30, 16, 2, 0, 0, 0)
    (folder / "deep_colour.png").write_bytes(as_png([(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]))
    image.quantize(16).save(folder / "palette.png", transparency=3)
    image.save(folder / "photo.jpg", exif=exif)
    image.convert("CMYK").save(folder / "print.jpg")
    image.save(folder / "progressive.jpg", progressive=True)
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    image.save(folder / "plain.bmp")
    image.quantize(16).save(folder / "palette.bmp")
    for packing in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        image.save(folder / f"{packing}.tif", compression=packing)
    frames[0].save(folder / "pages.tif", save_all=True, append_images=frames[1:])
    image.save(folder / "lossy.webp")
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    image.save(folder / "hostile.png")


def hostile_image(random: Random, data: bytes) -> Mutant:
    """Return a very large image, or another format, to be stored under the name of a PNG."""
    kind = random.choice(("whole", "head", "long", "text", "profile", "frames", "jpeg", "bmp", "gif", "tiff", "format"))
    side = random.choice((8000, 8192, 8300, 13_000, 20_000, 65_535, 2**31 - 1))
    depth, colour = random.choice(((8, 0), (1, 0), (16, 0), (8, 2), (16, 2), (8, 6), (16, 6)))
    size = random.choice(((1, side), (side, 1), (300, 30_000), (31_000, 300))) if kind == "long" else (side, side)
    head = b"IHDR", pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    whole = kind == "whole" and side**2 * depth * BANDS[colour] < 5e9  # bits: a file of a few hundred kilobytes
    pixels = b"IDAT", packed_zeros(side * (1 + (side * depth * BANDS[colour] + 7) // 8) if whole else 1000)
    bomb = zlib.compress(bytes(100_000_000), 1)
    small = b"IHDR", pack(">IIBBBBB", 30, 30, 8, 0, 0, 0, 0)
    rows, end = (b"IDAT", zlib.compress(bytes(30 * 31))), (b"IEND", b"")
    contents = {
        "text": lambda: as_png([small, (b"zTXt", b"a\0\0" + bomb), rows, end]),
        "profile": lambda: as_png([small, (b"iCCP", b"a\0\0" + bomb), rows, end]),
        "frames": lambda: as_png([small, (b"acTL", pack(">II", 2**31 - 1, 0)), rows, end]),
        "jpeg": lambda: enlarged(data, "JPEG", pack(">HH", 30, 40), pack(">HH", 65_500, 65_500)),
        "bmp": lambda: enlarged(data, "BMP", pack("<ii", 40, 30), pack("<ii", min(side, 2**20), side)),
        "gif": lambda: enlarged(data, "GIF", pack("<HH", 40, 30), pack("<HH", 65_535, 65_535)),
        "tiff": lambda: enlarged(
            data, "TIFF", b"\x00\x01\x04\x00\x01\x00\x00\x00(\x00", b"\x00\x01\x04\x00\x01\x00\x00\x00\xff\xff"
        ),
        "format": lambda: another_format(random, data),
    }
    content = contents.get(kind, lambda: as_png([head, pixels, end]))()
    return content, f"{kind}: {size[0]} x {size[1]}, {depth} bits, colour {colour}, {len(content)} bytes"


@cache
def packed_zeros(count: int) -> bytes:
    """Compress zeros."""
    packer, block = zlib.compressobj(1), bytes(1_000_000)
    begin = b"".join(packer.compress(block) for _ in range(count // len(block)))
    return begin + packer.compress(bytes(count % len(block))) + packer.flush()


def enlarged(data: bytes, kind: str, before: bytes, after: bytes) -> bytes:
    """Write an image in a format, with other numbers in its header."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.save(out, kind)
    return out.getvalue().replace(before, after)


def another_format(random: Random, data: bytes) -> bytes:
    """Write an image in a format that foveal does not read, or mutate such a file; or nothing at all."""
    kind = random.choice(("EPS", "AVIF", "BLP", "PPM", "ICO", "PDF", "PCX", "TGA", "SGI", "nothing", "noise", "text"))
    if kind in ("nothing", "noise", "text"):
        return {"nothing": b"", "noise": random.randbytes(5000), "text": b"%!PS-Adobe-3.0 EPSF-3.0\n" * 9}[kind]
    out = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        (image.quantize(16) if kind == "BLP" else image).save(out, kind)
    return out.getvalue() if random.random() < 0.5 else mutate_bytes(random, out.getvalue())[0]


def write_runs(folder: Path) -> None:
    """Write runs of a small network: finished, stopped after the first of two epochs, and trained but not tested."""
    data = folder / "data"
    for label in ("cat", "dog"):
        (data / label).mkdir(parents=True)
        for index in range(8):
            Image.fromarray(photograph(index) // (1 + (label == "dog"))).save(data / label / f"{index}.png")
    config = RunConfig(
        model="small_cnn+se", data=f"folder:{data}", image_size=16, epochs=2, batch_size=4, ema=0.5, workers=0
    )

    def stop(line: dict[str, Any]) -> None:
        raise StoppedError

    try:
        foveal.train(config, folder / "stopped", on_epoch=stop)
    except StoppedError:
        shutil.copytree(folder / "stopped", folder / "finished")
    foveal.train(config, folder / "finished", resume=True)
    shutil.copytree(folder / "finished", folder / "untested")
    (folder / "untested/predictions.csv").unlink()
    metrics = folder / "untested/metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:-1]))


def write_comparison(folder: Path) -> None:
    """Write the plan of a comparison with both controls."""
    models = {"none": "small_cnn", "se": "small_cnn+se", "wider": "small_cnn:width=1.2"}
    plan = {**fixed(COMPARED), "contenders": {**models, "deeper": "small_cnn:extra_blocks=2,width=0.9"}}
    with locked_folder(folder):
        (folder / FILE).write_text(json.dumps(plan, indent=1))


def write_idx(folder: Path, packed: bool = False) -> None:
    """Write the four files of MNIST with few images."""
    folder.mkdir(parents=True)
    stream = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        pixels, labels = stream.integers(0, 256, (count, 9, 8), dtype=np.uint8), np.arange(count, dtype=np.uint8) % 5
        for what, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            content = pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()
            name = f"{part}-{what}-ubyte{'.gz' * packed}"
            (folder / name).write_bytes(gzip.compress(content) if packed else content)


def write_npz(folder: Path) -> None:
    """Write an archive of MedMNIST's kind with few images."""
    folder.mkdir(parents=True)
    stream = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 40), ("val", 10), ("test", 10)):
        arrays[f"{part}_images"] = stream.integers(0, 256, (count, 9, 8, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count, dtype=np.uint8) % 5)[:, None]
    np.savez_compressed(folder / "small.npz", **arrays)
