"""Norms folded into the layers before them, as evaluation mode allows.

A BatchNorm in evaluation mode is y = a x + b for each channel, with a = weight / sqrt(var + eps) and
b = bias - a mean. After a convolution or a linear layer that is one layer with weights a W and bias a c + b.

What follows what is not guessed from names: one forward pass is watched. A pair is folded only where the norm takes
just what the layer gave, nothing else does, each is called once, stands at one path, is of a known class and has no
hook. (A parametrisation changes the class.)
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from foveal.deployment.dataflow import NORMS, Follows, class_of, followers
from foveal.surgery.insertion_points import set_module

LAYERS = {  # class to the class of the norm that may be folded into it
    "torch.nn.modules.conv.Conv1d": "BatchNorm1d",
    "torch.nn.modules.conv.Conv2d": "BatchNorm2d",
    "timm.layers.conv2d_same.Conv2dSame": "BatchNorm2d",
    "torch.nn.modules.linear.Linear": "BatchNorm1d",
}


def fold_norms(model: nn.Module, images: Tensor) -> list[Follows]:
    """Fold every norm that can be, in place, and let activations write over what the layers before them made.

    Args:
        model: in evaluation mode.
        images: that it takes.

    Returns:
        The layers and the norms folded into them.
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
        made = class_of(model.get_submodule(pair.first)) in makers or pair.first in {each.then for each in folded}
        act: Any = model.get_submodule(pair.then)
        if made and type(act).__module__ == "torch.nn.modules.activation" and getattr(act, "inplace", None) is False:
            act.inplace = True
    return folded


def can_fold(model: nn.Module, pair: Follows) -> bool:
    layer, norm = model.get_submodule(pair.first), model.get_submodule(pair.then)
    expected = LAYERS.get(class_of(layer))
    if expected is None or class_of(norm) not in NORMS or not any(c.__name__ == expected for c in type(norm).__mro__):
        return False
    return norm.running_mean is not None and not norm.training
