"""Plan of a comparison: contenders, settings of each run, and estimated cost. Nothing is trained.

The network that was found for a control is stored in the folder, with how it was matched, so that it stays the same.
Where it is asked for in another way, or among other networks, it is matched again, and another network is refused.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from foveal.comparison.contenders import as_networks, baseline_of, build, by_name, matches_of, with_twin
from foveal.comparison.local_workers import count_local
from foveal.comparison.measure import ACCURACY, MEAN_AVERAGE_PRECISION, Measure
from foveal.comparison.same_network import check_distinct
from foveal.comparison.stored_contenders import check_contenders, check_controls, kept_controls
from foveal.comparison.tune import trial_config
from foveal.comparison.verdicts import FEWEST
from foveal.core.files import output_path, write_file
from foveal.core.folders import check_folder_is_ours
from foveal.core.functions import Functions, import_functions
from foveal.core.names import remark_lines, slug
from foveal.data.parts import Data
from foveal.profiling.costs import BATCH, Cost, costs
from foveal.training.compiled import check_compiler
from foveal.training.config import CompareConfig, RunConfig, TrainConfig
from foveal.training.criterion import check_loss
from foveal.training.read_config import check_settings, read_json
from foveal.training.recipes import resolve
from foveal.training.run_folder import CONFIG, check_same_settings, read_lines
from foveal.training.stored_split import check_resumed
from foveal.training.train import load_images

FILE = "comparison.json"
SPLITS = 6  # seeds whose test parts are compared; those of few groups may coincide
START = 4.0  # seconds from the start of a worker process to its first training step


@dataclass(frozen=True)
class Plan:
    """The runs of a comparison, their folders, costs and estimated times."""

    folder: Path
    config: CompareConfig
    models: dict[str, str]  # contender to the network's name for `foveal.create_model`
    costs: dict[str, Cost]
    seconds: dict[str, float]  # estimated time of one run
    skipped: dict[str, str] = field(default_factory=dict)  # skipped data files to the reason
    given: tuple[str, ...] = ()  # the contenders as the user wrote them
    notes: dict[str, str] = field(default_factory=dict)  # how data files were read, and classes that a part lacks
    twin: str | None = None  # name of the second training of the baseline
    functions: Functions = field(default_factory=dict)  # of the caller, for the backbone and the data, by name
    parallel: int = field(default_factory=count_local)  # number of jobs that run at the same time
    multi_label: bool = False  # an image of the data has any number of classes
    controls: dict[str, str] = field(default_factory=dict)  # how each control was matched

    @property
    def baseline(self) -> str:
        """The contender that the others are compared with."""
        return baseline_of(self.models, self.config.backbone)

    @property
    def measure(self) -> Measure:
        """What is measured of each run."""
        return MEAN_AVERAGE_PRECISION if self.multi_label else ACCURACY

    @property
    def minutes(self) -> float:
        """Estimated time of the unfinished jobs, in minutes."""
        folders = {folder: name for name in self.models for folder in (*self.runs(name).values(), *self.trials(name))}
        left = (self.seconds[name] * (1 - epochs_done(folder) / self.config.epochs) for folder, name in folders.items())
        return sum(left) / self.parallel / 60

    @property
    def seeds(self) -> range:
        """The seeds of the runs."""
        return range(self.config.seed, self.config.seed + self.config.seeds)

    def runs(self, contender: str) -> dict[int, Path]:
        """Return the folder of each seed."""
        return {seed: self.folder / f"{slug(contender)}-{seed}" for seed in self.seeds}

    def trials(self, contender: str) -> list[Path]:
        """Return the folder of each learning-rate trial; the twin has the rate of the baseline."""
        count = 0 if contender == self.twin else self.config.tune
        return [self.folder / f"{slug(contender)}-tune" / f"trial-{number}" for number in range(count)]

    def run_config(self, contender: str, seed: int, lr: float | None = None) -> RunConfig:
        """Return the settings of one run."""
        shared = {each.name: getattr(self.config, each.name) for each in fields(TrainConfig)}
        changed = {} if lr is None else {"lr": lr}
        own = {"model": self.models[contender], "name": contender, "copy": self.earlier(contender)}
        return RunConfig(**{**shared, **changed, **own}, seed=seed, data_seed=seed if self.config.resplit else 0)

    def earlier(self, contender: str) -> int:
        """Count the contenders of the same network before this one: each is trained from other initial weights."""
        names = [name for name, model in self.models.items() if model == self.models[contender]]
        return names.index(contender)

    def __str__(self) -> str:
        tuned = f", learning-rate trials: {self.config.tune}" if self.config.tune else ""
        lines = [
            f"{self.config.data}, epochs: {self.config.epochs}, seeds: {self.config.seeds}{tuned}; in {self.folder}",
            f"  recipe {self.config.recipe}: lr {self.config.lr:g}, warm-up epochs {self.config.warmup_epochs:g}, "
            f"batch size {self.config.batch_size}",
            *(
                f"  {name}: {model}, {self.costs[name].parameters:,} parameters, "
                f"{self.costs[name].macs / 1e6:.1f} MMACs, about {self.seconds[name]:.0f} s per run"
                for name, model in self.models.items()
            ),
            *(f"  {line}" for line in remark_lines(self.skipped, self.notes)),
            f"about {self.minutes:.1f} minutes with {self.parallel} parallel jobs",
        ]
        return "\n".join(lines)

    def write(self, overwrite: bool = False) -> None:
        """Write the plan to its folder, merged with the contenders of an earlier plan there, or in its place."""
        stored = {} if overwrite else read_plan(self.folder)
        models = {**stored.get("contenders", {}), **self.models}
        controls = {**stored.get("controls", {}), **self.controls}
        plan = {**fixed(self.config), "contenders": models, "controls": controls}
        write_file(self.folder / FILE, json.dumps(plan, indent=1) + "\n")


def make_plan(
    contenders: Sequence[str],
    config: CompareConfig,
    output: str | Path | None = None,
    overwrite: bool = False,
    functions: Functions | None = None,
) -> Plan:
    """Plan a comparison and check its arguments before anything is written.

    Args:
        contenders, config, output, overwrite: As for `foveal.compare`.
        functions: Functions that `config` names; others are imported.

    Raises:
        ValueError: If there is no contender, one is named twice or has the network of another in other words, a
            contender cannot be attached to the backbone, or the folder holds another comparison, runs with other
            settings or on other images, or other files.
    """
    check_tools(config)
    named = by_name(contenders)
    functions = import_functions((config.backbone, config.data), functions or {})
    data = load_images(config, functions)
    config = resolve(config, config.backbone, len(data.train))
    if config.resplit:
        check_resplit(config, data, functions)
    folder = output_path(output) if output else Path("runs") / slug(f"{config.data}-{config.backbone}")
    stored = {} if overwrite else read_plan(folder)
    check_same(folder, stored, fixed(config))
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    controls = matches_of(named, config.backbone)
    models = as_networks(named, config.backbone, kept_controls(stored, controls), data, layout)
    check_same(folder, stored.get("contenders", {}), models, "another folder, or another name for this contender")
    measured = costs(build_networks(models, config, data, functions, layout), data.shape, config.micro_batch, layout)
    seconds = {name: estimate(cost, config, data) for name, cost in measured.items()}
    twin = None
    if config.baselines == 2 and config.seeds >= FEWEST and len(models) > 1:
        models, twin = with_twin(models, config.backbone)
        baseline = baseline_of(models, config.backbone)
        measured[twin], seconds[twin] = measured[baseline], seconds[baseline]
    given = tuple(contenders)
    plan = Plan(
        folder,
        config,
        models,
        measured,
        seconds,
        data.skipped,
        given,
        data.remarks,
        twin,
        functions,
        multi_label=data.multi_label,
        controls=controls,
    )
    if not overwrite:
        check_started(plan, data)
    return plan


def check_tools(config: CompareConfig) -> None:
    """Refuse settings whose package or compiler is missing."""
    if config.tune and find_spec("optuna") is None:
        raise ValueError(f"tune={config.tune}: optuna is missing; pip install foveal[tune]")
    if config.compile:
        check_compiler(Accelerator().device)


def build_networks(
    models: Mapping[str, str], config: CompareConfig, data: Data, functions: Functions, layout: torch.memory_format
) -> dict[str, torch.nn.Module]:
    """Build the contenders' networks, which must differ, in evaluation mode, on the device on which the runs are."""
    device, networks = Accelerator().device, {}
    for name, model in models.items():
        network = build(model, data, functions)
        check_loss(config, data, model, network)
        networks[name] = network.eval().to(device).to(memory_format=layout)
    check_distinct(models, networks)
    return networks


def check_started(plan: Plan, data: Data) -> None:
    """Check that the runs that are continued have the plan's settings, and get the images of their finished epochs."""
    tuned = {"lr"} if plan.config.tune else set()  # each job compares the rate that it is given
    for name in plan.models:
        for trial in plan.trials(name):
            check_same_settings(trial, trial_config(plan.run_config(name, 0)), tuned)
        for seed, run in plan.runs(name).items():
            check_same_settings(run, plan.run_config(name, seed), tuned)
    for run in (each for name in plan.models for each in plan.trials(name) if epochs_done(each)):
        check_resumed(run, data)
    for seed in plan.seeds:
        started = [run for name in plan.models if epochs_done(run := plan.runs(name)[seed])]
        own = load_images(plan.config, plan.functions, seed) if started and seed and plan.config.resplit else data
        for run in started:
            check_resumed(run, own)


def check_resplit(config: CompareConfig, data: Data, functions: Functions) -> None:
    """Raise a ValueError if data has the same test part with other seeds, too; two alone may have it by chance."""
    first = sorted(data.test.names)
    if all(sorted(load_images(config, functions, seed).test.names) == first for seed in range(1, SPLITS)):
        raise ValueError(
            f"resplit: data {config.data!r} has the same test part with each seed from 0 to {SPLITS - 1}, as published "
            "data has; leave resplit out"
        )


def fixed(config: CompareConfig) -> dict[str, Any]:
    """Return the settings that must not change when a comparison is continued: all except the number of runs."""
    return {name: value for name, value in asdict(config).items() if name not in ("seed", "seeds", "baselines")}


def read_plan(folder: Path) -> dict[str, Any]:
    """Read the plan in a folder; return an empty one if the folder holds none.

    Raises:
        ValueError: If the folder holds files that foveal did not write, or a run.
    """
    check_folder_is_ours(folder)
    path = folder / FILE
    if path.is_file():
        stated = read_json(path)
        contenders, controls = stated.pop("contenders", {}), check_controls(path, stated.pop("controls", {}))
        check_settings(path, stated, CompareConfig)
        stated = {**fixed(CompareConfig()), **stated}  # a file of an older version lacks settings
        contenders = check_contenders(path, contenders, stated.get("backbone", ""))
        return {**stated, "contenders": contenders, "controls": controls}
    if (folder / CONFIG).is_file():
        raise ValueError(f"output={str(folder)!r} holds a run and no comparison; name another folder")
    return {}


def check_same(
    folder: Path, stored: Mapping[str, Any], planned: Mapping[str, Any], instead: str = "another folder"
) -> None:
    """Raise a ValueError if a stored value differs from the planned one; new entries are allowed."""
    differ = next((name for name, value in planned.items() if stored.get(name, value) != value), None)
    if differ is not None:
        raise ValueError(
            f"output={str(folder)!r} contains a comparison with another {differ}, {stored[differ]!r:.80}; "
            f"choose {instead}"
        )


def estimate(cost: Cost, config: TrainConfig, data: Data) -> float:
    """Estimate the seconds of one run: training steps with image loading, and evaluation on validation and test."""
    begin = time.perf_counter()
    data.train.__getitems__(range(min(BATCH, len(data.train))))
    reading = (time.perf_counter() - begin) / BATCH
    steps = len(data.train) // config.batch_size
    inference = cost.batch / 1000 / BATCH + reading
    step = config.grad_accum_steps * cost.step / 1000
    epoch = steps * (step + config.batch_size * reading) + len(data.validation) * inference
    return START + config.epochs * epoch + len(data.test) * inference


def epochs_done(folder: Path) -> int:
    """Count the finished epochs of a run."""
    return sum("epoch" in line for line in read_lines(folder))
