"""Other people's weights: a state dict in somebody's layout, loaded into ours.

A layout is a short list of renamings. They are tried in turn, the plain one first; the first under which every name
and shape fits is taken. Where attention stands depends on the host (in timm's slot `se`, behind torchvision's `bn3`):
`@` in a renaming is the path of the attention that stands within the module named before it.

A layout tells no stride: pytorchcv's `seresnet50` has its stride in the first 1x1 convolution, timm's and ours in the
3x3, as pytorchcv's `seresnet50b`.
"""

import re
import warnings
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveal.core.names import first_line
from foveal.surgery.attachments import attachments, missing_parameters, plain_name

Renaming = tuple[str, str | Callable[[re.Match[str]], str]]  # a pattern and what stands for it, as `re.sub` has them
FIRST_BRANCH: tuple[Renaming, ...] = (  # of a selective kernel: the plain convolution and its norm
    (r"\.conv2\.branches\.0\.conv\.", ".conv2."),
    (r"\.conv2\.branches\.0\.norm\.", ".bn2."),
)
LAYOUTS: dict[str, tuple[Renaming, ...]] = {
    "plain": (),  # ours, timm's, torchvision's
    "timm-sknet": (
        (r"\.conv2\.paths\.(\d+)\.conv\.", r".conv2.branches.\1.conv."),
        (r"\.conv2\.paths\.(\d+)\.bn\.", r".conv2.branches.\1.norm."),
        (r"\.conv2\.attn\.fc_reduce\.", ".conv2.fc1."),
        (r"\.conv2\.attn\.bn\.", ".conv2.norm."),
        (r"\.conv2\.attn\.fc_select\.", ".conv2.fc2."),
        (r"\.conv([13])\.conv\.", r".conv\1."),
        (r"\.conv([13])\.bn\.", r".bn\1."),
        *FIRST_BRANCH,
    ),
    "attention-module": (  # of CBAM's authors, Jongchan/attention-module
        (r"\.cbam\.ChannelGate\.mlp\.1\.", ".@.channel.fc1."),
        (r"\.cbam\.ChannelGate\.mlp\.3\.", ".@.channel.fc2."),
        (r"\.cbam\.SpatialGate\.spatial\.conv\.", ".@.spatial.conv."),
        (r"\.cbam\.SpatialGate\.spatial\.bn\.", ".@.spatial.norm."),
        (r"^bam(\d)\.channel_att\.gate_c\.gate_c_fc_0\.", r"layer\1.@.channel.0."),
        (r"^bam(\d)\.channel_att\.gate_c\.gate_c_bn_1\.", r"layer\1.@.channel.1."),
        (r"^bam(\d)\.channel_att\.gate_c\.gate_c_fc_final\.", r"layer\1.@.channel.3."),
        (r"^bam(\d)\.spatial_att\.gate_s\.gate_s_conv_reduce0\.", r"layer\1.@.spatial.0."),
        (r"^bam(\d)\.spatial_att\.gate_s\.gate_s_bn_reduce0\.", r"layer\1.@.spatial.1."),
        (r"^bam(\d)\.spatial_att\.gate_s\.gate_s_conv_di_0\.", r"layer\1.@.spatial.3."),
        (r"^bam(\d)\.spatial_att\.gate_s\.gate_s_bn_di_0\.", r"layer\1.@.spatial.4."),
        (r"^bam(\d)\.spatial_att\.gate_s\.gate_s_conv_di_1\.", r"layer\1.@.spatial.6."),
        (r"^bam(\d)\.spatial_att\.gate_s\.gate_s_bn_di_1\.", r"layer\1.@.spatial.7."),
        (r"^bam(\d)\.spatial_att\.gate_s\.gate_s_conv_final\.", r"layer\1.@.spatial.9."),
    ),
    "ecanet": ((r"\.eca\.", ".@."),),  # of ECA's authors, BangguWu/ECANet
    "moskomule": (  # moskomule/senet.pytorch, and the many that copied its SELayer, which has no biases
        (r"\.se\.fc\.0\.", ".@.fc1."),
        (r"\.se\.fc\.2\.", ".@.fc2."),
    ),
    "pytorchcv": (  # osmr/imgclsmob
        (r"^features\.init_block\.(?:conv\.)?bn\.", "bn1."),
        (r"^features\.init_block\.(?:conv\.)?conv\.", "conv1."),
        (r"^features\.stage(\d+)\.unit(\d+)\.", lambda at: f"layer{at[1]}.{int(at[2]) - 1}."),
        (r"\.body\.conv2\.branches\.branch(\d)\.conv\.", lambda at: f".conv2.branches.{int(at[1]) - 2}.conv."),
        (r"\.body\.conv2\.branches\.branch(\d)\.bn\.", lambda at: f".conv2.branches.{int(at[1]) - 2}.norm."),
        (r"\.body\.conv2\.fc1\.conv\.", ".conv2.fc1."),
        (r"\.body\.conv2\.fc1\.bn\.", ".conv2.norm."),
        (r"\.body\.conv2\.fc2\.", ".conv2.fc2."),
        (r"\.body\.conv(\d)\.conv\.", r".conv\1."),
        (r"\.body\.conv(\d)\.bn\.", r".bn\1."),
        (r"\.identity_conv\.conv\.", ".downsample.0."),
        (r"\.identity_conv\.bn\.", ".downsample.1."),
        (r"\.se\.(?:conv|fc)([12])\.", r".@.fc\1."),
        (r"\.cbam\.ch_gate\.mlp\.", ".@.channel."),
        (r"\.cbam\.sp_gate\.conv\.conv\.", ".@.spatial.conv."),
        (r"\.cbam\.sp_gate\.conv\.bn\.", ".@.spatial.norm."),
        (r"^output\.", "fc."),
        *FIRST_BRANCH,
    ),
}
OPTIONAL = ("AuxLogits.", "num_batches_tracked")  # a head for training alone; a counter that old files lack
CONTAINERS = ("state_dict", "model", "state_dict_ema", "model_ema")
WRAPPERS = ("module.", "_orig_mod.", "model.")  # of DistributedDataParallel, `torch.compile`, our checkpoints
ASIDE = ("optimizer.", "ema.")  # what our checkpoints hold beside the weights


@dataclass(frozen=True)
class KeyMatch:
    """How a state dict fits a model."""

    layout: str
    state: dict[str, Tensor]  # plain names
    missing: list[str]
    unexpected: list[str]
    shapes: list[str]  # names whose shapes differ

    @property
    def problems(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.shapes)

    @property
    def likeness(self) -> float:
        """The share of names, of the model's and of the state dict's, that fit."""
        alike = len(self.state) - len(self.unexpected) - len(self.shapes)
        return alike / max(1, len(self.state) + len(self.missing))


def match_keys(model: nn.Module, state: Mapping[str, Any], layout: str | None = None) -> KeyMatch:
    """How a state dict fits a model under a layout, or under the one that fits best. Only names and shapes are read.

    Raises:
        ValueError: an unknown layout.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout={layout!r}: there are {', '.join(LAYOUTS)}")
    present, tensors = {plain_name(model, key): key for key in model.state_dict()}, unwrapped(state)
    fits = [match_layout(model, present, each, tensors) for each in (LAYOUTS if layout is None else (layout,))]
    return max(fits, key=lambda each: each.likeness)


def load_matched(model: nn.Module, best: KeyMatch) -> None:
    """Load what fits into a model, in place.

    Raises:
        ValueError: it does not fit; the first names that differ are listed, and the model is as it was.
    """
    present = {plain_name(model, key): key for key in model.state_dict()}
    if best.problems:
        raise ValueError(f"the weights do not fit this {type(model).__name__}: {difference(model, present, best)}")
    if missing_parameters(model, best.state, identity=False) - missing_parameters(model, best.state, identity=True):
        names = ", ".join(each.mechanism for each in attachments(model) if not each.identity)
        warnings.warn(f"the weights hold no attention: {names} keeps the values that it started with", stacklevel=3)
    current = model.state_dict()
    model.load_state_dict({key: best.state.get(plain, current[key]) for plain, key in present.items()})


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


def unwrapped(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict inside a training checkpoint, without what DistributedDataParallel and `torch.compile` prefix."""
    inner = next((state[key] for key in CONTAINERS if isinstance(state.get(key), Mapping)), state)
    tensors = {key: value for key, value in inner.items() if isinstance(value, Tensor) and not key.startswith(ASIDE)}
    while tensors and (prefix := next(iter(tensors)).partition(".")[0] + ".") in WRAPPERS:
        if not all(key.startswith(prefix) for key in tensors):
            break
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def match_layout(model: nn.Module, present: dict[str, str], layout: str, state: dict[str, Tensor]) -> KeyMatch:
    """How a state dict fits under one layout. `present` maps plain names to the model's."""
    current = dict(zip(present, model.state_dict().values(), strict=True))
    here = set(present.values())
    renamed = {plain_name(model, attachment_key(model, here, key, layout)): value for key, value in state.items()}
    renamed = {name: as_layer(value, current.get(name)) for name, value in renamed.items()}
    renamed |= full_strength(model, renamed)
    absent = missing_parameters(model, renamed, identity=False)
    missing = [name for name in present if name not in renamed and name not in absent and not optional(name)]
    unexpected = [name for name in renamed if name not in present and not optional(name)]
    shapes = [name for name, value in renamed.items() if name in present and value.shape != current[name].shape]
    return KeyMatch(layout, renamed, missing, unexpected, shapes)


def as_layer(value: Tensor, like: Tensor | None) -> Tensor:
    """A 1x1 convolution's weight as a linear layer's, or the other way round, where the model holds that."""
    if like is None or {value.ndim, like.ndim} != {2, 4} or value.shape[:2] != like.shape[:2]:
        return value
    return value.reshape(like.shape) if value.numel() == like.numel() else value


def rename(key: str, layout: str) -> str:
    for pattern, by in LAYOUTS[layout]:
        key = re.sub(pattern, by, key)
    return key


def attachment_key(model: nn.Module, here: Container[str], key: str, layout: str) -> str:
    """A name renamed, with the path where the attention stands; the name as it was where none of that name is here."""
    name = rename(key, layout)
    module, at, weight = name.partition(".@.")
    if not at:
        return name
    paths = (inserted.path for attachment in attachments(model) for inserted in attachment.modules)
    names = (f"{path}.{weight}" for path in paths if path.startswith(f"{module}."))
    return next((each for each in names if each in here), key)


def full_strength(model: nn.Module, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of an attention that never had a strength count in full: a strength of one."""
    inserted = [module for attachment in attachments(model) for module in attachment.modules]
    named = [name for each in inserted if any(name in held for name in each.own) for name in each.own]
    return {name: torch.ones(1) for name in named if name.endswith("strength.s") and name not in held}


def optional(name: str) -> bool:
    return name.startswith(OPTIONAL[0]) or name.endswith(OPTIONAL[1])


def difference(model: nn.Module, present: dict[str, str], best: KeyMatch) -> str:
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
