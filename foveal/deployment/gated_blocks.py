"""Residual blocks for inference with squeeze-and-excitation at almost no cost.

The squeeze is a mean, and a 1x1 convolution with weights W and bias b is linear: mean(W y + b) = W mean(y) + b. So the
first layer of the excitation, V z + c with z the mean of the convolution's output, equals (V W) mean(y) + (V b + c).
V W is computed once. It is applied to the convolution's input, which has a quarter of the channels in a bottleneck. The
gate is thus known before the convolution runs, and is applied in the addition of the shortcut:
out = shortcut + gate * branch.

After another convolution (the 3x3 convolution of a basic block), the gate is computed from its output, and is also
applied in the addition. Both forms need the norm between convolution and gate to be folded.
"""

from typing import Any

import torch
from timm.layers import SEModule
from timm.models import resnet as timm_resnet
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet as torchvision_resnet

from foveal.deployment.dataflow import hooked
from foveal.deployment.pointwise import is_pointwise
from foveal.mechanisms.squeeze_excite import SqueezeExcite
from foveal.ops.fast_path import can_write_in_place
from foveal.ops.pooling import map_means
from foveal.surgery.insertion_points import set_module
from foveal.surgery.wrapper import Attached


class KnownGate(nn.Module):
    """The gate (B, C, 1, 1) of a squeeze-and-excitation, computed from the input or the output of a convolution.

    Args:
        squeeze_excite: The squeeze-and-excitation.
        conv: The 1x1 convolution before the squeeze-and-excitation, if the gate is computed from its input; else None.
    """

    def __init__(self, squeeze_excite: SqueezeExcite, conv: nn.Conv2d | None = None):
        super().__init__()
        self.fc1 = squeeze_excite.fc1 if conv is None else composed(squeeze_excite.fc1, conv)
        self.fc2, self.strength, self.tap = squeeze_excite.fc2, squeeze_excite.strength, squeeze_excite.tap

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc2(F.relu(self.fc1(map_means(x)))).sigmoid()
        return self.tap(self.strength(gate))[:, :, None, None]


@torch.no_grad()
def composed(linear: nn.Linear, conv: nn.Conv2d) -> nn.Linear:
    """Compose a 1x1 convolution and a following linear layer into one linear layer, in double precision."""
    weight = linear.weight.double() @ conv.weight.double().flatten(1)
    bias = torch.zeros_like(weight[:, 0]) if linear.bias is None else linear.bias.double()
    if conv.bias is not None:
        bias = bias + linear.weight.double() @ conv.bias.double()
    layer = nn.Linear(conv.in_channels, linear.out_features, device=weight.device, dtype=linear.weight.dtype)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return layer.requires_grad_(False).eval()


def weighed_sum(block: Any, shortcut: Tensor, gate: Tensor, conv: nn.Module, branch: Tensor) -> Tensor:
    """Compute shortcut + gate * branch in one pass; in place in `branch`, the output of `conv`, where that is safe."""
    if block.downsample is not None:
        shortcut = block.downsample(shortcut)
    if can_write_in_place(branch, conv):
        return torch.addcmul(shortcut, branch, gate, out=branch)
    return torch.addcmul(shortcut, branch, gate)


class TimmBottleneck(timm_resnet.Bottleneck):
    """timm's bottleneck with the gate applied in the addition of the shortcut."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.aa(self.act2(self.drop_block(self.bn2(self.conv2(y)))))
        return self.act3(weighed_sum(self, x, self.se(y), self.conv3, self.conv3(y)))


class TimmBasicBlock(timm_resnet.BasicBlock):
    """timm's basic block with the gate applied in the addition of the shortcut."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.aa(self.act1(self.drop_block(self.bn1(self.conv1(x)))))
        y = self.conv2(y)
        return self.act2(weighed_sum(self, x, self.se(y), self.conv2, y))


def attached(place: nn.Module) -> nn.Module:
    """Return the one mechanism that is attached after a module."""
    gate: nn.Module = [*place.children()][1]
    return gate


class TorchvisionBottleneck(torchvision_resnet.Bottleneck):
    """torchvision's bottleneck with the gate applied in the addition of the shortcut."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(weighed_sum(self, x, attached(self.bn3)(y), self.conv3, self.conv3(y)))


class TorchvisionBasicBlock(torchvision_resnet.BasicBlock):
    """torchvision's basic block with the gate applied in the addition of the shortcut."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.conv2(y)
        return self.relu(weighed_sum(self, x, attached(self.bn2)(y), self.conv2, y))


GATED: dict[type[nn.Module], tuple[type[nn.Module], str, str]] = {  # new class, last layer's number, path of the gate
    timm_resnet.Bottleneck: (TimmBottleneck, "3", "se"),
    timm_resnet.BasicBlock: (TimmBasicBlock, "2", "se"),
    torchvision_resnet.Bottleneck: (TorchvisionBottleneck, "3", "bn3"),
    torchvision_resnet.BasicBlock: (TorchvisionBasicBlock, "2", "bn2"),
}


def gate_blocks(model: nn.Module) -> list[str]:
    """Replace residual blocks of a model with folded norms where possible, in place; return their gates' paths."""
    found = [(path, module, gated(module)) for path, module in [*model.named_modules()] if type(module) in GATED]
    return [f"{path}.{at}".lstrip(".") for path, _, at in found if at]


def gated(block: nn.Module) -> str | None:
    """Replace one block's class and gate; return the gate's path within the block, or None if it is not changed."""
    new_class, end, at = GATED[type(block)]
    conv, norm, place = block.get_submodule(f"conv{end}"), block.get_submodule(f"bn{end}"), getattr(block, at)
    if isinstance(place, Attached) and place is norm and [*place._modules][:1] == ["host"] and len(place._modules) == 2:
        norm, at = place.host, f"{at}.{[*place._modules][1]}"
    attention = None if getattr(block, at.partition(".")[0]) is None else block.get_submodule(at)
    squeeze_excite = as_ours(attention)
    has_hooks = any(hooked(each) for each in (conv, norm, place, attention) if each is not None)
    if squeeze_excite is None or has_hooks or type(conv) is not nn.Conv2d or type(norm) is not nn.Identity:
        return None
    before = end == "3"
    if before and not is_pointwise(conv):
        return None
    set_module(block, at, KnownGate(squeeze_excite, conv if before else None).eval())
    block.__class__ = new_class
    return at


@torch.no_grad()
def as_ours(attention: Any) -> SqueezeExcite | None:
    """Return the mechanism as foveal's `SqueezeExcite`, converted from timm's if it computes the same; else None."""
    if type(attention) is SqueezeExcite:
        return attention
    if type(attention) is not SEModule or attention.add_maxpool:
        return None
    kinds = type(attention.bn), type(attention.act), attention.gate.__class__.__name__
    if kinds != (nn.Identity, nn.ReLU, "Sigmoid"):
        return None
    channels, hidden = attention.fc1.in_channels, attention.fc1.out_channels
    converted = SqueezeExcite(channels, bias=attention.fc1.bias is not None, divisor=hidden, reduction=channels)
    for name in ("fc1", "fc2"):
        theirs, ours = getattr(attention, name), getattr(converted, name)
        ours.weight = nn.Parameter(theirs.weight.flatten(1), requires_grad=False)
        ours.bias = theirs.bias
    return converted
