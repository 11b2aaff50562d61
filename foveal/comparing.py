"""Compare: contenders, seeds, one recipe for all; a table and what each contender attends to.

Everything but the mechanism is the same for all contenders of a seed: the split, the order of the images, the start of
the backbone, the epochs, the learning rate. Runs are jobs, spread over the cores with one thread each; a finished job
is not run again.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from foveal.costs import Cost, costs
from foveal.data import load_data
from foveal.naming import slug
from foveal.networks import create_model
from foveal.settings import Recipe, Settings
from foveal.training import Result, read_lines, train

CONTENDERS = ("none", "stn", "se", "sk:groups=8", "cbam")
BACKBONE = "small_cnn"
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}


@dataclass(frozen=True)
class Row:
    """A contender's figures; errors in per cent of the test part, one a seed."""

    name: str
    errors: tuple[float, ...]
    cost: Cost

    @property
    def mean(self) -> float:
        return statistics.mean(self.errors)

    @property
    def spread(self) -> float:
        """The standard deviation over seeds; 0 for one seed."""
        return statistics.stdev(self.errors) if len(self.errors) > 1 else 0.0


@dataclass(frozen=True)
class Comparison:
    """What was compared, and how it ended."""

    folder: Path
    backbone: str
    recipe: Recipe
    rows: tuple[Row, ...]
    seconds: float


def compare(
    contenders: Sequence[str] = CONTENDERS,
    data: str | None = None,
    backbone: str | None = None,
    seeds: int = 3,
    epochs: int | None = None,
    output: str | Path | None = None,
    *,
    recipe: Recipe | None = None,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Comparison:
    """Train contenders over several seeds with one recipe, and measure what each costs.

    In a script of your own, call it under `if __name__ == "__main__":`, since its jobs are processes.

    Args:
        contenders: "none" for the plain backbone, or a mechanism with its options, as "sk:groups=8".
        data: as for `foveal.load_data`; the recipe's if left out, as `epochs`.
        backbone: as for `foveal.create_model`; `small_cnn` if left out.
        seeds: how many.
        epochs: of each run.
        output: the folder; named after data and backbone if left out. The same comparison is continued there, also
            with more contenders or seeds.
        recipe: all that the runs share.
        on_progress: told the number of epochs done and of all.

    Raises:
        ValueError: no contender, or one twice; one that cannot stand in the backbone; no seeds; a folder that holds
            another comparison.
    """
    begin = time.perf_counter()
    recipe = recipe or Recipe()
    recipe = replace(recipe, data=data or recipe.data, epochs=recipe.epochs if epochs is None else epochs)
    backbone = backbone or BACKBONE
    check(contenders, seeds)
    loaded = load_data(recipe.data, image_size=recipe.image_size, groups=recipe.groups)
    networks = {
        name: create_model(spec(backbone, name), num_classes=len(loaded.classes), in_chans=loaded.shape[0]).eval()
        for name in contenders
    }
    folder = Path(output) if output else Path("runs") / slug(f"{recipe.data}-{backbone}")
    prepare(folder, {"backbone": backbone, **asdict(recipe)})
    measured = costs(networks, loaded.shape)
    longest_first = sorted(contenders, key=lambda name: -measured[name].milliseconds)  # no core waits for a late one
    jobs = {
        job_folder(folder, name, seed): Settings(**asdict(recipe), model=spec(backbone, name), seed=seed)
        for name in longest_first
        for seed in range(seeds)
    }
    results = run_jobs(jobs, on_progress)
    rows = []
    for name in contenders:
        errors = [100 * (1 - results[job_folder(folder, name, seed)].accuracy) for seed in range(seeds)]
        rows.append(Row(name, tuple(errors), measured[name]))
    (folder / "results.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return Comparison(folder, backbone, recipe, tuple(rows), time.perf_counter() - begin)


def check(contenders: Sequence[str], seeds: int) -> None:
    if seeds < 1:
        raise ValueError(f"seeds={seeds}: one or more")
    if not contenders:
        raise ValueError("contenders: none given; 'none' is the plain backbone")
    twice = next((name for name in contenders if list(contenders).count(name) > 1), None)
    if twice:
        raise ValueError(f"contender {twice!r} is named twice")


def spec(backbone: str, contender: str) -> str:
    return backbone if contender == "none" else f"{backbone}+{contender}"


def job_folder(folder: Path, contender: str, seed: int) -> Path:
    return folder / f"{slug(contender)}-{seed}"


def prepare(folder: Path, plan: dict[str, Any]) -> None:
    """The folder of a comparison; contenders and seeds may be added to it, nothing else may differ."""
    path = folder / "comparison.json"
    held = json.loads(path.read_text()) if path.is_file() else plan
    differ = next((name for name, value in plan.items() if held.get(name) != value), None)
    if differ:
        raise ValueError(
            f"output={str(folder)!r} holds a comparison with another {differ}, {held.get(differ)!r}; "
            "name another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plan, indent=1))


def run_jobs(jobs: dict[Path, Settings], on_progress: Callable[[int, int], None]) -> dict[Path, Result]:
    """Run jobs side by side, a process a core. Progress is read from what the jobs write."""
    of = sum(job.epochs for job in jobs.values())
    workers = min(len(jobs), cores())
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,))
    with keeping_memory(), pool:
        futures = {pool.submit(run_job, job, folder): folder for folder, job in jobs.items()}
        waiting = set(futures)
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                on_progress(sum(epochs_done(folder) for folder in jobs), of)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return {folder: future.result() for future, folder in futures.items()}


@contextmanager
def keeping_memory() -> Iterator[None]:
    """For processes started meanwhile: glibc keeps what was freed, since pages for fresh large tensors cost time."""
    earlier = dict(os.environ)
    os.environ.update({name: value for name, value in MALLOC.items() if name not in earlier})
    try:
        yield
    finally:
        for name in MALLOC:
            if name not in earlier:
                os.environ.pop(name, None)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_job(settings: Settings, folder: Path) -> Result:
    return train(settings, folder, resume=True)


def epochs_done(folder: Path) -> int:
    return sum("epoch" in line for line in read_lines(folder))
