"""Audits of networks of which the gradient cannot be tested: no fault that is none."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import foveal
from foveal.mechanisms.squeeze_excite import SqueezeExcite

IMAGES = torch.rand(4, 3, 8, 8)


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool):
        super().__init__()
        self.stem, self.attention, self.head = nn.Conv2d(3, 4, 3), SqueezeExcite(4, reduction=2), nn.Linear(4, 2)
        self.reentrant = reentrant

    def forward(self, x):
        return self.head(checkpoint(self.attention, self.stem(x), use_reentrant=self.reentrant).mean((2, 3)))


class WithoutGradient(Checkpointed):
    def forward(self, x):
        return super().forward(x).detach()


def gradients(audited) -> set[str]:
    return {str(each) for each in audited.findings if "gradient" in each.type or "graph" in each.type}


def test_audit_under_inference_mode_tests_the_gradient():
    model = Checkpointed(reentrant=False)
    with torch.inference_mode():
        assert gradients(foveal.audit(model, [IMAGES])) == set()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Checkpointed(reentrant=True), "torch.utils.checkpoint with use_reentrant=True hides layers from it"),
        (lambda: WithoutGradient(reentrant=False), "the answer has no gradient at all"),
    ],
)
def test_audit_says_why_the_gradient_is_not_tested(make, why):
    audited = foveal.audit(make(), [IMAGES])
    (line,) = gradients(audited)
    assert line.startswith(f"gradient not tested: {why}")
    assert not [each for each in audited.faults if each.type in ("not in the graph", "gradient not tested")]


def test_audit_of_weights_made_under_inference_mode():
    with torch.inference_mode():
        model = Checkpointed(reentrant=False)
    (line,) = gradients(foveal.audit(model, [IMAGES]))
    assert line.startswith("gradient not tested: the model's weights were made under torch.inference_mode")


class Quantized(nn.Module):
    """An attention in front of a dynamically quantized layer, which passes no gradient back."""

    def __init__(self):
        super().__init__()
        self.stem, self.attention = nn.Conv2d(3, 4, 3), SqueezeExcite(4, reduction=2)
        self.head = nn.Sequential(nn.Linear(4, 2))
        torch.ao.quantization.quantize_dynamic(self.head, {nn.Linear}, inplace=True)

    def forward(self, x):
        return self.head(self.attention(self.stem(x)).mean((2, 3)))


@pytest.mark.filterwarnings("ignore")
def test_audit_in_front_of_a_quantized_layer():
    (line,) = gradients(foveal.audit(Quantized(), [IMAGES]))
    assert line == "gradient not tested: a part of the model has no backward pass, as a quantized layer"
