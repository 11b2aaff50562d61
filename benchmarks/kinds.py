"""Kinds of files that foveal reads: how each is mutated, and read."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random

from PIL import Image

import foveal
from benchmarks import mutants, specimens
from benchmarks.mutants import Mutant
from benchmarks.specimens import COMPARED, StoppedError
from foveal.comparison.contenders import CONTROLS
from foveal.comparison.plan import FILE, check_same, fixed, read_plan
from foveal.data.image_files import FORMATS
from foveal.inspection.drawing.read_images import HIGH_RANGE, read_images
from foveal.training.config import RunConfig
from foveal.training.load_model import load_model
from foveal.training.predictions import predicted_right
from foveal.training.read_config import read_config
from foveal.training.run_folder import finished, read_split

DRAWN = 2**20  # pixels; larger images are decoded twice already
FIELDS = tuple(each.name for each in fields(RunConfig))


class LeftOutError(ValueError):
    """A file that `load_data` leaves out, with the reason."""


def read_image_folder(folder: Path, file: Path) -> None:
    """Load a folder of images, and read the mutated one in all ways."""
    data = foveal.load_data(f"folder:{folder}", image_size=16)
    name = file.relative_to(folder).as_posix()
    if name in data.skipped:
        raise LeftOutError(f"{name}: {data.skipped[name]}")
    for part in (data.train, data.validation, data.test):
        if name in part.names:
            part.__getitems__([list(part.names).index(name)])
    with Image.open(file, formats=FORMATS) as image:
        if image.width * image.height < DRAWN and not image.mode.startswith(HIGH_RANGE):
            read_images(image)


def read_data(folder: Path, file: Path) -> None:
    """Load a folder of IDX files or an archive, and read a batch of each part."""
    data = foveal.load_data(f"folder:{folder}")
    for part in (data.train, data.validation, data.test):
        data.preprocessing.normalize(part.__getitems__(range(min(8, len(part))))[0])


def read_run(folder: Path, file: Path) -> None:
    """Read a file of a run in all ways, and continue the run as far as its next epoch if that reads the file."""
    config = read_config(folder / "config.yaml", RunConfig)
    finished(folder)
    if file.name == "split.json":
        read_split(folder)
    if file.name == "predictions.csv":
        predicted_right(folder)
    if file.name == "best.safetensors":
        load_model(str(folder))
    if file.name in ("split.json", "predictions.csv") or (file.name, folder.name) == ("best.safetensors", "stopped"):
        return
    try:
        foveal.train(config, folder, resume=True)
    except StoppedError:
        return


def read_comparison(folder: Path, file: Path) -> None:
    """Read the plan of a comparison, and build the controls that it names."""
    stored = read_plan(folder)
    check_same(folder, stored, fixed(COMPARED))
    for name in CONTROLS:
        if name in stored.get("contenders", {}):
            foveal.create_model(stored["contenders"][name], num_classes=10, in_chans=1)


@dataclass(frozen=True)
class Kind:
    """Files that are mutated alike.

    Attributes:
        title: row of the table.
        source: name of the folder of well-formed files; an image is read beside those of `plain`.
        files: paths in it, of which those that exist are mutated.
        mutate: function of a random stream and the file's content.
        read: function of the folder and the mutated file.
        words: one of them, or the file's name, must be in the message of an error.
    """

    title: str
    source: str
    files: tuple[str, ...]
    mutate: Callable[[Random, bytes], Mutant]
    read: Callable[[Path, Path], None]
    words: tuple[str, ...] = ()


def image(title: str, *names: str, mutate: Callable[[Random, bytes], Mutant] = mutants.mutate_bytes) -> Kind:
    return Kind(title, "images", names, mutate, read_image_folder)


def run(name: str, mutate: Callable[[Random, bytes], Mutant], *words: str, title: str = "") -> Kind:
    return Kind(title or name, "runs", tuple(f"{state}/{name}" for state in specimens.STATES), mutate, read_run, words)


SETTINGS = (*FIELDS, "network", "optimizer", "scheduler")
KINDS = {
    "png": image("PNG", "colour.png", "alpha.png", mutate=mutants.mutate_png),
    "png16": image("PNG, 16 bits", "deep.png", "deep_colour.png", mutate=mutants.mutate_png),
    "palette": image("PNG, palette", "palette.png", mutate=mutants.mutate_png),
    "jpeg": image("JPEG", "photo.jpg", "print.jpg", "progressive.jpg"),
    "gif": image("GIF", "moving.gif"),
    "bmp": image("BMP", "plain.bmp", "palette.bmp"),
    "tiff": image("TIFF", *(f"{each}.tif" for each in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg"))),
    "pages": image("TIFF, several pages", "pages.tif"),
    "webp": image("WebP", "lossy.webp", "moving.webp"),
    "hostile": image("hostile images named .png", "hostile.png", mutate=specimens.hostile_image),
    "facts": run("best.safetensors", mutants.mutate_facts, title="checkpoint: facts"),
    "header": run("best.safetensors", mutants.mutate_header, title="checkpoint: header"),
    "weights": run("best.safetensors", mutants.mutate_bytes, title="checkpoint: bytes"),
    "last": run("last.safetensors", mutants.mutate_facts, title="last.safetensors: facts"),
    "state": run("last.safetensors", mutants.mutate_header, title="last.safetensors: header"),
    "config": run("config.yaml", mutants.mutate_yaml, *SETTINGS),
    "metrics": run("metrics.jsonl", mutants.mutate_lines),
    "split": run("split.json", mutants.mutate_json),
    "predictions": run("predictions.csv", mutants.mutate_lines),
    "comparison": Kind("comparison.json", "comparison", (FILE,), mutants.mutate_json, read_comparison,
                       ("contains a comparison with another",)),
    "idx": Kind("IDX", "idx", ("train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"), mutants.mutate_idx, read_data),
    "idxgz": Kind("IDX, gzipped", "idxgz", ("train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz"),
                  mutants.mutate_gzip, read_data),
    "npz": Kind("MedMNIST", "npz", ("small.npz",), mutants.mutate_archive, read_data),
}  # fmt: skip


def write_specimens(folder: Path) -> None:
    """Write the well-formed files of all kinds."""
    specimens.write_images(folder / "images")
    specimens.write_runs(folder / "runs")
    specimens.write_comparison(folder / "comparison")
    specimens.write_idx(folder / "idx")
    specimens.write_idx(folder / "idxgz", packed=True)
    specimens.write_npz(folder / "npz")
