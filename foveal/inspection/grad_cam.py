"""Grad-CAM (Selvaraju et al., 2017, eq. 1 and 2): the positions of a layer's map that raise a class's logit.

    alpha_k = mean over positions of dy / dA_k       y the logit of a class, A_k the map of channel k
    L       = ReLU(sum over k of alpha_k A_k)

Grad-CAM needs no attention. Attention shows which positions are let through; Grad-CAM shows which positions change the
logit. The layer is the last that gives a map of several positions before pooling, which one forward pass shows; in the
paper it is the last convolution with its activation. The logit is the one before any softmax. A binary model with one
output z has the logits -z of class 0 and z of class 1.

Departure: the map has the size of the layer's map, it is not enlarged. It is not scaled either, so that weights of two
images can be compared; they have no upper bound that is known in advance.

Axes: B batch, C channel, H W map, K class.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from math import inf, log
from typing import Any

import torch
from torch import Tensor, nn

from foveal.core.answers import Answers, described, read_answers
from foveal.core.batches import as_tensor, dtype_name
from foveal.core.names import lookup
from foveal.core.record import Record
from foveal.core.trial_pass import eval_mode
from foveal.core.validation import as_model_input, check_model, has_inference_weights, to_model
from foveal.inspection.call_hooks import CallHook
from foveal.inspection.call_sites import CallSite
from foveal.inspection.finding.find import find_places
from foveal.inspection.finding.trial import Trial
from foveal.inspection.gradient_obstacles import obstacles
from foveal.inspection.hooks import Hooks
from foveal.inspection.layer_maps import LayerMap, last_tokens, layer_maps, on_map
from foveal.inspection.module_paths import innermost, unwrapped_modules

SHOWN = 8  # targets in a message
UNUSED = "the answer does not depend on its map, or only past a detach()"
WITHOUT_GRADIENT = (
    "it runs under no_grad(), as within torch.utils.checkpoint with use_reentrant=True: its map has no gradient"
)


def class_activation(
    model: nn.Module,
    images: Tensor,
    at: str | nn.Module | None = None,
    targets: Tensor | Sequence[int] | int | None = None,
    answer: Callable[[Any], Tensor] | None = None,
) -> Record:
    """Compute Grad-CAM: the positions of a layer's map that raise the logit of a class.

    The model runs in evaluation mode. Its modes, hooks, gradients and `requires_grad` flags are restored afterwards.
    It works also under `torch.no_grad` and `torch.inference_mode`.

    Args:
        model: returns logits (B, K); for two classes also one logit for each image, (B, 1) or (B,). A mapping's
            "logits", an object's `.logits` and the first element of a tuple or list are read as the logits.
        images: (B, C, H, W), floats, as the model expects them; also a list of (C, H, W) of one shape.
        at: the module whose map is used, or its path. It gives (B, C, H, W), or (B, H, W, C) as in Swin, or tokens
            (B, N, C), of which a trial pass shows the map. Of a module that is called several times in a pass, the
            last call counts. Default: the last map before pooling; of tokens with a class token, those before the last
            attention. A ReLU that the model itself applies to the map belongs to it.
        targets: the class of each image, (B,), or one class for all images. Default: the predicted classes.
        answer: a function from what the model returns to its logits, where they are not found as above.

    Returns:
        A mask over the positions of the layer, (B, H, W), from 0; `path` is the layer's path. After a transformer, a
        crop or a glimpse these are positions of its output, not of the image.

    Raises:
        TypeError: `model` is not a module; `at` is neither a path nor a module; images that are not floats; targets
            that are not integers.
        ValueError: no such module, or no map there; no layer that gives a map, or tokens after the last map; an answer
            that is not logits, is not finite, or has no gradient for the map; targets that are not classes of these
            images; a model whose weights were made under `torch.inference_mode`.

    >>> import foveal, torch
    >>> model = foveal.create_model("small_cnn", num_classes=3)
    >>> record = foveal.class_activation(model, torch.rand(2, 3, 32, 32), targets=1)
    >>> record.path, record.values.shape
    ('features', torch.Size([2, 4, 4]))
    """
    check_model(model)
    if has_inference_weights(model):
        raise ValueError(
            "model: its weights were made under torch.inference_mode, and Grad-CAM needs gradients; make or load the "
            "model outside of torch.inference_mode"
        )
    images = to_model(as_model_input(images), model)
    with eval_mode(model), torch.inference_mode(False), torch.enable_grad():
        images = images.clone() if images.is_inference() else images
        trial, maps = layer_maps(model, images[:1])
        path = last_map(model, images[:1], trial, maps) if at is None else path_of(model, at)
        layer = maps.get(path, LayerMap(path, None, "", None))
        stored, answers = pass_with_map(model, images, layer, answer)
        chosen = answers.logits_of(read_targets(targets, answers)).sum()  # in evaluation mode images are independent
        hidden = obstacles(chosen, stored)
        gradient = None if hidden else torch.autograd.grad(chosen, stored, allow_unused=True)[0]
    if gradient is None:
        why = f"no gradient of the answer shows its map: {hidden[0]}" if hidden else UNUSED
        raise ValueError(f"at={path!r}: {why}")
    weighed = weigh(*(as_map(each, layer, images) for each in (stored.detach(), gradient)))
    return Record(
        mechanism="grad_cam",
        kind="mask",
        domain="spatial",
        axes="B H W",
        value_range=(0.0, inf),
        path=path,
        values=weighed,
    )


def path_of(model: nn.Module, at: str | nn.Module) -> str:
    """Return the path of a module that is named by its path or by itself."""
    modules = unwrapped_modules(model)
    if isinstance(at, nn.Module):
        paths = [path for path, module in modules.items() if module is at]
        if not paths:
            raise ValueError(f"at: this {type(at).__name__} is not a module of the {type(model).__name__}")
        return paths[0]
    if not isinstance(at, str):
        shown = repr(at) if isinstance(at, int) else f"a {type(at).__name__}"
        raise TypeError(f"at={shown}: a module or its path is needed; a class is given by name, as in targets=1")
    lookup("module", at, modules)
    return at


def pass_with_map(
    model: nn.Module, images: Tensor, layer: LayerMap, answer: Callable[[Any], Tensor] | None
) -> tuple[Tensor, Answers]:
    """Return the map of a module in a forward pass, a leaf that requires a gradient, and the answers."""
    stored: list[Tensor] = []
    pixels = images.detach().clone().requires_grad_()  # so that checkpointing saves the same tensors without the hook

    def keep(out: Tensor) -> Tensor:
        stored[:] = [out.detach().requires_grad_(torch.is_grad_enabled())]  # a leaf: no gradient goes further down
        return stored[0].clone()  # later modules may change it in place

    def store(_: nn.Module, __: Any, out: Any) -> Any:
        first = out[0] if isinstance(out, tuple) and out and layer.layout else out
        if not isinstance(first, Tensor) or (first.ndim != 4 and layer.layout is None):
            why = f": {layer.why}" if layer.why else ""
            raise ValueError(f"at={layer.path!r}: it gives {described(out)}, not a map (B, C, H, W){why}")
        kept = first if layer.relu is not None else keep(first)
        return (kept, *out[1:]) if isinstance(out, tuple) else kept

    hooks = Hooks(model, lambda path, reason: None)
    after = nullcontext() if layer.relu is None else relu_hook(model, layer.relu, keep)
    try:
        hooks.add(unwrapped_modules(model)[layer.path], store)
        with after:
            out = model(pixels.clone())  # a copy, which may be changed in place
    finally:
        hooks.close()
    if not stored:
        raise ValueError(f"at={layer.path!r}: the forward pass does not call it")
    if not stored[0].requires_grad:
        raise ValueError(f"at={layer.path!r}: {WITHOUT_GRADIENT}")
    return stored[0], read_answers(out if answer is None else answer(out), len(images))


def relu_hook(model: nn.Module, site: CallSite, keep: Callable[[Tensor], Tensor]) -> CallHook:
    """Return the mode in which the result of one ReLU of the model itself is replaced by what `keep` returns for it."""
    return CallHook(innermost(model), "relu", site, keep, lambda why: None, changes=True)


def as_map(maps: Tensor, layer: LayerMap, images: Tensor) -> Tensor:
    """Return a layer's map or tokens as (B, C, H, W)."""
    return channels_first(maps, images) if layer.layout is None else on_map(maps, layer.layout)


def weigh(maps: Tensor, gradient: Tensor) -> Tensor:
    """Weigh the channels of maps by their mean gradients."""
    alpha = gradient.float().mean((2, 3), keepdim=True)  # (B, C, 1, 1), eq. 1
    return (alpha * maps.float()).sum(1).relu()  # (B, H, W), eq. 2


def read_targets(targets: Any, answers: Answers) -> Tensor:
    """Return the class of each image, (B,): those of the caller, or those that the model predicts.

    Raises:
        TypeError: targets that are not integers.
        ValueError: another shape, or a class out of range.
    """
    if targets is None:
        return answers.classes()
    images, classes = answers.logits.shape
    try:
        given = torch.as_tensor(as_tensor(targets))
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"targets: a {type(targets).__name__}; integers (B,) or one integer are needed") from error
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise TypeError(f"targets of type {dtype_name(given)}: integers (B,) or one integer are needed")
    given = given.long()
    if given.ndim > 1 or (given.ndim == 1 and len(given) != images):
        raise ValueError(f"{shown(given)}: a class of {classes}, from 0 to {classes - 1}, for each of {images} images")
    if ((given < 0) | (given >= classes)).any():
        raise ValueError(f"{shown(given)}: a class of {classes}, from 0 to {classes - 1}, is needed")
    return given.expand(images)


def shown(targets: Tensor) -> str:
    """Describe targets in a message: short ones by their values, others by their shape."""
    short = targets.numel() <= SHOWN
    return f"targets={targets.tolist()}" if short else f"targets of shape {tuple(targets.shape)}"


def channels_first(maps: Tensor, images: Tensor) -> Tensor:
    """Return maps as (B, C, H, W): channels are last where the two dimensions before have the image's proportions."""
    wide = log(images.shape[2] / images.shape[3])
    first, last = (abs(log(maps.shape[i] / maps.shape[i + 1]) - wide) for i in (2, 1))
    return maps.movedim(3, 1) if last < first else maps


@torch.no_grad()
def last_map(model: nn.Module, image: Tensor, trial: Trial, maps: dict[str, LayerMap]) -> str:
    """Return the path of the last module, the outermost, that gives a map of several positions other than by pooling.

    Where tokens (B, N, C) follow the last map, it is that of the last tokens of which all count.

    Raises:
        ValueError: no such module, or tokens of which no map is known.
    """
    found, tokens = "", ""
    pooled: Tensor | None = None
    affinities = affinity_modules(model)

    def note(path: str, module: nn.Module, out: Any) -> None:
        nonlocal found, tokens, pooled
        if not isinstance(out, Tensor) or isinstance(module, nn.Identity) or module in affinities:
            return
        if out.ndim == 3 and out.shape[1] > 1:
            tokens = path
        elif out.ndim == 4 and out is not pooled and channels_first(out, image).shape[2:].numel() > 1:
            if pools(module):
                pooled = out  # kept alive, so that no later map has its identity
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
    if tokens and (last := last_tokens(trial, maps)) is not None:
        return last.path
    after = f" before the tokens of {tokens!r}; at= names the module" if found else ""
    what = f"the last map is that of {found!r}" if found else "no module gives a map (B, C, H, W) of several positions"
    raise ValueError(f"Grad-CAM of a {type(model).__name__}: {what}{after}")


def affinity_modules(model: nn.Module) -> set[nn.Module]:
    """Return Taps of affinities and parts of other attention modules: they may give weights (B, G, Q, K)."""
    places = [place for place in find_places(model).places.values() if place.facts.kind == "affinity"]
    parts = {part for place in places if place.spec for part in place.module.modules() if part is not place.module}
    return parts | {place.module for place in places if place.spec is None}


def pools(module: nn.Module) -> bool:
    """Return True for a module without weights that is named after pooling."""
    return "Pool" in type(module).__name__ and not [*module.parameters()]
