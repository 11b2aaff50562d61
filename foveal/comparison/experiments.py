"""Experiments of papers: a description of each, and the figures that were kept from its runs.

A description is a file `experiments/NAME.yaml`; what `foveal reproduce NAME` obtained is kept beside it in
`experiments/NAME.json`. This file imports no heavy library, since `foveal reproduce` lists them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from foveal.core.names import lookup
from foveal.training.config import CompareConfig

SUFFIX = ".yaml"
ENCODER = "ENCODER"


@dataclass(frozen=True)
class Entry:
    """One entry of a paper's table.

    Attributes:
        name: What the paper calls it.
        contender: Of the comparison, see `foveal.comparison.contenders`.
        paper: The paper's figure; None where the paper has no such number.
        figure: What is measured, a name of `foveal.comparison.figures.FIGURES`.
    """

    name: str
    contender: str
    paper: float | None = None
    figure: str = "error"


@dataclass(frozen=True)
class Experiment:
    """Description of an experiment.

    Attributes:
        name: For `foveal reproduce`.
        title: What is trained on what.
        source: Paper and table.
        settings: Of the comparison, fields of `foveal.CompareConfig`.
        quick: The settings that are others with `--quick`.
        entries: The entries of the paper's table.
        changes: What differs from the paper.
        tried: What was tried where a figure misses the paper's.
        cost: What is expected of a run that nobody has made yet; empty otherwise.
        encoder: Settings of a run, fields of `foveal.RunConfig`, that is made first; its folder stands for `ENCODER` in
            the backbone's name. None without one.
    """

    name: str
    title: str
    source: str
    settings: Mapping[str, Any]
    quick: Mapping[str, Any]
    entries: tuple[Entry, ...]
    changes: tuple[str, ...]
    tried: tuple[str, ...] = ()
    cost: str = ""
    encoder: Mapping[str, Any] | None = None

    @property
    def contenders(self) -> list[str]:
        """The contenders of the comparison, in the order of the entries."""
        return list(dict.fromkeys(entry.contender for entry in self.entries))

    def config(self, quick: bool = False) -> CompareConfig:
        """Return the settings of the comparison; its backbone may hold `ENCODER`."""
        return CompareConfig(**{**self.settings, **(self.quick if quick else {})})


@dataclass(frozen=True)
class Kept:
    """Figures that were obtained from an experiment.

    Attributes:
        values: By entry and seed.
        verdicts: Of each contender against the first.
        minutes: Of training by the clock, of all seeds together, by contender; each run has one thread.
        processor_minutes: In which the processor worked on them; empty if they were kept before that was measured.
        scores: Of each contender with attention, first seed: lines on localization, faithfulness and ablation.
        machine: Processor, cores and versions.
    """

    values: dict[str, dict[int, float]]
    verdicts: dict[str, str]
    minutes: dict[str, float]
    processor_minutes: dict[str, float]
    scores: dict[str, list[str]]
    machine: str


@cache
def list_experiments() -> dict[str, Experiment]:
    """Return the experiments by name, in the order of their files."""
    folder = files("foveal.comparison") / "experiments"
    paths = sorted((path for path in folder.iterdir() if path.name.endswith(SUFFIX)), key=lambda path: path.name)
    return {name: parse_experiment(name, path.read_text()) for path in paths if (name := path.name[: -len(SUFFIX)])}


def find_experiment(name: str) -> Experiment:
    """Return an experiment.

    Raises:
        ValueError: There is none of this name; the message suggests the nearest.
    """
    return lookup("experiment", name, list_experiments())


def parse_experiment(name: str, text: str) -> Experiment:
    """Parse a description; a field that is missing or unknown raises a TypeError."""
    stated = yaml.safe_load(text)
    entries = tuple(Entry(**each) for each in stated.pop("entries"))
    changes, tried = tuple(stated.pop("changes")), tuple(stated.pop("tried", ()))
    return Experiment(name=name, entries=entries, changes=changes, tried=tried, **stated)


def read_kept(name: str) -> Kept | None:
    """Read the figures that were kept of an experiment; None if it was not run."""
    path = files("foveal.comparison") / "experiments" / f"{name}.json"
    if not path.is_file():
        return None
    stated = json.loads(path.read_text())
    values = {entry: {int(seed): value for seed, value in own.items()} for entry, own in stated.pop("values").items()}
    del stated["file"], stated["experiment"], stated["quick"]
    return Kept(values, **{"processor_minutes": {}, **stated})
