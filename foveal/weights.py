"""Other people's weights: a state dict in somebody's layout, loaded into ours.

A layout is a short list of renamings. They are tried in turn, the plain one first; the first under which every name
and shape fits is taken.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveal.standing import attachments, plain_name, silent

LAYOUTS: dict[str, tuple[tuple[str, str], ...]] = {
    "plain": (),
    "timm's selective kernel networks": (
        (r"\.conv2\.paths\.(\d+)\.conv\.", r".conv2.branches.\1.conv."),
        (r"\.conv2\.paths\.(\d+)\.bn\.", r".conv2.branches.\1.norm."),
        (r"\.conv2\.attn\.fc_reduce\.", r".conv2.fc1."),
        (r"\.conv2\.attn\.bn\.", r".conv2.norm."),
        (r"\.conv2\.attn\.fc_select\.", r".conv2.fc2."),
        (r"\.conv([13])\.conv\.", r".conv\1."),
        (r"\.conv([13])\.bn\.", r".bn\1."),
        (r"\.conv2\.branches\.0\.conv\.", r".conv2."),
        (r"\.conv2\.branches\.0\.norm\.", r".bn2."),
    ),
}
OPTIONAL = ("AuxLogits.", "num_batches_tracked")  # a head for training alone; a counter that old files lack
CONTAINERS = ("state_dict", "model", "state_dict_ema", "model_ema")
WRAPPERS = ("module.", "_orig_mod.", "model.")  # of DistributedDataParallel, `torch.compile`, our checkpoints
ASIDE = "optimizer."  # what our checkpoints hold beside the weights


@dataclass(frozen=True)
class Fit:
    """How a state dict fits a model."""

    layout: str
    state: dict[str, Tensor]  # plain names
    missing: list[str]
    unexpected: list[str]
    shapes: list[str]  # names whose shapes differ

    @property
    def problems(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.shapes)


def load_weights(model: nn.Module, source: str | Path | Mapping[str, Any]) -> str:
    """Load weights in our, timm's or torchvision's layout into a model, in place.

    Weights without any attention fit as well: the attention that was attached keeps its values, with a warning where
    it did not start as the identity. Optional are the auxiliary head of Inception and BatchNorm's counters.

    Args:
        model: of `foveal.create_model`, or anybody's, with or without attachments.
        source: a safetensors file, a file that `torch.save` wrote (read without executing anything), or a state dict.

    Returns:
        The name of the layout that fitted.

    Raises:
        ValueError: no layout fits; the first names that differ are listed, and the model is as it was. A file that
            cannot be read.
    """
    state = unwrapped(source if isinstance(source, Mapping) else read(Path(source)))
    present = {plain_name(model, key): key for key in model.state_dict()}
    fits = [fit(model, present, layout, state) for layout in LAYOUTS]
    best = min(fits, key=lambda each: each.problems)
    if best.problems:
        raise ValueError(f"the weights do not fit this {type(model).__name__}: {difference(model, present, best)}")
    if silent(model, best.state, identity=False) - silent(model, best.state, identity=True):
        names = ", ".join(each.mechanism for each in attachments(model) if not each.identity)
        warnings.warn(f"the weights hold no attention: {names} keeps the values that it started with", stacklevel=2)
    current = model.state_dict()
    model.load_state_dict({key: best.state.get(plain, current[key]) for plain, key in present.items()})
    return best.layout


def read(path: Path) -> Mapping[str, Any]:
    """The tensors of a file, by name. Pickles are read with `weights_only`, which executes nothing."""
    if not path.is_file():
        raise ValueError(f"weights: there is no file {str(path)!r}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"weights: {str(path)!r} cannot be read: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def unwrapped(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict inside a training checkpoint, without what DistributedDataParallel and `torch.compile` prefix."""
    inner = next((state[key] for key in CONTAINERS if isinstance(state.get(key), Mapping)), state)
    tensors = {key: value for key, value in inner.items() if isinstance(value, Tensor) and not key.startswith(ASIDE)}
    while tensors and (prefix := next(iter(tensors)).partition(".")[0] + ".") in WRAPPERS:
        if not all(key.startswith(prefix) for key in tensors):
            break
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def fit(model: nn.Module, present: dict[str, str], layout: str, state: dict[str, Tensor]) -> Fit:
    """How a state dict fits under one layout. `present` maps plain names to the model's."""
    current = dict(zip(present, model.state_dict().values(), strict=True))
    renamed = {plain_name(model, rename(key, layout)): value for key, value in state.items()}
    renamed = {name: as_layer(value, current.get(name)) for name, value in renamed.items()}
    absent = silent(model, renamed, identity=False)
    missing = [name for name in present if name not in renamed and name not in absent and not optional(name)]
    unexpected = [name for name in renamed if name not in present and not optional(name)]
    shapes = [name for name, value in renamed.items() if name in present and value.shape != current[name].shape]
    return Fit(layout, renamed, missing, unexpected, shapes)


def as_layer(value: Tensor, like: Tensor | None) -> Tensor:
    """A 1x1 convolution's weight as a linear layer's, or the other way round, where the model holds that."""
    if like is None or {value.ndim, like.ndim} != {2, 4} or value.shape[:2] != like.shape[:2]:
        return value
    return value.reshape(like.shape) if value.numel() == like.numel() else value


def rename(key: str, layout: str) -> str:
    for pattern, by in LAYOUTS[layout]:
        key = re.sub(pattern, by, key)
    return key


def optional(name: str) -> bool:
    return name.startswith(OPTIONAL[0]) or name.endswith(OPTIONAL[1])


def difference(model: nn.Module, present: dict[str, str], best: Fit) -> str:
    """The first names that differ, in one line."""
    current = model.state_dict()
    parts = [
        f"{name} is {tuple(current[present[name]].shape)} here and {tuple(best.state[name].shape)} there"
        for name in best.shapes[:2]
    ]
    for kind, names in (("missing", best.missing), ("unexpected", best.unexpected)):
        if names:
            more = f" and {len(names) - 2} more" if len(names) > 2 else ""
            parts.append(f"{kind} {', '.join(names[:2])}{more}")
    return "; ".join(parts)
