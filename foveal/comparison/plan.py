"""The plan of a comparison: its contenders by name, the settings of each run, what all of it costs. Nothing is trained.

A contender is `none`, the plain backbone; a mechanism with its options, `sk:groups=8`, or several, `stn+se`; a control,
`wider` or `deeper`, the plain backbone made as large as the dearest contender; or any of these under another name,
`twin=none`. The dearest is the one with the most parameters, `wider:match=macs` and `wider:match=ms` go by what they
say; what a control was found to be is kept in the folder, so that it stays the same network.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch

from foveal.comparison.jobs import workers
from foveal.core.names import lookup, slug
from foveal.data.load_data import load_data
from foveal.data.parts import Data
from foveal.networks.factory import create_model
from foveal.networks.match_cost import scale_to_cost
from foveal.profiling.costs import BATCH, Cost, costs, count_macs, count_parameters
from foveal.profiling.timing import time_inference
from foveal.training.config import CompareConfig, RunConfig, TrainConfig
from foveal.training.run_folder import read_lines

CONTENDERS = ("none", "wider", "stn", "se", "sk:groups=8", "cbam")
Control = Literal["wider", "deeper"]
CONTROLS: tuple[Control, ...] = ("wider", "deeper")
MATCHES: dict[str, Callable[..., float]] = {
    "parameters": lambda network, shape, layout: count_parameters(network),
    "macs": lambda network, shape, layout: count_macs(network, shape),
    "ms": lambda network, shape, layout: milliseconds(network, shape, layout),
}
FILE = "comparison.json"
START = 4.0  # seconds until a process of a comparison trains


@dataclass(frozen=True)
class Plan:
    """What will be run, where, and about how long it takes."""

    folder: Path
    config: CompareConfig
    models: dict[str, str]  # contender to the network's name, as `foveal.create_model` takes it
    costs: dict[str, Cost]
    seconds: dict[str, float]  # of one run, estimated
    skipped: dict[str, str] = field(default_factory=dict)  # files of the data that are left out, with the reason
    given: tuple[str, ...] = ()  # the contenders as somebody typed them

    @property
    def baseline(self) -> str:
        """The contender that the others are judged against: the plain backbone, else the first."""
        return next(
            (name for name, model in self.models.items() if model == self.config.backbone), next(iter(self.models))
        )

    @property
    def minutes(self) -> float:
        """Estimated, of what is not done yet."""
        folders = {folder: name for name in self.models for folder in (*self.runs(name), *self.trials(name))}
        left = (self.seconds[name] * (1 - epochs_done(folder) / self.config.epochs) for folder, name in folders.items())
        return sum(left) / workers() / 60

    def runs(self, contender: str) -> list[Path]:
        """The folder of each seed."""
        return [self.folder / f"{slug(contender)}-{seed}" for seed in range(self.config.seeds)]

    def trials(self, contender: str) -> list[Path]:
        """The folder of each trial for the learning rate."""
        return [self.folder / f"{slug(contender)}-tune" / f"trial-{number}" for number in range(self.config.tune)]

    def run_config(self, contender: str, seed: int, lr: float | None = None) -> RunConfig:
        shared = {each.name: getattr(self.config, each.name) for each in fields(TrainConfig)}
        changed = {} if lr is None else {"lr": lr}
        return RunConfig(**{**shared, **changed}, model=self.models[contender], seed=seed, name=contender)

    def __str__(self) -> str:
        tuned = f", trials for the learning rate: {self.config.tune}" if self.config.tune else ""
        lines = [
            f"{self.config.data}, epochs: {self.config.epochs}, seeds: {self.config.seeds}{tuned}; in {self.folder}",
            *(
                f"  {name}: {model}, {self.costs[name].parameters:,} parameters, "
                f"{self.costs[name].macs / 1e6:.1f} MMACs, about {self.seconds[name]:.0f} s a run"
                for name, model in self.models.items()
            ),
            *(f"  left out {name}: {reason}" for name, reason in self.skipped.items()),
            f"about {self.minutes:.1f} minutes with {workers()} at a time",
        ]
        return "\n".join(lines)

    def write(self) -> None:
        """Into the folder, beside what is planned there already."""
        held = held_in(self.folder)
        models = {**held.get("contenders", {}), **self.models}
        plan = {**fixed(self.config), "contenders": models}
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / FILE).write_text(json.dumps(plan, indent=1))


def make_plan(contenders: Sequence[str], config: CompareConfig, output: str | Path | None = None) -> Plan:
    """What `foveal.compare` would run; everything that can be wrong with it shows here, before anything is written.

    Args:
        contenders, config, output: as for `foveal.compare`.

    Raises:
        ValueError: no contender, or one twice; one that cannot stand in the backbone; a folder that holds another
            comparison, or something else.
    """
    if config.tune and find_spec("optuna") is None:
        raise ValueError(f"tune={config.tune}: optuna is missing; pip install foveal[tune]")
    named = by_name(contenders)
    data = load_data(config.data, image_size=config.image_size, groups=config.groups)
    folder = Path(output) if output else Path("runs") / slug(f"{config.data}-{config.backbone}")
    held = held_in(folder)
    check_held(folder, held, fixed(config))
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    models = as_networks(named, config.backbone, held.get("contenders", {}), data, layout)
    check_held(folder, held.get("contenders", {}), models)
    networks = {name: build(model, data).eval().to(memory_format=layout) for name, model in models.items()}
    measured = costs(networks, data.shape, config.batch_size, layout)
    seconds = {name: estimate(cost, config, data) for name, cost in measured.items()}
    return Plan(folder, config, models, measured, seconds, data.skipped, tuple(contenders))


def fixed(config: CompareConfig) -> dict[str, Any]:
    """The settings of a comparison that may not change while it is continued: all but the number of seeds."""
    return {name: value for name, value in asdict(config).items() if name != "seeds"}


def by_name(contenders: Sequence[str]) -> dict[str, str]:
    """What each contender adds to the backbone, by its name."""
    if not contenders:
        raise ValueError("contenders: none given; 'none' is the plain backbone")
    named: dict[str, str] = {}
    for each in contenders:
        name, renamed, what = each.partition("=")
        name, what = (name, what) if renamed and ":" not in name else (each, each)
        if not name or not what:
            raise ValueError(f"contender {each!r}: NAME=CONTENDER is needed")
        if slug(name) in map(slug, named):
            raise ValueError(f"contender {name!r} is named twice; another name for it: twin={what}")
        named[name] = what
    return named


def held_in(folder: Path) -> dict[str, Any]:
    """The plan that a folder holds; nothing where it is new."""
    path = folder / FILE
    if path.is_file():
        return json.loads(path.read_text())
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"output={str(folder)!r} holds something else than a comparison; name another folder")
    return {}


def check_held(folder: Path, held: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Contenders and seeds may be added to a comparison; nothing else may differ."""
    differ = next((name for name, value in wanted.items() if held.get(name, value) != value), None)
    if differ is not None:
        raise ValueError(
            f"output={str(folder)!r} holds a comparison with another {differ}, {held[differ]!r}; name another folder"
        )


def as_networks(
    named: Mapping[str, str], backbone: str, frozen: Mapping[str, str], data: Data, layout: torch.memory_format
) -> dict[str, str]:
    """The network's name for each contender; a control keeps that of the folder."""
    models = {name: network_name(backbone, what) for name, what in named.items() if control_of(what) is None}
    for name, what in named.items():
        control = control_of(what)
        if control is not None:
            models[name] = frozen.get(name) or match_to_costliest(control, what, models, backbone, data, layout)
    return {name: models[name] for name in named}


def control_of(what: str) -> Control | None:
    return next((control for control in CONTROLS if what.partition(":")[0] == control), None)


def network_name(backbone: str, what: str) -> str:
    return backbone if what == "none" else f"{backbone}+{what}"


def match_to_costliest(
    control: Control, what: str, models: Mapping[str, str], backbone: str, data: Data, layout: torch.memory_format
) -> str:
    """The plain backbone made as large as the dearest of some networks."""
    option = what.partition(":")[2] or "match=parameters"
    key, _, match = option.partition("=")
    lookup("option of a control", key, {"match": None})
    lookup("match", match, MATCHES)
    attentive = [model for model in models.values() if model != backbone]
    if not attentive:
        raise ValueError(f"contender {what!r}: there is no contender with attention to be as large as")

    cost = partial(MATCHES[match], shape=data.shape, layout=layout)
    budget = max(cost(build(model, data)) for model in attentive)
    device = "cpu" if match == "ms" else "meta"
    return scale_to_cost(backbone, control, budget, cost, device, num_classes=len(data.classes), in_chans=data.shape[0])


def milliseconds(network: torch.nn.Module, shape: tuple[int, int, int], layout: torch.memory_format) -> float:
    """Of a large batch's answer."""
    images = torch.rand(BATCH, *shape).contiguous(memory_format=layout)
    return time_inference({"": network.to(memory_format=layout)}, images)[""]


def build(model: str, data: Data) -> torch.nn.Module:
    return create_model(model, num_classes=len(data.classes), in_chans=data.shape[0])


def estimate(cost: Cost, config: TrainConfig, data: Data) -> float:
    """Seconds of one run: its training steps, with the images that they read, and two parts to answer."""
    begin = time.perf_counter()
    data.train.__getitems__(range(min(BATCH, len(data.train))))
    reading = (time.perf_counter() - begin) / BATCH
    steps = len(data.train) // config.batch_size
    answering = cost.batch / 1000 / BATCH + reading
    epoch = steps * (cost.step / 1000 + config.batch_size * reading) + len(data.validation) * answering
    return START + config.epochs * epoch + len(data.test) * answering


def epochs_done(folder: Path) -> int:
    return sum("epoch" in line for line in read_lines(folder))
