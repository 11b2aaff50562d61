"""What a model holds after `watch` and `replace`, compared in depth with what it holds after the same calls without."""

from copy import deepcopy
from hashlib import sha256

import pytest
import timm
import torch
import torchvision
from torch import nn

import foveal


def digest(tensor):
    return sha256(tensor.numpy().tobytes()).hexdigest()


def held(value, seen=None):
    """Everything that a value holds, as plain nested values: tensors by their bytes, modules by their attributes."""
    seen = {} if seen is None else seen
    if isinstance(value, torch.Tensor):
        plain = value.detach().contiguous()
        return str(value.dtype), tuple(value.shape), str(value.device), value.requires_grad, digest(plain)
    if isinstance(value, str | int | float | bool | bytes | type | None):
        return value
    if id(value) in seen:
        return "again", seen[id(value)]
    seen[id(value)] = len(seen)
    if isinstance(value, dict):
        return type(value).__name__, [(held(key, seen), held(each, seen)) for key, each in value.items()]
    if isinstance(value, list | tuple | set):
        return type(value).__name__, [held(each, seen) for each in value]
    if isinstance(value, nn.Module) or type(value).__module__.startswith(("timm", "torchvision", "transformers")):
        return type(value).__name__, held(vars(value), seen)
    return type(value).__name__


def first_of(model, *inside):
    """Random state and everything that the model holds; `inside` names what must be in it, lest nothing is compared."""
    found = str(held(model))
    assert all(name in found for name in ("_forward_hooks", "training", *inside))
    return found, digest(torch.get_rng_state())


MODELS = {
    "levit": (lambda: timm.create_model("levit_128s", num_classes=3), 224, "attention_bias_cache"),
    "swin": (lambda: timm.models.SwinTransformer(img_size=32, window_size=4, embed_dim=12, depths=(2,), num_heads=(3,)),
             32, "relative_position_index"),
    "mobilenet": (lambda: torchvision.models.mobilenet_v3_small(num_classes=3), 64, "running_mean"),
    "batch norm in training": (lambda: timm.create_model("skresnet18", layers=(1, 1, 1, 1)).train(), 64, "num_batches"),
    "dropout in training": (lambda: timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, drop_rate=0.5).train(), 32, "pos_embed"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_watch_leaves_no_trace(name):
    make, side, inside = MODELS[name]
    torch.manual_seed(0)
    model = make().eval() if "training" not in name else make()
    control, x = deepcopy(model), torch.rand(2, 3, side, side)
    torch.manual_seed(1)
    expected = control(x)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    with foveal.watch(model) as seen:
        out = model(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(seen) > 0
    assert torch.equal(first(out), first(expected))
    assert first_of(model, inside) == first_of(control, inside)


def first(out):
    return out[0] if isinstance(out, tuple) else out


@pytest.mark.parametrize("name", MODELS)
def test_watch_leaves_no_trace_of_a_search_or_an_exception(name):
    make, side, inside = MODELS[name]
    model, wrong = make(), torch.rand(2, 5, side, side)
    before = first_of(model, inside)
    watching = foveal.watch(model)
    assert first_of(model, inside) == before
    with pytest.raises(KeyboardInterrupt), watching:
        raise KeyboardInterrupt
    assert first_of(model, inside) == before
    with pytest.raises((RuntimeError, AssertionError)), foveal.watch(model) as seen:
        model(wrong)
    assert len(seen) == 0
    assert first_of(model, inside) == before


@pytest.mark.parametrize("name", ["levit", "swin", "mobilenet"])
def test_replace_leaves_no_trace(name):
    make, side, inside = MODELS[name]
    model = make().eval()
    control, x = deepcopy(model), torch.rand(2, 3, side, side)
    control(x)
    path = foveal.watch(model).places.popitem()[0]
    with foveal.replace(model, {path: 0.5}):
        model(x)
    assert first_of(model, inside) == first_of(control, inside)
