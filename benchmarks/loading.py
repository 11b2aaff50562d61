"""Images a second of foveal's loader and training against a plain loop, and the memory of training on shards.

    python -m benchmarks.loading BCCD > benchmarks/loading.md

BCCD is a folder in the form of Pascal VOC, whose `JPEGImages` are 364 photographs of 640 x 480 pixels.

**Loading.** The photographs, each twice, lie in one folder for each of two classes. The plain loop has torchvision's
ImageFolder, timm's training transform to 224 pixels and PyTorch's DataLoader; both have two workers. The loader alone
ends with normalized batches; training is one epoch of a network of one linear layer on 16 times smaller images, so that
loading counts, with AdamW. A pass begins when the files are listed. Both are measured in turn; figures are medians over
turns with their quartiles, and a ratio is that of one turn. CPU time is that of all processes, which other work on the
machine lengthens less than the clock's.

**Shards.** WebDatasets of 0.2 and 2 GB are made from the photographs, which repeat, in shards of 50 MB. `foveal train`
passes once over each, with two workers. Memory is that of the command with its processes, sampled every 0.2 s: RSS
counts a page that processes share once for each, PSS once.
"""

import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from timm.data import create_transform
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from benchmarks.data import cpu_seconds
from foveal.data.load_data import load_data
from foveal.data.parts import draw_order
from foveal.profiling.environment import cores, processor, versions
from foveal.training.batches import read_batches
from foveal.training.config import RunConfig
from foveal.training.trainer import Trainer

SIZE, BATCH, WORKERS, TIMES, ROUNDS = 224, 32, 2, 2, 15
SHARD = 5 * 10**7  # bytes
CLASSES = 2


def network() -> nn.Module:
    """Return a network that costs next to nothing."""
    return nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(3 * (SIZE // 16) ** 2, CLASSES))


def make_folder(source: Path, folder: Path) -> Path:
    """Link the photographs into one folder for each class, `train` twice and the other parts once."""
    for part, times in (("train", TIMES), ("val", 1), ("test", 1)):
        for index, path in enumerate(sorted(source.glob("JPEGImages/*.jpg"))):
            place = folder / part / str(index % CLASSES)
            place.mkdir(parents=True, exist_ok=True)
            for copy in range(times):
                os.symlink(path.resolve(), place / f"{path.stem}-{copy}.jpg")
    return folder


def plain_loader(folder: Path) -> DataLoader[Any]:
    images = ImageFolder(str(folder / "train"), create_transform(SIZE, is_training=True))
    return DataLoader(images, BATCH, shuffle=True, num_workers=WORKERS, drop_last=True)


def plain_loading(folder: Path) -> Iterator[int]:
    loader = plain_loader(folder)
    yield 0
    for images, _ in loader:
        yield len(images)


def plain_training(folder: Path) -> Iterator[int]:
    model, criterion = network(), nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer, loader = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True), plain_loader(folder)
    yield 0
    for images, labels in loader:
        loss = criterion(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        yield len(images)


def own_loading(folder: Path) -> Iterator[int]:
    data = load_data(folder, image_size=SIZE)
    order = draw_order(data.train)
    yield 0
    for _, images, _ in read_batches(data.train, order.split(BATCH), WORKERS, lambda part, indices: None):
        yield len(data.preprocessing.normalize(images))


def own_training(folder: Path) -> Iterator[int]:
    config = RunConfig(
        data=str(folder), model="loading:network", image_size=SIZE, batch_size=BATCH, workers=WORKERS, epochs=1,
        warmup_epochs=0, lr=1e-3, recipe="scratch", channels_last=False,
    )  # fmt: skip
    run = Trainer(config, load_data(folder, image_size=SIZE), {"loading:network": network})
    yield 0
    run.train_epoch(0, lambda done, of: None)
    yield run.steps * BATCH


def measure(loop: Callable[[Path], Iterator[int]], folder: Path) -> tuple[float, float]:
    """Return images a second, and CPU milliseconds an image, of one pass after a loop's first answer."""
    batches = loop(folder)
    next(batches)
    begin, cpu = time.perf_counter(), cpu_seconds()
    count = sum(batches)
    return count / (time.perf_counter() - begin), 1000 * (cpu_seconds() - cpu) / count


def compare(folder: Path) -> None:
    """Measure both kinds of loops in turn, and print a table."""
    print("| what | images a second | plain loop | ratio | CPU ms an image | plain loop | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, own, plain in (("loader", own_loading, plain_loading), ("training", own_training, plain_training)):
        found: dict[Any, list[tuple[float, float]]] = {own: [], plain: []}
        for turn in range(ROUNDS):
            for loop in (own, plain) if turn % 2 else (plain, own):
                found[loop].append(measure(loop, folder))
        cells = []
        for mine, other in zip(zip(*found[own], strict=True), zip(*found[plain], strict=True), strict=True):
            low, middle, high = statistics.quantiles([a / b for a, b in zip(mine, other, strict=True)], n=4)
            cells += [spread(mine), spread(other), f"{middle:.3f} ({low:.3f} to {high:.3f})"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def spread(values: Sequence[float]) -> str:
    """Describe values by their median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def make_shards(source: Path, folder: Path, size: int) -> Path:
    """Write a WebDataset of a size in bytes: a tenth each, or a shard, for validation and test."""
    contents = []
    for path in sorted(source.glob("JPEGImages/*.jpg")):
        content = io.BytesIO()
        with Image.open(path) as image:
            image.save(content, "JPEG", quality=99, subsampling=0)
        contents.append(content.getvalue())
    folder.mkdir()
    count = size // SHARD
    others = max(1, count // 10)
    for shard in range(count):
        part = {0: "val", 1: "test"}.get(shard // others, "train")
        write_shard(folder / f"{part}-{shard:03d}.tar", contents, shard)
    return folder


def write_shard(path: Path, contents: list[bytes], shard: int) -> None:
    with tarfile.open(path, "w") as archive:
        for index in range(10**6):
            image = contents[(index + 97 * shard) % len(contents)]
            for suffix, content in (("jpg", image), ("cls", str(index % CLASSES).encode())):
                member = tarfile.TarInfo(f"{index:06d}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            if archive.offset > SHARD:
                return


def memory(process: int) -> tuple[float, float]:
    """Return RSS and PSS, in MB, of a process and all that it started."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            children.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    tree = [process]
    for each in tree:
        tree += children.get(each, [])
    found = {"Rss": 0.0, "Pss": 0.0}
    for each in tree:
        with suppress(OSError):
            for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in found:
                    found[name] += int(value.split()[0]) / 1024
    return found["Rss"], found["Pss"]


def train_on(shards: Path) -> str:
    """Train one epoch with the command; return a line of the table."""
    size = sum(path.stat().st_size for path in shards.glob("*.tar"))
    options = {"model": "small_cnn", "data": f"wds/{shards}", "image-size": 32, "epochs": 1, "workers": WORKERS,
               "lr": 1e-3, "warmup-epochs": 0, "batch-size": BATCH, "output": shards / "run"}  # fmt: skip
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    begin, peak = time.perf_counter(), (0.0, 0.0)
    process = subprocess.Popen([sys.executable, "-m", "foveal", "train", *flags], stdout=subprocess.DEVNULL)  # noqa: S603
    while process.poll() is None:
        peak = tuple(map(max, zip(peak, memory(process.pid), strict=True)))  # type: ignore[assignment]
        time.sleep(0.2)
    if process.returncode:
        raise RuntimeError(f"foveal train ended with {process.returncode}")
    seconds = time.perf_counter() - begin
    images = sum(map(len, load_data(f"wds/{shards}").split.values()))
    return f"| {size / 1e9:.2f} GB, {images:,} images | {seconds:.0f} | {peak[0]:.0f} | {peak[1]:.0f} |"


def main(source: Path) -> None:
    """Measure loading and memory, and print the page."""
    print(f"# Loading of images\n\n{__doc__.partition(chr(10) * 2)[2].partition(chr(10) * 2)[2]}")
    print(f"{processor()}, {cores()} cores; {versions()}; {ROUNDS} turns.\n")
    with tempfile.TemporaryDirectory() as place:
        compare(make_folder(source, Path(place) / "photographs"))
        print("\n| WebDataset | seconds | peak RSS, MB | peak PSS, MB |\n| --- | ---: | ---: | ---: |")
        for size in (4 * SHARD, 40 * SHARD):
            shards = make_shards(source, Path(place) / f"shards-{size}", size)
            print(train_on(shards), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
