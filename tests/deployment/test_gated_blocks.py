"""Gates computed before their convolution."""

import torch
import torchvision
from helpers import randomise_norms
from torch import nn

import foveal
from foveal.deployment.gated_blocks import KnownGate
from foveal.mechanisms.squeeze_excite import SqueezeExcite

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def gates(model: nn.Module) -> list[str]:
    return [path for path, module in model.named_modules() if isinstance(module, KnownGate)]


def torchvisions(name: str) -> nn.Module:
    return foveal.attach(getattr(torchvision.models, name)(), "se", identity=False)


def test_deploy_computes_gates_early_in_torchvision_bottlenecks():
    deployed = foveal.deploy(randomise_norms(torchvisions("resnet50")), IMAGES)
    assert len(gates(deployed.network)) == 16
    assert deployed.network.layer1[0].bn3.se.fc1.in_features == 64  # the convolution's input, not its 256 channels


def test_known_gate_by_hand():
    """Two channels with means 1 and 3; W = [[1, 0], [2, 1]], b = (0, 1): the gate must see means 1 and 6."""
    conv = nn.Conv2d(2, 2, 1)
    conv.weight.data = torch.tensor([[1.0, 0.0], [2.0, 1.0]])[..., None, None]
    conv.bias.data = torch.tensor([0.0, 1.0])
    se = SqueezeExcite(2, reduction=1, bias=False)
    se.fc1.weight.data = torch.eye(2)
    se.fc2.weight.data = torch.eye(2)
    x = torch.tensor([[0.0, 2.0], [3.0, 3.0]]).view(1, 2, 1, 2)
    torch.testing.assert_close(KnownGate(se, conv)(x).flatten(), torch.tensor([1.0, 6.0]).sigmoid())
