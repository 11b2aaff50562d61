"""Deployed models: the same outputs from a graph without norms, or an error."""

import pickle

import pytest
import timm
import torch
import torchvision
from helpers import operators, plain_weights, randomise_norms
from torch import nn

import foveal
from foveal.deployment.gated_blocks import KnownGate

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
def test_deploy_keeps_outputs_and_attention(make, known):
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


def test_deploy_removes_plain_operators():
    """No norm runs, and the gate is part of the addition."""
    model = randomise_norms(foveal.create_model("seresnet50"))
    network = foveal.deploy(model, IMAGES).network
    with torch.no_grad():
        ran = operators(lambda: network(IMAGES))
    assert "aten::addcmul" in ran
    assert not {"aten::batch_norm", "aten::native_batch_norm", "aten::mul", "aten::mul_"} & {*ran}


def test_deploy_keeps_a_hooked_gate():
    model = foveal.create_model("seresnet18")
    model.layer1[0].se.register_forward_hook(lambda *_: None)
    deployed = foveal.deploy(model, IMAGES)
    assert "layer1.0.se" not in gates(deployed.network)
    assert len(gates(deployed.network)) == 7


def test_deploy_refuses_a_difference_above_the_tolerance():
    with pytest.raises(ValueError, match=r"tolerance=1e-09: the deployed model differs by \d") as caught:
        foveal.deploy(randomise_norms(foveal.create_model("seresnet18")), IMAGES, tolerance=1e-9)
    assert "\n" not in str(caught.value)


def test_deploy_refuses_nan_outputs():
    model = foveal.create_model("seresnet18")
    nn.init.constant_(model.fc.bias, float("nan"))
    with pytest.raises(ValueError, match="differs by inf"):
        foveal.deploy(model, IMAGES)


def test_deploy_in_half_precision_takes_and_returns_float32():
    model = randomise_norms(foveal.create_model("seresnet18"))
    deployed = foveal.deploy(model, IMAGES, dtype=torch.bfloat16, tolerance=0.1)
    assert deployed.network(IMAGES).dtype == torch.float32
    assert {weight.dtype for weight in deployed.network.parameters()} == {torch.bfloat16}
    assert 1e-5 < deployed.difference < 0.1


def test_deploy_refuses_a_non_batch_and_a_non_tensor_output():
    with pytest.raises(ValueError, match=r"images of shape \(3, 64, 64\)"):
        foveal.deploy(foveal.create_model("seresnet18"), IMAGES[0])

    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(TypeError, match="output is a tuple"):
        foveal.deploy(Pair(), IMAGES)


def test_deploy_survives_pickling_and_passes_gradients_to_images():
    model = randomise_norms(foveal.create_model("seresnet18"))
    network = pickle.loads(pickle.dumps(foveal.deploy(model, IMAGES).network))  # noqa: S301
    images = IMAGES.clone().requires_grad_()
    other = IMAGES.clone().requires_grad_()
    (mine,) = torch.autograd.grad(network(images)[:, 0].sum(), images)
    (expected,) = torch.autograd.grad(model.eval()(other)[:, 0].sum(), other)
    torch.testing.assert_close(mine, expected, atol=1e-3 * float(expected.abs().max()), rtol=0)


@pytest.mark.slow
def test_deploy_compiles():
    model = randomise_norms(foveal.create_model("small_cnn+se"))
    assert foveal.deploy(model, IMAGES, compile=True).difference < 1e-4


def test_deploy_accepts_zero_outputs():
    """All logits are zero, and so is the difference."""
    network = randomise_norms(foveal.create_model("small_cnn+se", num_classes=5)).eval()
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    assert foveal.deploy(network, torch.randn(2, 3, 32, 32)).difference == 0


@torch.no_grad()
def test_deploy_keeps_tensors_that_hooks_recorded():
    network = foveal.deploy(timm.create_model("seresnet50", num_classes=5).eval(), torch.randn(1, 3, 64, 64)).network
    block = network.get_submodule("layer1.0")
    recorded = []
    block.conv3.register_forward_hook(lambda module, given, out: recorded.extend([out, out.clone()]))
    network(torch.randn(1, 3, 64, 64))
    assert torch.equal(*recorded)
