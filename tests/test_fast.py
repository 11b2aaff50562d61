"""Faster blocks beside their plain definition: the same answers, gradients and statistics, with less kept."""

import copy
import io
import pickle
from collections.abc import Callable
from contextlib import suppress

import pytest
import timm
import torch
import torchvision
from conftest import randomise_norms
from timm.layers import BlurPool2d, DropPath
from timm.models import resnet
from timm.models.sknet import SelectiveKernelBottleneck
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

import foveal
from foveal.mechanisms.gather_excite import GatherExcite
from foveal.mechanisms.selective_kernel import SelectiveKernel
from foveal.profiling.costs import peak_bytes
from foveal.surgery.fused.fused_blocks import FAST, restore_blocks, use_fused_blocks
from foveal.surgery.fused.gated_residual import gated_residual
from foveal.surgery.fused.maps import moments
from foveal.surgery.fused.normed_selection import normed_selection
from foveal.surgery.fused.norms import taken


def small(block: type = resnet.Bottleneck, **options) -> nn.Module:
    """A residual network of four blocks for images of 32 pixels."""
    return resnet.ResNet(block, [1, 1, 1, 1], num_classes=5, channels=(8, 16, 16, 32), **options)


def with_se(block: type = resnet.Bottleneck, mechanism: str = "se", **options) -> nn.Module:
    return foveal.attach(small(block, **options), mechanism, identity=False)


def at_birth(model: nn.Module, mechanism: str, **options) -> nn.Module:
    """Attached as the identity, and moved a little from it."""
    foveal.attach(model, mechanism, **options)
    for name, weight in model.named_parameters():
        if name.endswith("strength.s"):
            weight.data.fill_(0.3)
    return model


class TorchvisionSmall(nn.Sequential):
    """Two of torchvision's blocks between a convolution and a layer of logits."""

    def __init__(self, block: type):
        wide = 4 * block.expansion
        shortcut = nn.Sequential(nn.Conv2d(wide, 2 * wide, 1, 2, bias=False), nn.BatchNorm2d(2 * wide))
        stem = nn.Conv2d(3, wide, 3, 2, padding=1, bias=False)
        blocks = block(wide, 4), block(wide, 8, 2, shortcut)
        super().__init__(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * wide, 5))


def frozen_norms() -> nn.Module:
    model = with_se().train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "timm bottleneck": with_se,
    "timm basic": lambda: with_se(resnet.BasicBlock),
    "timm, at birth": lambda: at_birth(small(), "se"),
    "timm, efficient channel": lambda: with_se(mechanism="eca"),
    "timm, drop path": lambda: with_se(drop_path_rate=0.5),
    "timm, anti-aliased": lambda: with_se(aa_layer=BlurPool2d),
    "timm, frozen norms": frozen_norms,
    "timm's own": lambda: use_fused_blocks(small(block_args={"attn_layer": "se"})),
    "torchvision bottleneck": lambda: at_birth(TorchvisionSmall(torchvision.models.resnet.Bottleneck), "se"),
    "torchvision basic": lambda: at_birth(TorchvisionSmall(torchvision.models.resnet.BasicBlock), "se"),
    "sk": lambda: foveal.attach(small(cardinality=2), "sk", identity=False),
    "sk, at birth": lambda: at_birth(small(cardinality=2), "sk"),
    "sk, three branches": lambda: foveal.attach(small(cardinality=2), "sk", identity=False, dilations=(1, 2, 0)),
    "torchvision, sk": lambda: at_birth(TorchvisionSmall(torchvision.models.resnet.BasicBlock), "sk", groups=2),
    "sk and se": lambda: foveal.attach(foveal.attach(small(cardinality=2), "sk", identity=False), "se", identity=False),
    "timm's own sk": lambda: use_fused_blocks(small(SelectiveKernelBottleneck, cardinality=2)),
    "timm's own sk, not split": lambda: use_fused_blocks(
        small(SelectiveKernelBottleneck, cardinality=2, block_args={"sk_kwargs": {"split_input": False}})
    ),
}
SOME = ("timm, at birth", "timm, drop path", "timm's own", "torchvision basic", "sk, at birth", "timm's own sk")
made = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS.keys())
some_made = pytest.mark.parametrize("make", [NETWORKS[name] for name in SOME], ids=SOME)


def images(count: int = 4, **options) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float32).to(**options)


def fast_ones(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if type(module).__module__ in FAST.values()]


def kept(step: Callable[[], torch.Tensor], skip: nn.Module | None = None) -> list[torch.Tensor]:
    """What autograd keeps of a forward pass, one tensor of each storage, without weights and statistics."""
    own = {each.data_ptr() for each in (*skip.parameters(), *skip.buffers())} if skip else set()
    found: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in own:
            found[pointer] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return list(found.values())


def kept_bytes(model: nn.Module, x: torch.Tensor) -> int:
    return sum(each.untyped_storage().nbytes() for each in kept(lambda: model(x), model))


def gradients(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(3)  # dropped paths
    model.zero_grad()
    x = x.clone().requires_grad_()
    out = model(x)
    (out * torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    return out.detach(), {"x": x.grad, **{name: weight.grad for name, weight in model.named_parameters()}}


@made
def test_every_gradient_is_that_of_the_plain_definition(make):
    fast = randomise_norms(make()).double()
    assert fast_ones(fast)
    plain = copy.deepcopy(fast)
    x = images(dtype=torch.float64)
    out, found = gradients(fast, x)
    with foveal.no_fast_path():
        wanted_out, wanted = gradients(plain, x)
    assert kept_bytes(fast, x) < kept_bytes(restore_blocks(plain), x)
    torch.testing.assert_close(out, wanted_out, rtol=1e-10, atol=1e-12)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-8, atol=float(gradient.norm()) * 1e-10 + 1e-13)


@made
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_answers_and_statistics_are_those_of_the_plain_definition(make, layout):
    """In float32, to 1e-5 of the largest logit."""
    fast = randomise_norms(make())
    plain = copy.deepcopy(fast)
    x = images(memory_format=layout)
    torch.manual_seed(3)
    out = fast(x)
    with foveal.no_fast_path():
        torch.manual_seed(3)
        wanted = plain(x)
    assert (out - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    held = dict(plain.named_buffers())
    for name, buffer in fast.named_buffers():
        torch.testing.assert_close(buffer, held[name], rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(fast.eval()(x), restore_blocks(copy.deepcopy(fast))(x))  # bit for bit: the plain form itself


class Block(nn.Module):
    """A bottleneck with squeeze-and-excitation, in training, for maps of 16 channels."""

    def __init__(self):
        super().__init__()
        self.block = resnet.Bottleneck(16, 4)
        foveal.attach(self, "se", at="block", identity=False)
        randomise_norms(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x)


def block_input(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 16, 9, 9)


def maps_of_end(model: nn.Module, x: torch.Tensor) -> int:
    """How many maps as large as the block's answer it keeps, its input left out."""
    found = kept(lambda: model(x), model)
    return sum(each.numel() == x.numel() and each.data_ptr() != x.data_ptr() for each in found)


def test_the_end_of_a_block_keeps_two_maps_where_the_plain_one_keeps_three():
    model, x = Block(), block_input()
    assert maps_of_end(model, x) == 2
    with foveal.no_fast_path():
        assert maps_of_end(model, x) == 3
    restore_blocks(model)
    assert maps_of_end(model, x) == 3


def test_a_selective_kernel_keeps_what_its_convolutions_gave():
    unit = use_fused_blocks(SelectiveKernel(16, groups=2))
    x = block_input()
    assert maps_of_end(unit, x) == 2
    with foveal.no_fast_path():
        assert maps_of_end(unit, x) == 4


def share(fast: nn.Module, other: nn.Module, x: torch.Tensor) -> float:
    return kept_bytes(fast.train(), x) / kept_bytes(other.train(), x)


def test_squeeze_excitation_adds_two_per_cent_at_most_to_what_training_keeps():
    options = {"layers": [1, 1, 1, 1], "num_classes": 10}
    plain = resnet.ResNet(resnet.Bottleneck, **options)
    ours = foveal.attach(resnet.ResNet(resnet.Bottleneck, **options), "se")
    theirs = resnet.ResNet(resnet.Bottleneck, **options, block_args={"attn_layer": "se"})
    x = torch.randn(2, 3, 96, 96)
    assert share(ours, plain, x) <= 1.02
    assert share(theirs, plain, x) > 1.15


@pytest.mark.slow
def test_sknet50_keeps_three_quarters_of_what_timms_keeps():
    x = torch.randn(2, 3, 64, 64)
    assert share(foveal.create_model("sknet50"), timm.create_model("skresnext50_32x4d"), x) <= 0.75


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
def test_a_selective_kernel_runs_its_plain_form_there_too(change, monkeypatch):
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


@pytest.fixture
def fused_calls(monkeypatch):
    calls = []

    def counted(*args):
        calls.append(args)
        return gated_residual(*args)

    monkeypatch.setattr("foveal.surgery.fused.block_end.gated_residual", counted)
    return calls


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS.keys())
def test_the_plain_form_runs_where_somebody_could_tell_the_difference(change, fused_calls):
    model = Block()
    model(block_input())
    assert len(fused_calls) == 1
    changed = change(model)
    model = changed if isinstance(changed, Block) else model
    x = block_input().to(next(model.parameters()).dtype)
    model(x)
    assert len(fused_calls) == 1


def test_a_hook_on_what_is_bypassed_is_called(fused_calls):
    model, met = Block(), []
    handle = model.block.bn3.register_forward_hook(lambda *_: met.append(1))
    model(block_input())
    assert met
    assert not fused_calls
    handle.remove()
    model(block_input())
    assert len(fused_calls) == 1


def test_a_hook_on_every_module_is_called(fused_calls):
    met = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: met.append(type(module)))
    try:
        Block()(block_input())
    finally:
        handle.remove()
    assert nn.BatchNorm2d in met
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
def test_the_plain_form_is_what_tools_see(way, fused_calls):
    way(Block(), block_input())
    assert not fused_calls


def test_what_only_watches_sees_the_fused_form(fused_calls):
    """The height of memory is that of what runs without its watcher."""
    peak_bytes(nn.Sequential(Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), block_input())
    assert len(fused_calls) == 1


def test_no_image_leaves_statistics_as_they_were(fused_calls):
    model = Block()
    before = {name: value.clone() for name, value in model.named_buffers()}
    with suppress(ValueError):  # as torch's own forms of attention may say of no image
        model(block_input()[:0])
    assert not fused_calls
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers() if "running" in name)


@pytest.mark.filterwarnings("ignore")
def test_timms_own_network_still_scripts():
    model = small(block_args={"attn_layer": "se"}).eval()
    x = images()
    wanted = model(x)
    use_fused_blocks(model)
    assert len(fast_ones(model)) == 4
    torch.testing.assert_close(torch.jit.script(model)(x), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_an_exported_network_answers_the_same():
    model = with_se().eval()
    x = images()
    program = torch.export.export(model, (x,))
    torch.testing.assert_close(program.module()(x), model(x), rtol=1e-5, atol=1e-5)


class TestFunctions:
    def inputs(self, affine: bool = True):
        c, r = (torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
        norm = nn.BatchNorm2d(3, affine=affine).double()
        if affine:
            randomise_norms(norm)
        return c, r, norm, torch.randn(3, 3, dtype=torch.float64, requires_grad=True)

    @pytest.mark.parametrize("affine", [True, False])
    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
    def test_gated_residual(self, affine, training, check):
        c, r, norm, matrix = self.inputs(affine)
        norm.train(training)

        def answer(c, r, matrix, *_):
            return gated_residual(c, *taken(norm, c), lambda z: (z @ matrix).sigmoid(), r)

        assert check(answer, (c, r, matrix, *norm.parameters()))

    @pytest.mark.parametrize("affine", [True, False])
    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
    def test_normed_selection(self, affine, training, check):
        c, d, norm, matrix = self.inputs(affine)
        norm.train(training)

        def answer(c, d, matrix, *_):
            norms = [taken(norm, each)[0] for each in (c, d)]
            return normed_selection((c, d), norms, lambda s: torch.stack((s @ matrix, s), 1).softmax(1))

        assert check(answer, (c, d, matrix, *norm.parameters()))

    @pytest.mark.parametrize("options", [{}, {"momentum": None}, {"momentum": 0.3}, {"track_running_stats": False}])
    def test_a_norms_statistics_move_as_in_its_own_forward_pass(self, options):
        ours, theirs = nn.BatchNorm2d(4, **options), nn.BatchNorm2d(4, **options)
        for step in range(3):
            c = torch.randn(3, 4, 5, 5) * (step + 1)
            wanted = theirs(c)
            torch.testing.assert_close(taken(ours, c)[0].with_these(c), wanted, rtol=1e-5, atol=1e-6)
        for (name, mine), (_, other) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6, msg=name)

    @pytest.mark.parametrize("mean", [0.0, 2.0, 1e4])
    def test_a_variance_far_below_the_squared_mean_keeps_its_digits(self, mean):
        x = torch.randn(4, 3, 20, 20) + mean
        _, found, var = moments(x)
        torch.testing.assert_close(found.double(), x.double().mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(var.double(), x.double().var((0, 2, 3), unbiased=False), rtol=1e-5, atol=0)

    def test_values_that_are_not_finite_stay_so(self):
        c = torch.randn(2, 3, 4, 4)
        c[0, 1, 2, 2] = torch.nan
        out = gated_residual(c, *taken(nn.BatchNorm2d(3), c), torch.sigmoid, torch.zeros_like(c))
        assert out[:, 1].isnan().all()
        assert not out[:, [0, 2]].isnan().any()

    def test_one_value_for_each_channel_is_refused_as_by_torch(self):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            taken(nn.BatchNorm2d(3), torch.randn(1, 3, 1, 1))

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_maps_keep_their_layout(self, layout):
        c, r = (torch.randn(2, 8, 5, 5).contiguous(memory_format=layout).requires_grad_() for _ in range(2))
        out = gated_residual(c, *taken(nn.BatchNorm2d(8), c), torch.sigmoid, r)
        out.sum().backward()
        for each in (out, c.grad, r.grad):
            assert each.is_contiguous(memory_format=layout)


class TestWatching:
    def test_watch_sees_the_gate_and_changes_nothing(self, fused_calls):
        model, x = with_se(), images()
        with foveal.no_fast_path(), foveal.watch(model) as wanted:
            model(x)
        out = copy.deepcopy(model)(x)
        with foveal.watch(model) as seen:
            assert torch.equal(model(x), out)
        assert seen.paths() == wanted.paths()
        assert len(fused_calls) == 8
        for path in seen.paths():
            torch.testing.assert_close(seen[path].values, wanted[path].values, rtol=1e-5, atol=1e-6)

    @some_made
    def test_replaced_weights_are_used_and_gradients_flow_through_them(self, make):
        model = randomise_norms(make()).double()
        x = images(dtype=torch.float64)
        with foveal.watch(model) as seen:
            model(x)
        new = {path: lambda weights: weights.roll(1, 0) * 0.5 for path in seen.paths()}
        plain = copy.deepcopy(model)
        with foveal.replace(model, new):
            out, found = gradients(model, x)
        with foveal.no_fast_path(), foveal.replace(plain, new):
            wanted_out, wanted = gradients(plain, x)
        torch.testing.assert_close(out, wanted_out, rtol=1e-10, atol=1e-12)
        for name, gradient in wanted.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-8, atol=float(gradient.norm()) * 1e-10 + 1e-13)

    def test_weights_replaced_by_a_number(self):
        model, x = Block().double(), block_input().double()
        with foveal.replace(model, {"block.se": 0.25}):
            out = model(x)
        with foveal.no_fast_path(), foveal.replace(model, {"block.se": 0.25}):
            torch.testing.assert_close(out, model(x), rtol=1e-10, atol=1e-12)


class TestPrecision:
    @pytest.mark.parametrize("name", ["timm bottleneck", "timm's own", "sk", "timm's own sk"])
    def test_under_autocast_it_is_as_near_to_float32_as_the_plain_form(self, name):
        model = randomise_norms(NETWORKS[name]())
        plain, exact = copy.deepcopy(model), copy.deepcopy(model)
        x = images(16)
        wanted, right = gradients(restore_blocks(exact), x)
        with torch.autocast("cpu", torch.bfloat16):
            out, found = gradients(model, x)
            with foveal.no_fast_path():
                other, theirs = gradients(plain, x)
        assert out.dtype == other.dtype
        assert (out - wanted).norm() <= 1.5 * (other - wanted).norm()
        for key in ("fc.weight", "layer4.0.conv1.weight", "layer1.0.conv1.weight"):
            if key in right:
                assert (found[key] - right[key]).norm() <= 1.5 * (theirs[key] - right[key]).norm(), key

    @some_made
    def test_a_short_training_gives_the_same_losses(self, make):
        fast = randomise_norms(make()).double()
        plain = restore_blocks(copy.deepcopy(fast))
        labels = torch.arange(4)
        told = []
        for model in (fast, plain):
            torch.manual_seed(5)
            optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
            losses = []
            for _ in range(5):
                optimiser.zero_grad()
                loss = nn.functional.cross_entropy(model(images(dtype=torch.float64)), labels)
                loss.backward()
                optimiser.step()
                losses.append(loss.item())
            told.append(losses)
        assert told[0] == pytest.approx(told[1], rel=1e-9)
        assert len(set(told[0])) == 5


class TestSeam:
    def test_a_block_stays_what_it_was_but_for_its_forward(self):
        plain = small(block_args={"attn_layer": "se"})
        model = use_fused_blocks(copy.deepcopy(plain))
        assert len(fast_ones(model)) == 4
        assert repr(model) == repr(plain)
        assert isinstance(model.layer1[0], resnet.Bottleneck)
        assert list(model.state_dict()) == list(plain.state_dict())
        restore_blocks(model)
        assert {type(module) for module in model.modules()} == {type(module) for module in plain.modules()}

    @pytest.mark.parametrize("mechanism", ["se", "sk"])
    def test_attach_speeds_up_and_detach_gives_the_classes_back(self, mechanism):
        model = small(cardinality=2)
        before = [type(module) for module in model.modules()]
        foveal.attach(model, mechanism)
        assert len(fast_ones(model)) == 4
        foveal.detach(model)
        assert [type(module) for module in model.modules()] == before

    def test_blocks_without_a_gate_keep_their_class(self):
        assert not fast_ones(use_fused_blocks(small()))
        assert not fast_ones(foveal.attach(small(), "cbam"))

    def test_create_model_speeds_up_a_backbones_own_attention(self):
        assert fast_ones(foveal.create_model("seresnet26t" if timm.is_model("seresnet26t") else "seresnext26d_32x4d"))

    @some_made
    def test_copies_and_pickles(self, make):
        model = make().train()
        x = images()
        torch.manual_seed(3)
        wanted = copy.deepcopy(model)(x)
        held = io.BytesIO()
        torch.save(model, held)
        held.seek(0)
        for other in (pickle.loads(pickle.dumps(model)), torch.load(held, weights_only=False)):  # noqa: S301
            torch.manual_seed(3)
            assert torch.equal(other(x), wanted)
            assert len(fast_ones(other)) == len(fast_ones(model))

    def test_activation_checkpointing(self):
        model, x = Block().double(), block_input().double().requires_grad_()
        wanted = torch.autograd.grad(model(x).square().sum(), [x, *model.parameters()])
        out = checkpoint(model, x, use_reentrant=False)
        found = torch.autograd.grad(out.square().sum(), [x, *model.parameters()])
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("name", ["timm bottleneck", "sk"])
    def test_a_gradient_penalty(self, name):
        """A loss of the answer and of its gradient: first and second derivatives meet in one backward pass."""
        model = randomise_norms(NETWORKS[name]()).double()
        plain = restore_blocks(copy.deepcopy(model))
        found = []
        for each in (model, plain):
            x = images(dtype=torch.float64).requires_grad_()
            out = each(x).square().sum()
            (slope,) = torch.autograd.grad(out, x, create_graph=True)
            (out + slope.square().sum()).backward()
            found.append([x.grad, *(weight.grad for weight in each.parameters())])
        for mine, theirs in zip(*found, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=float(theirs.norm()) * 1e-9 + 1e-12)

    def test_only_some_gradients_are_asked_for(self):
        model, x = Block().double(), block_input().double()
        model.block.conv3.weight.requires_grad_(False)
        model.block.bn3.bias.requires_grad_(False)
        plain = restore_blocks(copy.deepcopy(model))
        for each in (model, plain):
            each(x).square().sum().backward()
        for mine, theirs in zip(model.parameters(), plain.parameters(), strict=True):
            assert (mine.grad is None) == (theirs.grad is None)
            if mine.grad is not None:
                torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-9, atol=1e-12)

    def test_a_dropped_path_is_the_same_path(self):
        model = Block()
        model.block.drop_path = DropPath(0.5).train()
        x = block_input(16)
        torch.manual_seed(7)
        out = model(x)
        with foveal.no_fast_path():
            torch.manual_seed(7)
            torch.testing.assert_close(out, model(x), rtol=1e-5, atol=1e-5)
