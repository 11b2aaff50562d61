"""State-dict key layouts of other libraries, and loading of their state dicts into our networks.

A layout is a short list of renamings. All layouts are tried, the plain one first, and the first with the largest share
of matching names and shapes is used. The path of an attached mechanism depends on the host network (timm's slot `se`,
after torchvision's `bn3`): `@` in a renaming is the path of the mechanism that is attached inside the module named
before it. `UNUSED` as a replacement removes a weight that its network registers and never calls.

A layout does not determine the stride: pytorchcv's `seresnet50` has its stride in the first 1x1 convolution; timm's
network and ours have it in the 3x3 convolution, as pytorchcv's `seresnet50b`.
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
from foveal.surgery.attachments import Attachment, attachments, plain_name

Renaming = tuple[str, str | Callable[[re.Match[str]], str]]  # pattern and replacement, as in `re.sub`
UNUSED = ""
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
    "attention-module": (  # CBAM's authors, Jongchan/attention-module
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
    "ecanet": ((r"\.eca\.", ".@."),),  # ECA's authors, BangguWu/ECANet
    "moskomule": (  # moskomule/senet.pytorch, and the many copies of its SELayer, which has no biases
        (r"\.se\.fc\.0\.", ".@.fc1."),
        (r"\.se\.fc\.2\.", ".@.fc2."),
        (r"^fc\.0\.", "fc1."),  # a SELayer alone
        (r"^fc\.2\.", "fc2."),
        (r"^.*\.SELayer\.fc\.[02]\.weight$", UNUSED),  # of its SE-Inception-v3
    ),
    "study-note": (  # the networks of the study note, and the digit network of PyTorch's spatial transformer tutorial
        (r"(^|\.)conv\.(\d+)\.0\.", r"\1branches.\2.conv."),  # a selective kernel
        (r"(^|\.)conv\.(\d+)\.1\.", r"\1branches.\2.norm."),
        (r"(^|\.)fc1\.0\.", r"\1fc1."),
        (r"(^|\.)fc1\.1\.", r"\1norm."),
        (r"\.conv([13])\.0\.", r".conv\1."),  # its block
        (r"\.conv([13])\.1\.", r".bn\1."),
        (r"^conv\.0\.", "conv1."),  # its network
        (r"^conv\.1\.", "bn1."),
        (r"^localization\.", "stn.localisation.features."),
        (r"^fc_loc\.", "stn.localisation.regression."),
        *FIRST_BRANCH,
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
OPTIONAL = ("AuxLogits.", "num_batches_tracked")  # a head that is used only in training; a counter missing in old files
CONTAINERS = ("state_dict", "model", "state_dict_ema", "model_ema")
WRAPPERS = ("module.", "_orig_mod.", "model.")  # prefixes of DistributedDataParallel, `torch.compile`, our checkpoints
ASIDE = ("optimizer.", "ema.")  # other tensors in our checkpoints


@dataclass(frozen=True)
class KeyMatch:
    """Result of matching the keys and shapes of a state dict to a model."""

    layout: str
    state: dict[str, Tensor]  # with plain names
    missing: list[str]
    unexpected: list[str]
    shapes: list[str]  # names with different shapes
    unused: list[str]  # names in the source that the layout removes, since their network never calls them

    @property
    def problems(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.shapes)

    @property
    def likeness(self) -> float:
        """The share of matching names among those of the model and the state dict together."""
        alike = len(self.state) - len(self.unexpected) - len(self.shapes)
        return alike / max(1, len(self.state) + len(self.missing))


def match_keys(model: nn.Module, state: Mapping[str, Any], layout: str | None = None) -> KeyMatch:
    """Match a state dict to a model under one layout, or under the best-matching one. Reads only names and shapes.

    Raises:
        ValueError: If the layout is unknown.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout={layout!r}: must be one of {', '.join(LAYOUTS)}")
    present = {plain_name(model, key): key for key in model.state_dict()}
    tensors = unwrapped(state, present)
    fits = [match_layout(model, present, each, tensors) for each in (LAYOUTS if layout is None else (layout,))]
    return max(fits, key=lambda each: each.likeness)


def load_matched(model: nn.Module, best: KeyMatch) -> None:
    """Load a matched state dict into a model, in place.

    Raises:
        ValueError: If names or shapes differ (the message lists the first of them), or values are not finite numbers of
            the model's type; the model is unchanged.
    """
    present = {plain_name(model, key): key for key in model.state_dict()}
    current = model.state_dict()
    if best.problems:
        raise ValueError(f"the weights do not fit this {type(model).__name__}: {difference(model, present, best)}")
    for plain, key in present.items():
        if plain in best.state:
            check_values(plain, best.state[plain], current[key].dtype)
    names = ", ".join(each.mechanism for each in absent_attachments(model, best.state) if not each.identity)
    if names:
        warnings.warn(f"the weights contain no attention: {names} keeps its initial values", stacklevel=3)
    if best.unused:
        layers = ", ".join(dict.fromkeys(re.sub(r"\.fc\..*", "", name) for name in best.unused))
        warnings.warn(
            f"{len(best.unused)} tensors are not used, since their network registers these layers and never calls "
            f"them: {layers}",
            stacklevel=3,
        )
    model.load_state_dict({key: best.state.get(plain, current[key]) for plain, key in present.items()})


def check_values(name: str, value: Tensor, dtype: torch.dtype) -> None:
    """Raise ValueError for a tensor that gives a floating weight of type `dtype` no finite floating values."""
    if not dtype.is_floating_point:
        return
    if not value.is_floating_point():
        raise ValueError(
            f"weights: {name} is of type {value.dtype}; a floating type is needed, as {dtype} in the model"
        )
    if not value.is_meta and not value.to(dtype).isfinite().all():
        raise ValueError(f"weights: {name} has values that are not finite, as {dtype}")


def read(path: Path) -> Mapping[str, Any]:
    """Read the tensors of a file, by name. Pickles are read with `weights_only=True`, which executes no code."""
    if not path.is_file():
        raise ValueError(f"weights: there is no file {str(path)!r}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"weights: {str(path)!r} cannot be read: {first_line(error)}") from error


def unwrapped(state: Mapping[str, Any], present: Container[str] = ()) -> dict[str, Tensor]:
    """Extract the state dict of a checkpoint and remove the prefixes of DistributedDataParallel and `torch.compile`.

    A prefix stays if a name with it is among `present`, the names of the model.
    """
    inner = next((state[key] for key in CONTAINERS if isinstance(state.get(key), Mapping)), state)
    tensors = {key: value for key, value in inner.items() if isinstance(value, Tensor) and not key.startswith(ASIDE)}
    while tensors and (prefix := next(iter(tensors)).partition(".")[0] + ".") in WRAPPERS:
        if not all(key.startswith(prefix) for key in tensors) or any(key in present for key in tensors):
            break
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def match_layout(model: nn.Module, present: dict[str, str], layout: str, state: dict[str, Tensor]) -> KeyMatch:
    """Match a state dict under one layout. `present` maps plain names to the model's names."""
    current = dict(zip(present, model.state_dict().values(), strict=True))
    here = set(present.values())
    unused = [key for key in state if key not in present and rename(key, layout) == UNUSED]
    used = {key: value for key, value in state.items() if key not in unused}
    renamed = {plain_name(model, attachment_key(model, here, key, layout)): value for key, value in used.items()}
    renamed = {name: as_layer(value, current.get(name)) for name, value in renamed.items()}
    renamed |= full_strength(model, renamed)
    absent = {name for attachment in absent_attachments(model, renamed) for name in own_names(attachment)}
    missing = [name for name in present if name not in renamed and name not in absent and not optional(name)]
    unexpected = [name for name in renamed if name not in present and not optional(name)]
    shapes = [name for name, value in renamed.items() if name in present and value.shape != current[name].shape]
    return KeyMatch(layout, renamed, missing, unexpected, shapes, unused)


def as_layer(value: Tensor, like: Tensor | None) -> Tensor:
    """Reshape the weight of a 1x1 convolution to that of a linear layer, or the reverse, if the model needs it."""
    if like is None or {value.ndim, like.ndim} != {2, 4} or value.shape[:2] != like.shape[:2]:
        return value
    return value.reshape(like.shape) if value.numel() == like.numel() else value


def rename(key: str, layout: str) -> str:
    """Apply the renamings of a layout to a key."""
    for pattern, by in LAYOUTS[layout]:
        key = re.sub(pattern, by, key)
    return key


def attachment_key(model: nn.Module, here: Container[str], key: str, layout: str) -> str:
    """Rename a key and insert the path of the attached mechanism; return the key as is if the model has no such key."""
    name = rename(key, layout)
    module, at, weight = name.partition(".@.")
    if not at:
        return name
    paths = (inserted.path for attachment in attachments(model) for inserted in attachment.modules)
    names = (f"{path}.{weight}" for path in paths if path.startswith(f"{module}."))
    return next((each for each in names if each in here), key)


def own_names(attachment: Attachment) -> list[str]:
    """List the names of the weights of an attachment's mechanisms."""
    return [name for module in attachment.modules for name in module.own]


def absent_attachments(model: nn.Module, names: Container[str]) -> list[Attachment]:
    """List the attachments with weights of which `names` contains none."""
    with_weights = [each for each in attachments(model) if own_names(each)]
    return [each for each in with_weights if not any(name in names for name in own_names(each))]


def full_strength(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a strength of one for each mechanism with loaded weights, of attachments without any loaded strength."""
    strengths: list[str] = []
    for attachment in attachments(model):
        loaded = [module for module in attachment.modules if any(name in state for name in module.own)]
        own = [name for module in loaded for name in module.own if name.endswith("strength.s")]
        strengths += own if not any(name in state for name in own) else ()
    return {name: torch.ones(1) for name in strengths}


def optional(name: str) -> bool:
    return name.startswith(OPTIONAL[0]) or name.endswith(OPTIONAL[1])


def difference(model: nn.Module, present: dict[str, str], best: KeyMatch) -> str:
    """Describe the first names and shapes that differ, in one line."""
    current = model.state_dict()
    parts = [
        f"{name} has shape {tuple(current[present[name]].shape)} in the model and "
        f"{tuple(best.state[name].shape)} in the weights"
        for name in best.shapes[:2]
    ]
    for kind, names in (("missing", best.missing), ("unexpected", best.unexpected)):
        if names:
            more = f" and {len(names) - 2} more" if len(names) > 2 else ""
            parts.append(f"{kind} {', '.join(names[:2])}{more}")
    return "; ".join(parts)
