"""Networks with attention under `torch.fx`: feature extractors and quantization; TorchScript by tracing."""

import warnings

import pytest
import torch
from helpers import randomise_norms, vary_weights
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
from torchvision.models.feature_extraction import create_feature_extractor

import foveal
from foveal.mechanisms.registry import MECHANISMS as ALL

MECHANISMS = ("se", "sk:groups=8", "cbam", "bam", "ge:extent=4", "mhsa", "stn")


def network(mechanism: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return randomise_norms(foveal.create_model(f"small_cnn+{mechanism}", num_classes=5, in_chans=3)).eval()


@torch.no_grad()
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_feature_extractor_returns_the_maps_of_a_network_with_attention(mechanism):
    model, images, seen = network(mechanism), torch.randn(2, 3, 40, 48), []
    extract = create_feature_extractor(model, {"features.2": "map", "head": "logits"})
    model.features[2].register_forward_hook(lambda _, __, out: seen.append(out))
    with foveal.no_fast_path():  # a graph contains the definitions
        expected, found = model(images), extract(images)
    assert torch.equal(found["logits"], expected)
    assert torch.equal(found["map"], seen[0])


@torch.no_grad()
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_fx_quantization_takes_a_network_with_attention(mechanism):
    """The convolutions become integer ones; logits change by what eight bits change."""
    model, images = network(mechanism), torch.randn(8, 3, 40, 40)
    expected = model(images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its API is to move to another package
        prepared = prepare_fx(model, get_default_qconfig_mapping(), (images,))
        prepared(images)
        quantized = convert_fx(prepared)
    integer = [name for name, module in quantized.named_modules() if "quantized" in type(module).__module__]
    assert any(name.startswith("features.2.conv") for name in integer)
    difference = (quantized(images) - expected).abs().mean() / expected.std()
    assert 0 < difference < 0.2


EXHAUSTIVE = [pytest.mark.slow, pytest.mark.exhaustive]
TRACED = [
    pytest.param(name, marks=[] if name in ("se", "stn", "nl") else EXHAUSTIVE)
    for name, each in ALL.items()
    if each.attaches != "network"
]
OPTIONS = {"sk": ":groups=8", "ge": ":extent=4", "hard_crop": ":size=24"}


@torch.no_grad()
@pytest.mark.parametrize("name", TRACED)
def test_torchscript_is_made_by_tracing(name):
    """A traced network runs at another batch size and another image size; scripting is refused in one line."""
    model = vary_weights(network(f"{name}{OPTIONS.get(name, '')}"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and shapes are constants for Python
        traced = torch.jit.trace(model, torch.randn(2, 3, 40, 40))
        with pytest.raises(TypeError, match=r"torch.jit.script: \w+ cannot be scripted; use torch.jit.trace"):
            torch.jit.script(model)
    with foveal.no_fast_path():
        for shape in ((2, 3, 40, 40), (3, 3, 48, 56)):
            images = torch.randn(shape)
            torch.testing.assert_close(traced(images), model(images), atol=1e-4, rtol=1e-4)
