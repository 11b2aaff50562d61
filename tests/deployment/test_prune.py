"""Pruning constant gates: which are folded, into what, and which stay."""

import pytest
import torch
from helpers import randomise_norms
from torch import nn
from torch.nn import functional as F

import foveal
from foveal.mechanisms.cbam import CBAM
from foveal.mechanisms.squeeze_excite import SqueezeExcite

IMAGES = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(0)).split(3)


def constant(channels: int = 8) -> SqueezeExcite:
    """Gate whose last layer ignores its input."""
    gate = SqueezeExcite(channels, 2)
    nn.init.zeros_(gate.fc2.weight)
    nn.init.normal_(gate.fc2.bias)
    return gate


def answers(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([model.eval()(images) for images in IMAGES])


def chain(*between: nn.Module, last: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), *between, last or constant(), nn.ReLU(), nn.Conv2d(8, 4, 3))


@pytest.mark.parametrize(
    ("between", "layer"),
    [
        ((), "0"),
        ((nn.BatchNorm2d(8),), "1"),
        ((nn.GroupNorm(2, 8),), "1"),
        ((nn.BatchNorm2d(8), nn.ReLU()), "1"),
        ((nn.BatchNorm2d(8), nn.ReLU(inplace=True)), "1"),
        ((nn.LeakyReLU(), nn.MaxPool2d(2), nn.Identity()), "0"),
    ],
)
def test_prune_constant_folds_a_gate_into_the_layer_before(between, layer):
    model = randomise_norms(chain(*between)).eval()
    before = answers(model)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    pruned = foveal.prune_constant(model, IMAGES)
    assert pruned.folded == {str(len(between) + 1): layer}
    assert pruned.refused == {}
    assert not [each for each in pruned.model.modules() if isinstance(each, SqueezeExcite)]
    torch.testing.assert_close(answers(pruned.model), before)
    assert pruned.change < 1e-5
    assert all(value.equal(weights[name]) for name, value in model.state_dict().items())  # the network is left alone
    assert answers(model).equal(before)


@pytest.mark.parametrize("between", [nn.SiLU(), nn.Sigmoid()])
def test_prune_constant_folds_a_gate_into_the_convolution_after(between):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), between, constant(), nn.Conv2d(8, 4, 3, padding=1)).eval()
    pruned = foveal.prune_constant(model, IMAGES)
    assert pruned.folded == {"2": "3"}
    assert pruned.model[3].bias.equal(model[3].bias)
    torch.testing.assert_close(answers(pruned.model), answers(model))


def test_prune_constant_handles_timm_norms_with_activation():
    layers = pytest.importorskip("timm.layers")
    for act, layer in ((nn.ReLU, "1"), (nn.SiLU, "3")):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), layers.BatchNormAct2d(8, act_layer=act), constant())
        model.append(nn.Conv2d(8, 4, 1))
        randomise_norms(model).eval()
        pruned = foveal.prune_constant(model, IMAGES)
        assert pruned.folded == {"2": layer}
        torch.testing.assert_close(answers(pruned.model), answers(model))


def test_prune_constant_by_hand():
    """A gate of 1/4 on a convolution of weight 2 and bias 3: weight 1/2 and bias 3/4."""
    gate = SqueezeExcite(1)
    nn.init.zeros_(gate.fc2.weight)
    nn.init.constant_(gate.fc2.bias, -torch.tensor(3.0).log().item())
    model = nn.Sequential(nn.Conv2d(3, 1, 1), gate)
    nn.init.constant_(model[0].weight, 2)
    nn.init.constant_(model[0].bias, 3)
    layer = foveal.prune_constant(model, IMAGES).model[0]
    torch.testing.assert_close(layer.weight, torch.full((1, 3, 1, 1), 0.5))
    torch.testing.assert_close(layer.bias, torch.tensor([0.75]))


class Other(nn.Module):
    """Gate on a map that another layer reads too, or that no module outputs."""

    def __init__(self, how: str):
        super().__init__()
        self.how = how
        self.conv = nn.Conv2d(3, 8, 1)
        self.se = constant()

    def forward(self, x):
        y = self.conv(x)
        if self.how == "shortcut":
            return self.se(y) + y
        if self.how == "answer":
            return self.se(y), y
        if self.how == "functional":
            return self.se(F.relu(y))
        return self.se(self.conv(self.se(y)[:, :3]))


class Residual(SqueezeExcite):
    def forward(self, x):
        return x + super().forward(x)


def residual() -> Residual:
    gate = Residual(8, 2)
    gate.load_state_dict(constant().state_dict())
    return gate


@pytest.mark.parametrize(
    ("model", "path", "reason"),
    [
        (Other("shortcut"), "se", "has another reader"),
        (Other("answer"), "se", "has another reader"),
        (Other("functional"), "se", "no module returns the tensor that it scales"),
        (Other("twice"), "se#1", "not called exactly once"),
        (chain(nn.Sigmoid()), "2", "Sigmoid before it does not commute with a scale"),
        (chain(nn.BatchNorm2d(8, affine=False)), "2", "adjacent BatchNorm2d has no weight"),
        (chain(last=residual()), "1", "more than scale"),
    ],
)
def test_prune_constant_keeps_a_gate_and_states_why(model, path, reason):
    model.eval()
    pruned = foveal.prune_constant(model, IMAGES)
    assert pruned.folded == {}
    assert reason in pruned.refused[path]
    for new, held in zip(pruned.model(IMAGES[0]), model(IMAGES[0]), strict=True):
        assert new.equal(held)


def test_prune_constant_restores_shared_weights():
    model = chain()
    model.append(nn.Conv2d(4, 3, 3))
    model.append(nn.Conv2d(3, 8, 3))
    model[5].weight = model[0].weight
    pruned = foveal.prune_constant(model, IMAGES)
    assert "the outputs would change by" in pruned.refused["1"]
    assert answers(pruned.model).equal(answers(model))


def test_prune_constant_ignores_a_gate_that_depends_on_its_input():
    pruned = foveal.prune_constant(chain(last=SqueezeExcite(8, 2)), [10 * each for each in IMAGES])
    assert not pruned.folded
    assert str(pruned) == "no gate is constant"


def test_prune_constant_on_small_cnn_and_the_channel_gate_of_cbam():
    model = foveal.create_model("small_cnn+se+cbam", num_classes=3).eval()
    randomise_norms(model)
    for module in model.modules():
        if isinstance(module, SqueezeExcite):
            nn.init.zeros_(module.fc2.weight)
    before = answers_at(model)
    pruned = foveal.prune_constant(model, [torch.rand(4, 3, 28, 28)])
    assert len(pruned.folded) >= 3
    assert all(layer.endswith("norm") for layer in pruned.folded.values())
    torch.testing.assert_close(answers_at(pruned.model), before, rtol=1e-3, atol=1e-3)
    assert foveal.attachments(pruned.model) == []
    assert "ms before" in str(pruned)
    assert min(pruned.milliseconds) > 0
    one = chain(last=CBAM(8, 2))
    nn.init.zeros_(one[1].channel.fc2.weight)
    assert foveal.prune_constant(one, IMAGES).folded == {"1.channel": "0"}


def answers_at(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.linspace(0, 1, 3 * 28 * 28).view(1, 3, 28, 28))


def test_prune_constant_refuses_no_images():
    with pytest.raises(ValueError, match="contains no images"):
        foveal.prune_constant(chain(), [])
