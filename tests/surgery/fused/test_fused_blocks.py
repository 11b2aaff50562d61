"""Fused blocks beside their plain definition: outputs, gradients, statistics, memory."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from helpers import GatedBlock, block_input, randomise_norms
from timm.layers import BlurPool2d, DropPath
from timm.models import resnet
from timm.models.sknet import SelectiveKernelBottleneck
from torch import nn
from torch.utils.checkpoint import checkpoint

import foveal
from foveal.mechanisms.selective_kernel import SelectiveKernel
from foveal.surgery.fused.fused_blocks import FAST, restore_blocks, use_fused_blocks


def small(block: type = resnet.Bottleneck, **options) -> nn.Module:
    """A residual network of four blocks for images of 32 pixels."""
    return resnet.ResNet(block, [1, 1, 1, 1], num_classes=5, channels=(8, 16, 16, 32), **options)


def with_se(block: type = resnet.Bottleneck, mechanism: str = "se", **options) -> nn.Module:
    return foveal.attach(small(block, **options), mechanism, identity=False)


def at_birth(model: nn.Module, mechanism: str, **options) -> nn.Module:
    """Attach as the identity and move the strengths to 0.3."""
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


each_network = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS.keys())


some_networks = pytest.mark.parametrize("make", [NETWORKS[name] for name in SOME], ids=SOME)


def images(count: int = 4, **options) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float32).to(**options)


def fast_ones(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if type(module).__module__ in FAST.values()]


def saved_tensors(step: Callable[[], torch.Tensor], skip: nn.Module | None = None) -> list[torch.Tensor]:
    """Tensors that autograd saves in a forward pass, one per storage, without weights and buffers."""
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


def saved_size(model: nn.Module, x: torch.Tensor) -> int:
    return sum(each.untyped_storage().nbytes() for each in saved_tensors(lambda: model(x), model))


def gradients(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(3)  # dropped paths
    model.zero_grad()
    x = x.clone().requires_grad_()
    out = model(x)
    (out * torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    return out.detach(), {"x": x.grad, **{name: weight.grad for name, weight in model.named_parameters()}}


@each_network
def test_use_fused_blocks_gradients_agree_with_the_plain_form(make):
    fast = randomise_norms(make()).double()
    assert fast_ones(fast)
    plain = copy.deepcopy(fast)
    x = images(dtype=torch.float64)
    out, found = gradients(fast, x)
    with foveal.no_fast_path():
        expected_out, expected = gradients(plain, x)
    assert saved_size(fast, x) < saved_size(restore_blocks(plain), x)
    torch.testing.assert_close(out, expected_out, rtol=1e-10, atol=1e-12)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-8, atol=float(gradient.norm()) * 1e-10 + 1e-13)


@each_network
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_use_fused_blocks_outputs_and_statistics_agree_with_the_plain_form(make, layout):
    """In float32, to 1e-5 of the largest logit."""
    fast = randomise_norms(make())
    plain = copy.deepcopy(fast)
    x = images(memory_format=layout)
    torch.manual_seed(3)
    out = fast(x)
    with foveal.no_fast_path():
        torch.manual_seed(3)
        expected = plain(x)
    assert (out - expected).abs().max() <= 1e-5 * expected.abs().max()
    held = dict(plain.named_buffers())
    for name, buffer in fast.named_buffers():
        torch.testing.assert_close(buffer, held[name], rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(fast.eval()(x), restore_blocks(copy.deepcopy(fast))(x))  # bit for bit: the plain form itself


def maps_of_end(model: nn.Module, x: torch.Tensor) -> int:
    """Number of saved maps of the block's output size, without its input."""
    found = saved_tensors(lambda: model(x), model)
    return sum(each.numel() == x.numel() and each.data_ptr() != x.data_ptr() for each in found)


def test_use_fused_blocks_keeps_two_maps_instead_of_three():
    model, x = GatedBlock(), block_input()
    assert maps_of_end(model, x) == 2
    with foveal.no_fast_path():
        assert maps_of_end(model, x) == 3
    restore_blocks(model)
    assert maps_of_end(model, x) == 3


def test_use_fused_blocks_selective_kernel_keeps_its_convolutions_alone():
    unit = use_fused_blocks(SelectiveKernel(16, groups=2))
    x = block_input()
    assert maps_of_end(unit, x) == 2
    with foveal.no_fast_path():
        assert maps_of_end(unit, x) == 4


def share(fast: nn.Module, other: nn.Module, x: torch.Tensor) -> float:
    return saved_size(fast.train(), x) / saved_size(other.train(), x)


def test_use_fused_blocks_squeeze_excite_adds_two_per_cent_of_memory():
    options = {"layers": [1, 1, 1, 1], "num_classes": 10}
    plain = resnet.ResNet(resnet.Bottleneck, **options)
    ours = foveal.attach(resnet.ResNet(resnet.Bottleneck, **options), "se")
    theirs = resnet.ResNet(resnet.Bottleneck, **options, block_args={"attn_layer": "se"})
    x = torch.randn(2, 3, 96, 96)
    assert share(ours, plain, x) <= 1.02
    assert share(theirs, plain, x) > 1.15


@pytest.mark.slow
def test_use_fused_blocks_sknet50_keeps_three_quarters_of_timms():
    x = torch.randn(2, 3, 64, 64)
    assert share(foveal.create_model("sknet50"), timm.create_model("skresnext50_32x4d"), x) <= 0.75


@pytest.mark.filterwarnings("ignore")
def test_use_fused_blocks_leaves_timm_scriptable():
    model = small(block_args={"attn_layer": "se"}).eval()
    x = images()
    expected = model(x)
    use_fused_blocks(model)
    assert len(fast_ones(model)) == 4
    torch.testing.assert_close(torch.jit.script(model)(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_use_fused_blocks_exports_the_same_network():
    model = with_se().eval()
    x = images()
    program = torch.export.export(model, (x,))
    torch.testing.assert_close(program.module()(x), model(x), rtol=1e-5, atol=1e-5)


class TestWatching:
    def test_watch_records_the_gate_of_a_fused_block(self, fused_calls):
        model, x = with_se(), images()
        with foveal.no_fast_path(), foveal.watch(model) as expected:
            model(x)
        out = copy.deepcopy(model)(x)
        with foveal.watch(model) as seen:
            assert torch.equal(model(x), out)
        assert seen.paths() == expected.paths()
        assert len(fused_calls) == 8
        for path in seen.paths():
            torch.testing.assert_close(seen[path].values, expected[path].values, rtol=1e-5, atol=1e-6)

    @some_networks
    def test_replace_in_a_fused_block_passes_gradients(self, make):
        model = randomise_norms(make()).double()
        x = images(dtype=torch.float64)
        with foveal.watch(model) as seen:
            model(x)
        new = {path: lambda weights: weights.roll(1, 0) * 0.5 for path in seen.paths()}
        plain = copy.deepcopy(model)
        with foveal.replace(model, new):
            out, found = gradients(model, x)
        with foveal.no_fast_path(), foveal.replace(plain, new):
            expected_out, expected = gradients(plain, x)
        torch.testing.assert_close(out, expected_out, rtol=1e-10, atol=1e-12)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-8, atol=float(gradient.norm()) * 1e-10 + 1e-13)

    def test_replace_in_a_fused_block_by_a_number(self):
        model, x = GatedBlock().double(), block_input().double()
        with foveal.replace(model, {"block.se": 0.25}):
            out = model(x)
        with foveal.no_fast_path(), foveal.replace(model, {"block.se": 0.25}):
            torch.testing.assert_close(out, model(x), rtol=1e-10, atol=1e-12)


class TestPrecision:
    @pytest.mark.parametrize("name", ["timm bottleneck", "timm's own", "sk", "timm's own sk"])
    def test_use_fused_blocks_is_as_precise_under_autocast(self, name):
        model = randomise_norms(NETWORKS[name]())
        plain, exact = copy.deepcopy(model), copy.deepcopy(model)
        x = images(16)
        expected, right = gradients(restore_blocks(exact), x)
        with torch.autocast("cpu", torch.bfloat16):
            out, found = gradients(model, x)
            with foveal.no_fast_path():
                other, theirs = gradients(plain, x)
        assert out.dtype == other.dtype
        assert (out - expected).norm() <= 1.5 * (other - expected).norm()
        for key in ("fc.weight", "layer4.0.conv1.weight", "layer1.0.conv1.weight"):
            if key in right:
                assert (found[key] - right[key]).norm() <= 1.5 * (theirs[key] - right[key]).norm(), key

    @some_networks
    def test_use_fused_blocks_trains_to_the_same_losses(self, make):
        fast = randomise_norms(make()).double()
        plain = restore_blocks(copy.deepcopy(fast))
        labels = torch.arange(4)
        histories = []
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
            histories.append(losses)
        assert histories[0] == pytest.approx(histories[1], rel=1e-9)
        assert len(set(histories[0])) == 5


class TestUseFusedBlocks:
    def test_use_fused_blocks_changes_the_forward_alone(self):
        plain = small(block_args={"attn_layer": "se"})
        model = use_fused_blocks(copy.deepcopy(plain))
        assert len(fast_ones(model)) == 4
        assert repr(model) == repr(plain)
        assert isinstance(model.layer1[0], resnet.Bottleneck)
        assert list(model.state_dict()) == list(plain.state_dict())
        restore_blocks(model)
        assert {type(module) for module in model.modules()} == {type(module) for module in plain.modules()}

    @pytest.mark.parametrize("mechanism", ["se", "sk"])
    def test_attach_fuses_blocks_and_detach_restores_classes(self, mechanism):
        model = small(cardinality=2)
        before = [type(module) for module in model.modules()]
        foveal.attach(model, mechanism)
        assert len(fast_ones(model)) == 4
        foveal.detach(model)
        assert [type(module) for module in model.modules()] == before

    def test_use_fused_blocks_keeps_classes_without_a_gate(self):
        assert not fast_ones(use_fused_blocks(small()))
        assert not fast_ones(foveal.attach(small(), "cbam"))

    def test_create_model_fuses_the_attention_of_a_backbone(self):
        assert fast_ones(foveal.create_model("seresnet26t" if timm.is_model("seresnet26t") else "seresnext26d_32x4d"))

    @some_networks
    def test_use_fused_blocks_survives_copies_and_pickles(self, make):
        model = make().train()
        x = images()
        torch.manual_seed(3)
        expected = copy.deepcopy(model)(x)
        held = io.BytesIO()
        torch.save(model, held)
        held.seek(0)
        for other in (pickle.loads(pickle.dumps(model)), torch.load(held, weights_only=False)):  # noqa: S301
            torch.manual_seed(3)
            assert torch.equal(other(x), expected)
            assert len(fast_ones(other)) == len(fast_ones(model))

    def test_use_fused_blocks_with_activation_checkpointing(self):
        model, x = GatedBlock().double(), block_input().double().requires_grad_()
        expected = torch.autograd.grad(model(x).square().sum(), [x, *model.parameters()])
        out = checkpoint(model, x, use_reentrant=False)
        found = torch.autograd.grad(out.square().sum(), [x, *model.parameters()])
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("name", ["timm bottleneck", "sk"])
    def test_use_fused_blocks_with_a_gradient_penalty(self, name):
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

    def test_use_fused_blocks_gives_some_gradients_alone(self):
        model, x = GatedBlock().double(), block_input().double()
        model.block.conv3.weight.requires_grad_(False)
        model.block.bn3.bias.requires_grad_(False)
        plain = restore_blocks(copy.deepcopy(model))
        for each in (model, plain):
            each(x).square().sum().backward()
        for mine, theirs in zip(model.parameters(), plain.parameters(), strict=True):
            assert (mine.grad is None) == (theirs.grad is None)
            if mine.grad is not None:
                torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-9, atol=1e-12)

    def test_use_fused_blocks_drops_the_same_paths(self):
        model = GatedBlock()
        model.block.drop_path = DropPath(0.5).train()
        x = block_input(16)
        torch.manual_seed(7)
        out = model(x)
        with foveal.no_fast_path():
            torch.manual_seed(7)
            torch.testing.assert_close(out, model(x), rtol=1e-5, atol=1e-5)
