"""A network on disk: one safetensors file with its weights and, as JSON, the facts to build it again.

A checkpoint is never a pickle, and is written whole. `foveal.training.recreate` checks the facts before anything is
built.
"""

import json
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from foveal.core.files import write_file
from foveal.core.functions import Function
from foveal.core.names import one_line
from foveal.mechanisms.registry import MECHANISMS
from foveal.surgery.attachments import attachments, plain_state_dict
from foveal.training.recreate import check_facts, recreate
from foveal.training.run_facts import check_run_facts

MODEL = "model."  # prefix of the network's weights among the tensors


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint file."""

    facts: dict[str, Any]  # backbone, options, attachments, and those that the writer added
    tensors: dict[str, Tensor] = field(repr=False)

    @property
    def weights(self) -> dict[str, Tensor]:
        return self.part(MODEL)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names start with a prefix, without it."""
        return {name.removeprefix(prefix): tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}


def save_checkpoint(
    path: Path, model: nn.Module, facts: dict[str, Any], tensors: dict[str, Tensor] | None = None
) -> None:
    """Write a network of `foveal.create_model` with its attachments, and more tensors beside it.

    Raises:
        ValueError: a network that `load_checkpoint` could not build again: one that `foveal.create_model` did not make,
            one with an option that is no plain value, or one with an attached class that is no mechanism of foveal.
    """
    weights = {MODEL + name: tensor for name, tensor in plain_state_dict(model).items()}
    everything = {**recreate_facts(model), "foveal": version("foveal"), "torch": torch.__version__, **facts}
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in {**weights, **(tensors or {})}.items()}
    write_file(path, save(flat, {"foveal": json.dumps(everything)}))


def recreate_facts(model: nn.Module) -> dict[str, Any]:
    """Return the backbone by name, its options, and the attachments; checked as `load_checkpoint` will check them."""
    made_as = getattr(model, "made_as", None)
    if not isinstance(made_as, dict):
        raise ValueError(f"a checkpoint needs a network of foveal.create_model; this {type(model).__name__} is not one")
    added = attachments(model)[made_as.get("attached", 0) :]  # after those of a function of the caller
    attached = [{key: value for key, value in vars(each).items() if key != "modules"} for each in added]
    stranger = next((each["mechanism"] for each in attached if each["mechanism"] not in MECHANISMS), None)
    if stranger is not None:
        raise ValueError(f"a checkpoint cannot name the attached {stranger}: it is no mechanism of foveal")
    facts = {"backbone": made_as["backbone"], "options": made_as["options"], "attachments": attached}
    try:
        check_facts(json.loads(json.dumps(facts)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"an option of this network cannot be written to a checkpoint: {one_line(error)}") from error
    return facts


def load_checkpoint(path: str | Path, function: Function | None = None) -> tuple[nn.Module, Checkpoint]:
    """Load the network of a checkpoint, in evaluation mode, and the rest of the file.

    Args:
        path: a checkpoint, or a run folder, whose `best.safetensors` is read.
        function: the caller's, that builds the backbone, where the checkpoint names one.

    Raises:
        ValueError: no such file; not a checkpoint of foveal, or a truncated one; facts that a checkpoint may not carry,
            or that its tensors do not bear out, before anything of their size is built.
    """
    checkpoint = read_checkpoint(path)
    try:
        model = recreate(checkpoint.facts, checkpoint.weights, function)
    except ValueError as error:
        raise ValueError(f"checkpoint {str(file_of(path))!r} {one_line(error)}") from error
    return model.eval(), checkpoint


def file_of(path: str | Path) -> Path:
    """Return the file of a checkpoint: `best.safetensors` of a run folder, or the path itself."""
    return Path(path) / "best.safetensors" if Path(path).is_dir() else Path(path)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint, or the `best.safetensors` of a run folder, without building its network.

    Raises:
        ValueError: no such file; not a checkpoint of foveal, or a truncated one.
    """
    file = file_of(path)
    if not file.is_file():
        raise ValueError(f"checkpoint: there is no file {str(file)!r}")
    try:
        with safe_open(file, "pt") as opened:
            stated = (opened.metadata() or {}).get("foveal")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, RuntimeError, TypeError, ValueError) as error:  # the latter at types of numbers
        raise ValueError(
            f"checkpoint {str(file)!r} cannot be read, truncated or no safetensors file: {one_line(error):.300}"
        ) from error
    if stated is None:
        raise ValueError(f"checkpoint {str(file)!r}: weights without a network; foveal.load_weights reads such a file")
    return Checkpoint(parse_facts(file, stated), tensors)


def parse_facts(file: Path, stated: str) -> dict[str, Any]:
    """Parse the JSON of a checkpoint; ValueError for text that is no JSON object, or a fact of a run out of range."""
    try:
        facts = json.loads(stated)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"checkpoint {str(file)!r}: its facts are no JSON: {one_line(error):.300}") from error
    if not isinstance(facts, dict):
        raise ValueError(f"checkpoint {str(file)!r}: its facts are a {type(facts).__name__}; a JSON object is needed")
    try:
        check_run_facts(facts)
    except ValueError as error:
        raise ValueError(f"checkpoint {str(file)!r} {one_line(error)}") from error
    return facts
