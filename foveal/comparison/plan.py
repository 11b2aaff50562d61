"""Plan of a comparison: contenders, settings of each run, and estimated cost. Nothing is trained.

A contender is `none`, the plain backbone; one mechanism or several with options, `sk:groups=8` or `stn+se`; a control,
`wider` or `deeper`; or any of these under another name, `twin=none`. A control is the plain backbone widened or
deepened to the parameter count of the most expensive contender; `wider:match=macs` and `wider:match=ms` match MACs and
milliseconds instead. The network that was found for a control is stored in the folder, so that it stays the same.
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
from foveal.networks.match_cost import MOST, UNIT, scale_to_cost
from foveal.networks.spec import parse_options
from foveal.profiling.costs import BATCH, Cost, costs, count_macs, count_parameters
from foveal.profiling.timing import time_inference
from foveal.training.config import CompareConfig, RunConfig, TrainConfig
from foveal.training.read_config import check_settings, read_json
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
BLOCKS, LONGEST = 1000, 1000  # of a stored control at most: more blocks take long to build; characters of a name
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

    @property
    def baseline(self) -> str:
        """The contender that the others are compared with: the plain backbone, else the first."""
        return next(
            (name for name, model in self.models.items() if model == self.config.backbone), next(iter(self.models))
        )

    @property
    def minutes(self) -> float:
        """Estimated time of the unfinished jobs, in minutes."""
        folders = {folder: name for name in self.models for folder in (*self.runs(name), *self.trials(name))}
        left = (self.seconds[name] * (1 - epochs_done(folder) / self.config.epochs) for folder, name in folders.items())
        return sum(left) / workers() / 60

    def runs(self, contender: str) -> list[Path]:
        """Return the folder of each seed."""
        return [self.folder / f"{slug(contender)}-{seed}" for seed in range(self.config.seeds)]

    def trials(self, contender: str) -> list[Path]:
        """Return the folder of each learning-rate trial."""
        return [self.folder / f"{slug(contender)}-tune" / f"trial-{number}" for number in range(self.config.tune)]

    def run_config(self, contender: str, seed: int, lr: float | None = None) -> RunConfig:
        """Return the settings of one run."""
        shared = {each.name: getattr(self.config, each.name) for each in fields(TrainConfig)}
        changed = {} if lr is None else {"lr": lr}
        return RunConfig(**{**shared, **changed}, model=self.models[contender], seed=seed, name=contender)

    def __str__(self) -> str:
        tuned = f", learning-rate trials: {self.config.tune}" if self.config.tune else ""
        lines = [
            f"{self.config.data}, epochs: {self.config.epochs}, seeds: {self.config.seeds}{tuned}; in {self.folder}",
            *(
                f"  {name}: {model}, {self.costs[name].parameters:,} parameters, "
                f"{self.costs[name].macs / 1e6:.1f} MMACs, about {self.seconds[name]:.0f} s per run"
                for name, model in self.models.items()
            ),
            *(f"  skipped {name}: {reason}" for name, reason in self.skipped.items()),
            f"about {self.minutes:.1f} minutes with {workers()} parallel jobs",
        ]
        return "\n".join(lines)

    def write(self) -> None:
        """Write the plan to its folder, merged with the contenders of the plan that is already there."""
        stored = read_plan(self.folder)
        models = {**stored.get("contenders", {}), **self.models}
        plan = {**fixed(self.config), "contenders": models}
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / FILE).write_text(json.dumps(plan, indent=1))


def make_plan(contenders: Sequence[str], config: CompareConfig, output: str | Path | None = None) -> Plan:
    """Plan a comparison and check its arguments before anything is written.

    Args:
        contenders, config, output: As for `foveal.compare`.

    Raises:
        ValueError: If there is no contender or one is named twice, a contender cannot be attached to the backbone, or
            the folder holds another comparison or other files.
    """
    if config.tune and find_spec("optuna") is None:
        raise ValueError(f"tune={config.tune}: optuna is missing; pip install foveal[tune]")
    named = by_name(contenders)
    data = load_data(config.data, image_size=config.image_size, groups=config.groups)
    folder = Path(output) if output else Path("runs") / slug(f"{config.data}-{config.backbone}")
    stored = read_plan(folder)
    check_same(folder, stored, fixed(config))
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    models = as_networks(named, config.backbone, stored.get("contenders", {}), data, layout)
    check_same(folder, stored.get("contenders", {}), models)
    networks = {name: build(model, data).eval().to(memory_format=layout) for name, model in models.items()}
    measured = costs(networks, data.shape, config.batch_size, layout)
    seconds = {name: estimate(cost, config, data) for name, cost in measured.items()}
    return Plan(folder, config, models, measured, seconds, data.skipped, tuple(contenders))


def fixed(config: CompareConfig) -> dict[str, Any]:
    """Return the settings that must not change when a comparison is continued: all except the number of seeds."""
    return {name: value for name, value in asdict(config).items() if name != "seeds"}


def by_name(contenders: Sequence[str]) -> dict[str, str]:
    """Parse contenders: map each name to what it adds to the backbone."""
    if not contenders:
        raise ValueError("contenders: the list is empty; name at least one, such as 'none' (the plain backbone)")
    named: dict[str, str] = {}
    for each in contenders:
        name, renamed, what = each.partition("=")
        name, what = (name, what) if renamed and ":" not in name else (each, each)
        if not name or not what:
            raise ValueError(f"contender {each!r}: must have the form CONTENDER or NAME=CONTENDER")
        if slug(name) in map(slug, named):
            raise ValueError(f"contender {name!r} is named twice; give one of them another name: twin={what}")
        named[name] = what
    return named


def read_plan(folder: Path) -> dict[str, Any]:
    """Read the plan in a folder; return an empty one if the folder is new or empty."""
    path = folder / FILE
    if path.is_file():
        stated = read_json(path)
        contenders = stated.pop("contenders", {})
        check_settings(path, stated, CompareConfig)
        return {**stated, "contenders": check_contenders(path, contenders, stated.get("backbone", ""))}
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"output={str(folder)!r} contains files but no comparison; choose another folder")
    return {}


def check_contenders(path: Path, stated: Any, backbone: str) -> dict[str, str]:
    """Check the contenders in a file: to each name that of a network, the backbone scaled or with attention.

    Raises:
        ValueError: another value.
    """
    if not isinstance(stated, dict):
        raise ValueError(f"{path}: contenders={stated!r:.80}; networks by name are needed")
    for name, model in stated.items():
        if not isinstance(model, str) or len(model) > LONGEST or not is_made_of(model, backbone):
            raise ValueError(
                f"{path}: contenders, {name}={model!r:.80}; the backbone {backbone!r:.80} is needed, scaled or with "
                "attention"
            )
    return stated


def is_made_of(model: str, backbone: str) -> bool:
    """Return True for the name of a backbone, alone, with attention, or scaled as `scale_to_cost` does at most."""
    rest = model.removeprefix(backbone)
    if not model.startswith(backbone) or rest[:1] not in ("", "+", ":", ","):
        return False
    try:
        scale = parse_options(model, rest[1:]) if rest[:1] in (":", ",") else {}
    except ValueError:
        return False
    most = {"width": MOST / UNIT, "extra_blocks": BLOCKS}
    return all(isinstance(value, int | float) and 0 <= value <= most.get(key, -1) for key, value in scale.items())


def check_same(folder: Path, stored: Mapping[str, Any], planned: Mapping[str, Any]) -> None:
    """Raise a ValueError if a stored value differs from the planned one; new entries are allowed."""
    differ = next((name for name, value in planned.items() if stored.get(name, value) != value), None)
    if differ is not None:
        raise ValueError(
            f"output={str(folder)!r} contains a comparison with another {differ}, {stored[differ]!r:.80}; "
            "choose another folder"
        )


def as_networks(
    named: Mapping[str, str], backbone: str, frozen: Mapping[str, str], data: Data, layout: torch.memory_format
) -> dict[str, str]:
    """Map each contender to its network's name; a control keeps the name stored in the folder."""
    models = {name: network_name(backbone, what) for name, what in named.items() if control_of(what) is None}
    for name, what in named.items():
        control = control_of(what)
        if control is not None:
            models[name] = frozen.get(name) or match_to_costliest(control, what, models, backbone, data, layout)
    return {name: models[name] for name in named}


def control_of(what: str) -> Control | None:
    """Return the control that a contender is, or None."""
    return next((control for control in CONTROLS if what.partition(":")[0] == control), None)


def network_name(backbone: str, what: str) -> str:
    """Return the network's name of a contender that is not a control."""
    return backbone if what == "none" else f"{backbone}+{what}"


def match_to_costliest(
    control: Control, what: str, models: Mapping[str, str], backbone: str, data: Data, layout: torch.memory_format
) -> str:
    """Scale the plain backbone to the cost of the most expensive of some networks, and return its name."""
    option = what.partition(":")[2] or "match=parameters"
    key, _, match = option.partition("=")
    lookup("option of a control", key, {"match": None})
    lookup("match", match, MATCHES)
    attentive = [model for model in models.values() if model != backbone]
    if not attentive:
        raise ValueError(f"contender {what!r}: needs a contender with attention, to match its cost")

    cost = partial(MATCHES[match], shape=data.shape, layout=layout)
    budget = max(cost(build(model, data)) for model in attentive)
    device = "cpu" if match == "ms" else "meta"
    return scale_to_cost(backbone, control, budget, cost, device, num_classes=len(data.classes), in_chans=data.shape[0])


def milliseconds(network: torch.nn.Module, shape: tuple[int, int, int], layout: torch.memory_format) -> float:
    """Measure the milliseconds of a forward pass on a large batch."""
    images = torch.rand(BATCH, *shape).contiguous(memory_format=layout)
    return time_inference({"": network.to(memory_format=layout)}, images)[""]


def build(model: str, data: Data) -> torch.nn.Module:
    """Create a network for the classes and channels of the data."""
    return create_model(model, num_classes=len(data.classes), in_chans=data.shape[0])


def estimate(cost: Cost, config: TrainConfig, data: Data) -> float:
    """Estimate the seconds of one run: training steps with image loading, and evaluation on validation and test."""
    begin = time.perf_counter()
    data.train.__getitems__(range(min(BATCH, len(data.train))))
    reading = (time.perf_counter() - begin) / BATCH
    steps = len(data.train) // config.batch_size
    inference = cost.batch / 1000 / BATCH + reading
    epoch = steps * (cost.step / 1000 + config.batch_size * reading) + len(data.validation) * inference
    return START + config.epochs * epoch + len(data.test) * inference


def epochs_done(folder: Path) -> int:
    """Count the finished epochs of a run."""
    return sum("epoch" in line for line in read_lines(folder))
