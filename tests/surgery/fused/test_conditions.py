"""Conditions under which a block runs its plain form."""

from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
from helpers import GatedBlock, block_input
from torch import nn

from foveal.mechanisms.gather_excite import GatherExcite
from foveal.profiling.costs import peak_bytes


def hook_on(path: str, kind: str) -> Callable[[nn.Module], object]:
    return lambda model: getattr(model.get_submodule(path), f"register_{kind}")(lambda *_: None)


def replaced(path: str, module: nn.Module) -> Callable[[nn.Module], object]:
    parent, _, name = path.rpartition(".")
    return lambda model: setattr(model.get_submodule(parent), name, module)


def own_forward(model: nn.Module) -> None:
    norm = model.block.bn3
    norm.forward = lambda x: nn.BatchNorm2d.forward(norm, x)


def parametrised(model: nn.Module) -> None:
    nn.utils.parametrize.register_parametrization(model.block.bn3, "weight", nn.Softplus())


OTHERS: dict[str, Callable[[nn.Module], object]] = {
    "forward hook on the norm": hook_on("block.bn3", "forward_hook"),
    "pre-hook on the norm": hook_on("block.bn3", "forward_pre_hook"),
    "backward hook on the norm": hook_on("block.bn3", "full_backward_hook"),
    "backward pre-hook on the norm": hook_on("block.bn3", "full_backward_pre_hook"),
    "forward hook on the activation": hook_on("block.act3", "forward_hook"),
    "forward hook on the mechanism": hook_on("block.se", "forward_hook"),
    "pre-hook on the mechanism": hook_on("block.se", "forward_pre_hook"),
    "another norm": replaced("block.bn3", nn.GroupNorm(4, 16)),
    "another activation": replaced("block.act3", nn.LeakyReLU()),
    "another depth": replaced("block.drop_path", nn.Dropout(0.0)),
    "another mechanism": replaced("block.se", GatherExcite(16)),
    "synchronised norms": nn.SyncBatchNorm.convert_sync_batchnorm,
    "a forward of its own": own_forward,
    "a parametrised norm": parametrised,
    "evaluation": nn.Module.eval,
    "half precision": lambda model: model.bfloat16(),
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS.keys())
def test_fused_block_runs_plain_where_the_difference_shows(change, fused_calls):
    model = GatedBlock()
    model(block_input())
    assert len(fused_calls) == 1
    changed = change(model)
    model = changed if isinstance(changed, GatedBlock) else model
    x = block_input().to(next(model.parameters()).dtype)
    model(x)
    assert len(fused_calls) == 1


def test_fused_block_calls_a_hook_on_a_bypassed_module(fused_calls):
    model, hooked = GatedBlock(), []
    handle = model.block.bn3.register_forward_hook(lambda *_: hooked.append(1))
    model(block_input())
    assert hooked
    assert not fused_calls
    handle.remove()
    model(block_input())
    assert len(fused_calls) == 1


def test_fused_block_calls_a_global_hook(fused_calls):
    hooked = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: hooked.append(type(module)))
    try:
        GatedBlock()(block_input())
    finally:
        handle.remove()
    assert nn.BatchNorm2d in hooked
    assert not fused_calls


class Mode(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def inside_a_mode(model: nn.Module, x: torch.Tensor) -> None:
    with Mode():
        model(x)


def forward_derivative(model: nn.Module, x: torch.Tensor) -> None:
    with torch.autograd.forward_ad.dual_level():
        model(torch.autograd.forward_ad.make_dual(x, x))


def functional_gradient(model: nn.Module, x: torch.Tensor) -> None:
    torch.func.replace_all_batch_norm_modules_(model)  # which may not change their statistics there
    torch.func.grad(lambda x: model(x).sum())(x)


WAYS: dict[str, Callable[[nn.Module, torch.Tensor], object]] = {
    "a function mode": inside_a_mode,
    "forward derivatives": forward_derivative,
    "torch.func": functional_gradient,
    "torch.jit.trace": lambda model, x: torch.jit.trace(model, x, check_trace=False),
    "torch.export": lambda model, x: torch.export.export(model, (x,)),
    "torch.compile": lambda model, x: torch.compile(model, backend="eager", fullgraph=True)(x),
    "torch.fx": lambda model, x: torch.fx.symbolic_trace(model.block),
    "the meta device": lambda model, x: model.to("meta")(x.to("meta")),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_fused_block_runs_plain_under_tools(way, fused_calls):
    way(GatedBlock(), block_input())
    assert not fused_calls


def test_fused_block_runs_fused_under_a_memory_watcher(fused_calls):
    """Peak memory is that of the fused form, which runs without the watcher."""
    peak_bytes(nn.Sequential(GatedBlock(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), block_input())
    assert len(fused_calls) == 1


def test_fused_block_of_no_image_keeps_statistics(fused_calls):
    model = GatedBlock()
    before = {name: value.clone() for name, value in model.named_buffers()}
    with suppress(ValueError):  # as torch's own forms of attention may say of no image
        model(block_input()[:0])
    assert not fused_calls
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers() if "running" in name)
