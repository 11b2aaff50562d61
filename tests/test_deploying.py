"""A model made ready for inference: the same answers, from a graph without norms, or none at all."""

import pickle

import pytest
import timm
import torch
import torchvision
from conftest import plain_weights, randomise_norms
from torch import nn

import foveal
from foveal.deployment.folding import fold_norms
from foveal.deployment.gated_blocks import KnownGate
from foveal.deployment.pointwise import multiply_pointwise
from foveal.mechanisms.squeeze_excite import SqueezeExcite

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def norms(model: nn.Module) -> int:
    return sum(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in model.modules())


def gates(model: nn.Module) -> list[str]:
    return [path for path, module in model.named_modules() if isinstance(module, KnownGate)]


def torchvisions(name: str) -> nn.Module:
    return foveal.attach(getattr(torchvision.models, name)(), "se", identity=False)


@pytest.mark.parametrize(
    ("make", "known"),
    [
        (lambda: foveal.create_model("seresnet18"), 8),
        (lambda: timm.create_model("resnet18"), 0),
        (lambda: timm.create_model("seresnet50", layers=(1, 1, 1, 1)), 4),
        (lambda: torchvisions("resnet18"), 8),
        (lambda: foveal.create_model("sknet26"), 0),
        (lambda: foveal.create_model("cbam_resnet18"), 0),
    ],
    ids=["ours", "plain", "timm", "torchvision", "sk", "cbam"],
)
def test_answers_and_attention_are_the_originals(make, known):
    model = randomise_norms(make())
    before = plain_weights(model)
    deployed = foveal.deploy(model, IMAGES)
    assert deployed.difference < 1e-5
    assert norms(deployed.network) == 0
    assert len(gates(deployed.network)) == known
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    if not foveal.attachments(model) and not known:
        return  # nothing to watch
    with torch.no_grad(), foveal.watch(deployed.network) as seen:
        deployed.network(IMAGES)
    with torch.no_grad(), foveal.watch(model.eval()) as expected:
        model(IMAGES)
    assert [record.path for record in seen] == [record.path for record in expected]
    for mine, theirs in zip(seen, expected, strict=True):
        torch.testing.assert_close(mine.values, theirs.values, atol=1e-4, rtol=0)


def test_torchvisions_bottlenecks_know_their_gates():
    deployed = foveal.deploy(randomise_norms(torchvisions("resnet50")), IMAGES)
    assert len(gates(deployed.network)) == 16
    assert deployed.network.layer1[0].bn3[1].fc1.in_features == 64  # the convolution's input, not its 256 channels


def test_a_gate_known_early_by_thought():
    """Two channels with means 1 and 3; W = [[1, 0], [2, 1]], b = (0, 1): the gate must see means 1 and 6."""
    conv = nn.Conv2d(2, 2, 1)
    conv.weight.data = torch.tensor([[1.0, 0.0], [2.0, 1.0]])[..., None, None]
    conv.bias.data = torch.tensor([0.0, 1.0])
    se = SqueezeExcite(2, reduction=1, bias=False)
    se.fc1.weight.data = torch.eye(2)
    se.fc2.weight.data = torch.eye(2)
    x = torch.tensor([[0.0, 2.0], [3.0, 3.0]]).view(1, 2, 1, 2)
    torch.testing.assert_close(KnownGate(se, conv)(x).flatten(), torch.tensor([1.0, 6.0]).sigmoid())


def test_a_1x1_convolution_is_a_product_where_the_channels_come_last():
    conv = nn.Conv2d(5, 7, 1)
    x = torch.randn(2, 5, 3, 4).to(memory_format=torch.channels_last)
    expected = conv(x)
    assert multiply_pointwise(nn.Sequential(conv, nn.Conv2d(7, 7, 1, stride=2), nn.Conv2d(7, 7, 3))) == 1
    out = conv(x)
    torch.testing.assert_close(out, expected)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert "aten::linear" in operators(lambda: conv(x))
    assert "aten::linear" not in operators(lambda: conv(x.contiguous()))
    assert torch.equal(conv(x.contiguous()), nn.functional.conv2d(x.contiguous(), conv.weight, conv.bias))


def test_the_plain_operators_are_gone():
    """No norm runs, and weighing is part of the addition."""
    model = randomise_norms(foveal.create_model("seresnet50"))
    network = foveal.deploy(model, IMAGES).network
    with torch.no_grad():
        ran = operators(lambda: network(IMAGES))
    assert "aten::addcmul" in ran
    assert not {"aten::batch_norm", "aten::native_batch_norm", "aten::mul", "aten::mul_"} & {*ran}


def operators(run) -> list[str]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run()
    return [event.key for event in profile.key_averages()]


class Odd(nn.Module):
    """Pairs of convolution and norm that must stay."""

    def __init__(self):
        super().__init__()
        self.twice, self.twice_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.read, self.read_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.hooked, self.hooked_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.scaled = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1))
        self.scaled_norm = nn.BatchNorm2d(3)
        self.changed, self.changed_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.batch, self.batch_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)
        self.good, self.good_norm, self.act = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(3, 2)
        self.hooked.register_forward_hook(lambda *_: None)

    def forward(self, x):
        x = self.twice_norm(self.twice(self.twice(x)))
        y = self.read(x)
        x = self.read_norm(y) + y
        x = self.hooked_norm(self.hooked(x))
        x = self.scaled_norm(self.scaled(x))
        x = self.changed_norm(self.changed(x).add_(1.0))
        x = self.batch_norm(self.batch(x))
        return self.head(self.pool(self.act(self.good_norm(self.good(x)))).flatten(1))


def test_only_what_is_safe_is_folded():
    model = randomise_norms_but_untracked(Odd()).eval()
    with torch.no_grad():
        expected = model(IMAGES)
        folded = fold_norms(model, IMAGES)
        torch.testing.assert_close(model(IMAGES), expected)
    assert [(pair.first, pair.then) for pair in folded] == [("good", "good_norm")]
    assert model.act.inplace


def randomise_norms_but_untracked(model: nn.Module) -> nn.Module:
    norm = model._modules.pop("batch_norm")
    randomise_norms(model)
    model.batch_norm = norm
    return model


def test_a_map_that_is_also_an_answer_is_not_folded_away():
    class Showing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y), y

    assert fold_norms(Showing().eval(), IMAGES) == []


def test_a_hooked_gate_stays():
    model = foveal.create_model("seresnet18")
    model.layer1[0].se.register_forward_hook(lambda *_: None)
    deployed = foveal.deploy(model, IMAGES)
    assert "layer1.0.se" not in gates(deployed.network)
    assert len(gates(deployed.network)) == 7


def test_a_difference_beyond_the_tolerance_is_refused():
    with pytest.raises(ValueError, match=r"tolerance=1e-09: the deployed model differs by \d") as caught:
        foveal.deploy(randomise_norms(foveal.create_model("seresnet18")), IMAGES, tolerance=1e-9)
    assert "\n" not in str(caught.value)


def test_an_answer_that_is_not_a_number_is_refused():
    model = foveal.create_model("seresnet18")
    nn.init.constant_(model.fc.bias, float("nan"))
    with pytest.raises(ValueError, match="differs by inf"):
        foveal.deploy(model, IMAGES)


def test_half_precision_takes_and_gives_single():
    model = randomise_norms(foveal.create_model("seresnet18"))
    deployed = foveal.deploy(model, IMAGES, dtype=torch.bfloat16, tolerance=0.1)
    assert deployed.network(IMAGES).dtype == torch.float32
    assert {weight.dtype for weight in deployed.network.parameters()} == {torch.bfloat16}
    assert 1e-5 < deployed.difference < 0.1


def test_what_is_no_batch_and_what_answers_no_tensor_is_refused():
    with pytest.raises(ValueError, match=r"images of shape \(3, 64, 64\)"):
        foveal.deploy(foveal.create_model("seresnet18"), IMAGES[0])

    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(TypeError, match="output is a tuple"):
        foveal.deploy(Pair(), IMAGES)


def test_the_network_keeps_through_a_pickle_and_gives_gradients_to_images():
    model = randomise_norms(foveal.create_model("seresnet18"))
    network = pickle.loads(pickle.dumps(foveal.deploy(model, IMAGES).network))  # noqa: S301
    images = IMAGES.clone().requires_grad_()
    other = IMAGES.clone().requires_grad_()
    (mine,) = torch.autograd.grad(network(images)[:, 0].sum(), images)
    (expected,) = torch.autograd.grad(model.eval()(other)[:, 0].sum(), other)
    torch.testing.assert_close(mine, expected, atol=1e-3 * float(expected.abs().max()), rtol=0)


@pytest.mark.slow
def test_compiled():
    model = randomise_norms(foveal.create_model("small_cnn+se"))
    assert foveal.deploy(model, IMAGES, compile=True).difference < 1e-4


def test_a_network_of_zeros_is_deployed():
    """All its logits are zero, and so is the difference."""
    network = randomise_norms(foveal.create_model("small_cnn+se", num_classes=5)).eval()
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    assert foveal.deploy(network, torch.randn(2, 3, 32, 32)).difference == 0


@torch.no_grad()
def test_what_a_hook_saw_of_a_deployed_block_stays_as_it_was():
    network = foveal.deploy(timm.create_model("seresnet50", num_classes=5).eval(), torch.randn(1, 3, 64, 64)).network
    block = network.get_submodule("layer1.0")
    met = []
    block.conv3.register_forward_hook(lambda module, given, made: met.extend([made, made.clone()]))
    network(torch.randn(1, 3, 64, 64))
    assert torch.equal(*met)
