"""A network on disk: one safetensors file with its weights and, as JSON, all that is needed to build it again.

Never a pickle. A file is written beside its name and then moved there, so that a name never holds half a file.
"""

import json
import os
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from foveal.mechanisms.registry import MECHANISMS
from foveal.networks.factory import build_backbone
from foveal.surgery.attach import attach
from foveal.surgery.attachments import attachments, plain_state_dict

MODEL = "model."  # prefix of the network's weights among the tensors


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds."""

    facts: dict[str, Any]  # backbone, attachments, and what its writer added
    tensors: dict[str, Tensor] = field(repr=False)

    @property
    def weights(self) -> dict[str, Tensor]:
        return self.part(MODEL)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under a prefix, without it."""
        return {name.removeprefix(prefix): tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}


def save_checkpoint(
    path: Path, model: nn.Module, facts: dict[str, Any], tensors: dict[str, Tensor] | None = None
) -> None:
    """Write a network that `foveal.create_model` made, with its attachments, and more tensors beside it.

    Raises:
        ValueError: a network that a file could not build again: one of somebody else's, or with an attachment that is
            no mechanism by name.
    """
    weights = {MODEL + name: tensor for name, tensor in plain_state_dict(model).items()}
    everything = {**recreate_facts(model), "foveal": version("foveal"), "torch": torch.__version__, **facts}
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in {**weights, **(tensors or {})}.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.half")
    try:
        save_file(flat, half, {"foveal": json.dumps(everything)})
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)


def recreate_facts(model: nn.Module) -> dict[str, Any]:
    """The backbone by name, and what was attached to it."""
    made_as = getattr(model, "made_as", None)
    if not isinstance(made_as, dict):
        raise ValueError(f"a checkpoint needs a network of foveal.create_model; this {type(model).__name__} is not one")
    attached = [{key: value for key, value in vars(each).items() if key != "modules"} for each in attachments(model)]
    stranger = next((each["mechanism"] for each in attached if each["mechanism"] not in MECHANISMS), None)
    if stranger is not None:
        raise ValueError(f"a checkpoint cannot name the attached {stranger}: it is no mechanism of foveal's")
    facts = {**made_as, "attachments": attached}
    try:
        json.dumps(facts)
    except TypeError as error:
        raise ValueError(f"an option of this network cannot be written to a checkpoint: {error}") from error
    return facts


def load_checkpoint(path: str | Path) -> tuple[nn.Module, Checkpoint]:
    """The network that a file holds, in evaluation mode, and the rest of the file.

    Args:
        path: a checkpoint, or a run folder, whose `best.safetensors` is taken.

    Raises:
        ValueError: no such file; not a checkpoint of ours, or a truncated one.
    """
    checkpoint = read_checkpoint(path)
    model = build_backbone(checkpoint.facts["backbone"], pretrained=False, **checkpoint.facts["options"])
    model.__dict__["made_as"] = {key: checkpoint.facts[key] for key in ("backbone", "options")}
    for each in checkpoint.facts["attachments"]:
        at = each["at"][0] if each["at"] in (["input"], ["residual"]) else each["at"]
        position = each.get("position", "standard")  # which files of version 0.1 lack
        attach(model, each["mechanism"], at, position=position, identity=each["identity"], **each["options"])
    try:
        model.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise ValueError(f"checkpoint {str(path)!r} does not hold the network it names: {error}") from error
    return model.eval(), checkpoint


def read_checkpoint(path: str | Path) -> Checkpoint:
    path = Path(path)
    file = path / "best.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"checkpoint: there is no file {str(file)!r}")
    try:
        with safe_open(file, "pt") as opened:
            facts = (opened.metadata() or {}).get("foveal")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ValueError(
            f"checkpoint {str(file)!r} cannot be read, truncated or no safetensors file: {error}"
        ) from error
    if facts is None:
        raise ValueError(f"checkpoint {str(file)!r}: weights without a network; foveal.load_weights reads such a file")
    return Checkpoint(json.loads(facts), tensors)
