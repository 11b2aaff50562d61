"""Start of train, score and predict on large folders of images: seconds after the imports, and memory.

    python -m benchmarks.data [FOLDER OF AN EARLIER VERSION] > benchmarks/data.md

Two folders are made: 100,000 icons of 32 x 32 pixels in 100 classes, each a file of its own, and 20,000 photographs of
640 x 480 in ten classes, which are links to 40 files. Each verb starts in a process of its own, from the end of the
imports to the first step of training, the loaded parts, or the first predicted batch: first without a cache, then again
with it. The files themselves are in the memory of the operating system. CPU seconds are those of all processes, which
other work on the machine does not lengthen much.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = {"icons": (100_000, 100, (32, 32), ".png"), "photographs": (20_000, 10, (640, 480), ".jpg")}
DISTINCT = 40  # photographs
OTHERS = ("score", "predict")
START = "--start"


class StartedError(Exception):
    """The first step of training is done."""


def make(folder: Path, kind: str) -> Path:
    """Write a folder of images."""
    count, classes, (width, height), suffix = KINDS[kind]
    stream, contents = np.random.default_rng(0), []
    for index in range(DISTINCT):
        coarse = Image.fromarray(stream.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        path = folder / f"source-{index}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(path)
        contents.append((path, path.read_bytes()))
    for label in range(classes):
        place = folder / kind / f"class-{label:03}"
        place.mkdir(parents=True)
        for index in range(count // classes):
            path, content = contents[index % DISTINCT]
            if kind == "photographs":
                os.link(path, place / f"{index:05}{suffix}")
            else:
                (place / f"{index:05}{suffix}").write_bytes(content)
    return folder / kind


def start(verb: str, folder: str, run: str) -> None:
    """Start a verb in this process; print seconds after the imports, and memory in MB before and after."""
    from foveal.training.config import RunConfig
    from foveal.training.load_model import load_model
    from foveal.training.train import train
    from foveal.training.trainer import Trainer

    def stop(done: int, of: int) -> None:
        raise StartedError

    config = RunConfig(data=f"folder:{folder}", image_size=32, epochs=1, warmup_epochs=0, lr=1e-3, recipe="scratch")
    if verb == "prepare":
        from foveal.data.load_data import load_data

        Path(run).mkdir()
        Trainer(config, load_data(config.data, image_size=32)).save(Path(run) / "best.safetensors", lines=[])
        return
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    opened = None if verb == "train" else load_model(run)
    begin, cpu = time.perf_counter(), cpu_seconds()
    try:
        if verb == "train":
            with tempfile.TemporaryDirectory() as output:
                train(config, Path(output) / "run", on_step=stop)
        elif verb == "score":
            opened.load_data(folder)
        else:
            next(iter(opened.predictions(folder)))
    except StartedError:
        pass
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "cpu": cpu_seconds() - cpu, "before": before, "after": after}))


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def in_process(package: Path, cache: Path, *arguments: str) -> dict[str, float]:
    """Start a verb in a new process with the foveal of a folder."""
    environment = {**os.environ, "PYTHONPATH": str(package), "FOVEAL_CACHE": str(cache)}
    command = [sys.executable, __file__, START, *arguments]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}


def row(kind: str, verb: str, name: str, found: dict[str, float]) -> str:
    figures = (f"{found['seconds']:.1f}", f"{found['cpu']:.1f}", f"{found['after']:.0f} ({found['before']:.0f})")
    return f"| {kind} | {verb} | {name} | {' | '.join(figures)} |"


def main(earlier: Path | None) -> None:
    """Measure all kinds, verbs and versions, and print a table."""
    from foveal.profiling.environment import cores, processor, versions

    here = Path(__file__).resolve().parents[1]
    print("# Start on large folders of images\n\nTwo folders" + __doc__.partition("Two folders")[2])
    print(f"{processor()}, {cores()} cores; {versions()}\n")
    print("| folder | verb | start | seconds | CPU seconds | MB at most (after the imports) |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as place:
            folder, run, cache = make(Path(place), kind), str(Path(place) / "run"), Path(place) / "cache"
            time.sleep(2.5)  # files that are younger are examined again
            in_process(here, Path(place) / "other", "prepare", str(folder), run)
            starts = [("train", "first", here), ("train", "again", here), *((verb, "again", here) for verb in OTHERS)]
            if earlier:
                starts.insert(0, ("train", "earlier version", earlier))
            for verb, name, package in starts:
                print(row(kind, verb, name, in_process(package, cache, verb, str(folder), run)), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == [START]:
        start(*sys.argv[2:])
    else:
        main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None)
