"""Grad-CAM (Selvaraju et al., 2017, eq. 1 and 2): where the map of a layer speaks for a class.

    alpha_k = mean over positions of dy / dA_k       y the logit of a class, A_k the map of channel k
    L       = ReLU(sum over k of alpha_k A_k)

It needs no attention. What attention lets through and what moves the logit are two questions: this one is the second.
The layer is the last that gives a map of several positions before they are pooled, which one pass shows; in the paper
it is the last convolution with its activation. The logit is the one before any softmax.

Departure: the map is as large as the layer's, not enlarged. Nothing is scaled either, so that weights of two images can
be compared; they have no upper end that is known beforehand.

Axes: B batch, C channel, H W map.
"""

from math import inf, log
from typing import Any

import torch
from torch import Tensor, nn

from foveal.core.names import lookup
from foveal.core.record import Record
from foveal.core.trial_pass import eval_mode
from foveal.core.validation import check_model
from foveal.inspection.hooks import Hooks
from foveal.inspection.tap_points import unwrapped_modules


def class_activation(model: nn.Module, images: Tensor, at: str | None = None, targets: Tensor | None = None) -> Record:
    """Where a layer's map speaks for a class, by Grad-CAM.

    The model runs in evaluation mode. Its modes, hooks, gradients and what requires one are afterwards as they were.

    Args:
        model: on images, answering logits (B, K).
        images: (B, C, H, W), as the model wants them.
        at: the path of the module whose map it is, one that gives (B, C, H, W), or (B, H, W, C) as Swin's do; of one
            that is called several times in a pass the last call counts. Left out: the last before the pooling.
        targets: the class of each image, (B,); left out, the one that the model says.

    Returns:
        A mask over the positions of the layer, (B, H, W), from 0; `path` is the layer's path. After a transformer, a
        crop or a glimpse these are positions of what it shows, not of the image.

    Raises:
        TypeError: `model` is no module.
        ValueError: no such path, or no map there; no layer that gives a map, or tokens after the last; an answer that
            is not (B, K), or does not depend on the map; targets that are not classes of these images.

    >>> record = class_activation(timm.create_model("resnet18"), torch.rand(2, 3, 224, 224))
    >>> record.path, record.values.shape
    ('layer4', torch.Size([2, 7, 7]))
    """
    check_model(model)
    if images.ndim != 4:
        raise ValueError(f"images of shape {tuple(images.shape)}: (B, C, H, W) is needed")
    with eval_mode(model), torch.enable_grad():
        path = last_map(model, images[:1]) if at is None else at
        module = lookup("module", path, unwrapped_modules(model))
        held: list[Tensor] = []

        def hold(_: nn.Module, __: Any, out: Any) -> Tensor:
            if not isinstance(out, Tensor) or out.ndim != 4:
                raise ValueError(f"at={path!r}: it gives {described(out)}, not a map (B, C, H, W)")
            held[:] = [out.detach().requires_grad_()]  # a leaf: the gradient goes no further down
            return held[0].clone()  # what follows may change it in place

        hooks = Hooks(model, lambda path, reason: None)
        try:
            hooks.add(module, hold)
            logits = model(images)
        finally:
            hooks.close()
        if not held:
            raise ValueError(f"at={path!r}: the forward pass does not call it")
        chosen = of_classes(logits, targets).sum()  # in evaluation mode no image's logit depends on another
        gradient = torch.autograd.grad(chosen, held, allow_unused=True)[0] if chosen.requires_grad else None
    if gradient is None:
        raise ValueError(f"at={path!r}: the answer does not depend on its map")
    weighed = weigh(*(channels_first(each, images) for each in (held[0].detach(), gradient)))
    return Record(
        mechanism="grad_cam",
        kind="mask",
        domain="spatial",
        axes="B H W",
        value_range=(0.0, inf),
        path=path,
        values=weighed,
    )


def weigh(maps: Tensor, gradient: Tensor) -> Tensor:
    alpha = gradient.float().mean((2, 3), keepdim=True)  # (B, C, 1, 1), eq. 1
    return (alpha * maps.float()).sum(1).relu()  # (B, H, W), eq. 2


def of_classes(logits: Any, targets: Tensor | None) -> Tensor:
    """Each image's logit of its class: (B,)."""
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ValueError(f"model: it answers {described(logits)}, not logits (B, K)")
    if targets is None:
        return logits.amax(1)
    images, classes = logits.shape
    if (
        targets.shape != (images,)
        or targets.is_floating_point()
        or not bool(((targets >= 0) & (targets < classes)).all())
    ):
        raise ValueError(f"targets={targets.tolist()}: a class of {classes}, from 0, for each of {images} images")
    return logits.gather(1, targets.to(logits.device)[:, None].long())[:, 0]


def described(out: Any) -> str:
    return f"{tuple(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"


def channels_first(maps: Tensor, images: Tensor) -> Tensor:
    """(B, H, W, C) as (B, C, H, W): channels stand last where the dimensions before have the image's proportions."""
    wide = log(images.shape[2] / images.shape[3])
    first, last = (abs(log(maps.shape[i] / maps.shape[i + 1]) - wide) for i in (2, 1))
    return maps.movedim(3, 1) if last < first else maps


@torch.no_grad()
def last_map(model: nn.Module, image: Tensor) -> str:
    """The path of the last module that gives a map of several positions, other than by pooling; the outermost such.

    Raises:
        ValueError: there is none, or tokens (B, N, C) follow.
    """
    found, tokens = "", ""
    pooled: Tensor | None = None

    def note(path: str, module: nn.Module, out: Any) -> None:
        nonlocal found, tokens, pooled
        if not isinstance(out, Tensor) or isinstance(module, nn.Identity):
            return
        if out.ndim == 3 and out.shape[1] > 1:
            tokens = path
        elif out.ndim == 4 and out is not pooled and channels_first(out, image).shape[2:].numel() > 1:
            if pools(module):
                pooled = out  # held, so that no later map is taken for it
            else:
                found, tokens = path, ""

    hooks = Hooks(model, lambda path, reason: None)
    try:
        for path, module in unwrapped_modules(model).items():
            if path:
                hooks.add(module, lambda module, _, out, path=path: note(path, module, out))
        model(image)
    finally:
        hooks.close()
    if found and not tokens:
        return found
    after = f" before the tokens of {tokens!r}; at= names the module" if found else ""
    what = f"the last map is that of {found!r}" if found else "no module gives a map (B, C, H, W) of several positions"
    raise ValueError(f"Grad-CAM of a {type(model).__name__}: {what}{after}")


def pools(module: nn.Module) -> bool:
    return "Pool" in type(module).__name__ and not [*module.parameters()]
