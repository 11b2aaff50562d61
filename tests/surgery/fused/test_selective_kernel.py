"""Conditions under which a selective kernel runs its plain form."""

from collections.abc import Callable

import pytest
from helpers import block_input
from torch import nn

from foveal.mechanisms.selective_kernel import SelectiveKernel
from foveal.surgery.fused.fused_blocks import use_fused_blocks
from foveal.surgery.fused.normed_selection import normed_selection


def hook_on(path: str, kind: str) -> Callable[[nn.Module], object]:
    return lambda model: getattr(model.get_submodule(path), f"register_{kind}")(lambda *_: None)


def replaced(path: str, module: nn.Module) -> Callable[[nn.Module], object]:
    parent, _, name = path.rpartition(".")
    return lambda model: setattr(model.get_submodule(parent), name, module)


UNIT_OTHERS: dict[str, Callable[[nn.Module], object]] = {
    "hook on a branch": hook_on("branches.0", "forward_hook"),
    "hook on a norm": hook_on("branches.1.norm", "forward_hook"),
    "pre-hook on an activation": hook_on("branches.1.act", "forward_pre_hook"),
    "backward hook on a norm": hook_on("branches.0.norm", "full_backward_hook"),
    "another norm": replaced("branches.0.norm", nn.GroupNorm(4, 16)),
    "another activation": replaced("branches.1.act", nn.SiLU()),
    "another branch": replaced("branches.0", nn.Conv2d(16, 16, 3, padding=1)),
    "evaluation": nn.Module.eval,
}


@pytest.mark.parametrize("change", UNIT_OTHERS.values(), ids=UNIT_OTHERS.keys())
def test_fused_selective_kernel_runs_plain_where_the_difference_shows(change, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "foveal.surgery.fused.selective_kernel.normed_selection",
        lambda *args: calls.append(1) or normed_selection(*args),
    )
    unit = use_fused_blocks(SelectiveKernel(16, groups=2))
    unit(block_input())
    assert len(calls) == 1
    change(unit)
    unit(block_input())
    assert len(calls) == 1
