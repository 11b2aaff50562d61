"""Folding of BatchNorm in evaluation mode into the preceding layer.

A BatchNorm in evaluation mode is y = a x + b for each channel, with a = weight / sqrt(var + eps) and
b = bias - a mean. After a convolution or a linear layer with weights W and bias c, both together are one layer with
weights a W and bias a c + b.

The order of layers is observed in one forward pass, not inferred from names. A pair is folded only if the norm's input
is exactly the layer's output, no other module reads that output, and each of the two is called once, is registered at
one path, is of a known class and has no hook. (A parametrisation changes the class.)
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from foveal.deployment.dataflow import NORMS, Follows, class_of, followers
from foveal.surgery.insertion_points import set_module

LAYERS = {  # class of a layer to the class of the norm that may be folded into it
    "torch.nn.modules.conv.Conv1d": "BatchNorm1d",
    "torch.nn.modules.conv.Conv2d": "BatchNorm2d",
    "timm.layers.conv2d_same.Conv2dSame": "BatchNorm2d",
    "torch.nn.modules.linear.Linear": "BatchNorm1d",
}


def fold_norms(model: nn.Module, images: Tensor) -> list[Follows]:
    """Fold norms into the layers before them, in place, and set `inplace=True` on activations after them.

    Args:
        model: A model in evaluation mode.
        images: Inputs (B, C, H, W) of the model.

    Returns:
        The pairs of a layer and the norm that was folded into it.
    """
    pairs = followers(model, images)
    folded = [pair for pair in pairs if can_fold(model, pair)]
    for pair in folded:
        layer: Any = model.get_submodule(pair.first)
        norm: Any = model.get_submodule(pair.then)
        fuse: Any = fuse_linear_bn_eval if isinstance(layer, nn.Linear) else fuse_conv_bn_eval
        set_module(model, pair.first, fuse(layer, norm))
        set_module(model, pair.then, NORMS[class_of(norm)](norm).eval())
    makers = {*LAYERS, *NORMS}
    for pair in pairs:
        owned = class_of(model.get_submodule(pair.first)) in makers or pair.first in {each.then for each in folded}
        act: Any = model.get_submodule(pair.then)
        if owned and type(act).__module__ == "torch.nn.modules.activation" and getattr(act, "inplace", None) is False:
            act.inplace = True
    return folded


def can_fold(model: nn.Module, pair: Follows) -> bool:
    """Return True if the second module is a norm in evaluation mode that can be folded into the first."""
    layer, norm = model.get_submodule(pair.first), model.get_submodule(pair.then)
    expected = LAYERS.get(class_of(layer))
    if expected is None or class_of(norm) not in NORMS or not any(c.__name__ == expected for c in type(norm).__mro__):
        return False
    return norm.running_mean is not None and not norm.training
