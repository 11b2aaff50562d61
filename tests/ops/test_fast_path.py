"""Fast paths at inference: fewer maps, the same output, nothing overwritten; how they are switched off."""

from collections import OrderedDict

import pytest
import torch
from helpers import randomise_norms
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import foveal
from foveal.mechanisms.cbam import CBAM
from foveal.mechanisms.selective_kernel import SelectiveKernel
from foveal.mechanisms.squeeze_excite import SqueezeExcite
from foveal.ops.fast_path import fast_path_enabled
from foveal.surgery.wrapper import Attached

SHAPE = (2, 32, 6, 5)


class Maps(TorchDispatchMode):
    """Count new tensors of a map's size."""

    def __init__(self, size: int):
        super().__init__()
        self.size, self.maps = size, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            if isinstance(each, torch.Tensor) and each.ndim == 4 and each.numel() >= self.size:
                self.maps.setdefault(each.untyped_storage().data_ptr(), each)  # kept, so that no other takes its place
        return out


def maps_made(module: nn.Module, x: torch.Tensor) -> int:
    with Maps(x.numel()) as maps, torch.no_grad():
        module(x)
    return len(maps.maps)


def wrapped(mechanism: nn.Module, host: nn.Module | None = None) -> nn.Module:
    return randomise_norms(Attached(OrderedDict(host=host or nn.BatchNorm2d(32), se=mechanism))).eval()


def se() -> nn.Module:
    return wrapped(SqueezeExcite(32, 4))


def cbam() -> nn.Module:
    return randomise_norms(CBAM(32, 4)).eval()


def sk() -> nn.Module:
    return randomise_norms(SelectiveKernel(32, groups=4, act=nn.Identity)).eval()


@pytest.mark.parametrize(("make", "fast", "plain"), [(se, 1, 2), (cbam, 1, 2), (sk, 4, 8)])
def test_fast_path_makes_fewer_maps_and_the_same_output(make, fast, plain):
    """BatchNorm's map is the gate's; CBAM's second gate is in its first; of SK's, two a branch, and no more."""
    module, x = make(), torch.randn(SHAPE)
    held = x.clone()
    assert maps_made(module, x) == fast
    with torch.no_grad():
        ours = module(x)
        with foveal.no_fast_path():
            assert maps_made(module, x) == plain
            torch.testing.assert_close(ours, module(x))
    assert torch.equal(x, held)


@pytest.mark.parametrize("make", [se, cbam, sk])
def test_fast_path_overwrites_nothing_that_a_gradient_needs(make):
    module, x = make().double(), torch.randn(SHAPE, dtype=torch.float64, requires_grad=True)
    with foveal.no_fast_path():
        (plain,) = torch.autograd.grad(module(x).square().sum(), x)
    (fast,) = torch.autograd.grad(module(x).square().sum(), x)
    assert torch.equal(fast, plain)


@pytest.mark.parametrize("make", [se, cbam, sk])
def test_fast_path_keeps_what_a_hook_recorded(make):
    """Compare tensors recorded by a hook, on any module, with those of a plain pass."""
    module, x = make(), torch.randn(SHAPE)
    kept: list[torch.Tensor] = []
    for part in module.modules():
        handle = part.register_forward_hook(lambda _, args, out: kept.extend([args[0], out]))
        with torch.no_grad():
            module(x)
            seen = [each.clone() for each in kept]
            kept.clear()
            with foveal.no_fast_path():
                module(x)
        assert all(torch.allclose(mine, plain, atol=1e-6) for mine, plain in zip(seen, kept, strict=True)), part
        kept.clear()
        handle.remove()


def test_fast_path_keeps_what_a_global_hook_recorded():
    module, x = se(), torch.randn(SHAPE)
    kept = []
    watcher = torch.nn.modules.module.register_module_forward_hook(lambda _, __, out: kept.append((out, out.clone())))
    with watcher, torch.no_grad():
        module(x)
    assert all(torch.equal(out, as_seen) for out, as_seen in kept)


def test_fast_path_keeps_the_output_of_a_custom_module():
    class Keeping(nn.Module):
        def forward(self, x):
            self.out = 2 * x
            return self.out

    host = Keeping()
    module, x = wrapped(SqueezeExcite(32, 4), host), torch.randn(SHAPE)
    with torch.no_grad():
        module(x)
    assert torch.equal(host.out, 2 * x)


def test_fast_path_keeps_the_input_of_a_mechanism():
    for module in (SqueezeExcite(32), CBAM(32), SelectiveKernel(32).eval()):
        x = torch.randn(SHAPE)
        held = x.clone()
        with torch.no_grad():
            module.eval()(x)
        assert torch.equal(x, held)


def test_fast_path_keeps_the_forward_of_a_subclass():
    class Doubling(SqueezeExcite):
        def forward(self, x):
            return 2 * super().forward(x)

    module, x = wrapped(Doubling(32, 4)), torch.randn(SHAPE)
    with torch.no_grad():
        fast = module(x)
        with foveal.no_fast_path():
            torch.testing.assert_close(fast, module(x))


def test_fast_path_records_the_same_attention():
    module, x = sk(), torch.randn(SHAPE)
    with torch.no_grad(), foveal.watch(module) as seen:
        module(x)
    with foveal.no_fast_path(), torch.no_grad(), foveal.watch(module) as plain:
        module(x)
    torch.testing.assert_close(seen[""].values, plain[""].values)


def test_fast_path_selection_at_the_identity_is_the_first_branch_bitwise():
    module = randomise_norms(SelectiveKernel(32, groups=4, identity=True)).eval()
    x = torch.randn(SHAPE)
    with torch.no_grad():
        assert torch.equal(module(x), module.branches[0](x))


@pytest.mark.parametrize("make", [se, cbam, sk])
def test_fast_path_exports_as_its_definition(make):
    exported = torch.export.export(make(), (torch.randn(SHAPE),))
    names = " ".join(str(node.target) for node in exported.graph.nodes)
    assert "mul_." not in names
    assert "lerp" not in names


def test_no_fast_path_may_end_in_any_order_in_two_threads():
    first, second = foveal.no_fast_path(), foveal.no_fast_path()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not fast_path_enabled()
    second.__exit__(None, None, None)
    assert fast_path_enabled()


def test_no_fast_path_nests_and_ends_with_an_exception():
    assert fast_path_enabled()
    with foveal.no_fast_path():
        with foveal.no_fast_path():
            assert not fast_path_enabled()
        assert not fast_path_enabled()
    with pytest.raises(KeyError), foveal.no_fast_path():
        raise KeyError
    assert fast_path_enabled()
