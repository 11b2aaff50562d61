"""Weights under the names of other repositories."""

import pytest
import torch
import torchvision
from copied_networks import (
    AuthorsCBAM,
    AuthorsECA,
    BAMResNet,
    TheirSE,
    pytorchcvs_resnet18,
    pytorchcvs_resnet20,
    resnet18,
    small_resnet20,
)
from helpers import randomise_norms
from torch import nn

import foveal

CASES = {  # their network, ours, the layout, the side of an image
    "CBAM's authors": (lambda: resnet18("cbam", AuthorsCBAM), "cbam_resnet18", {}, "attention-module", 64),
    "moskomule": (lambda: resnet18("se", TheirSE), "seresnet18", {"bias": False}, "moskomule", 64),
    "moskomule, small": (small_resnet20, "seresnet20", {"bias": False}, "moskomule", 32),
    "BAM's authors": (BAMResNet, "bam_resnet18", {"released": True}, "attention-module", 64),
    "ECA's authors": (lambda: resnet18("eca", AuthorsECA), "eca_resnet18", {"kernel_size": 3}, "ecanet", 64),
    "pytorchcv, CBAM": (pytorchcvs_resnet18, "cbam_resnet18", {}, "pytorchcv", 64),
    "pytorchcv, small": (pytorchcvs_resnet20, "seresnet20", {}, "pytorchcv", 32),
}


def as_trained(theirs: nn.Module) -> nn.Module:
    """Move norms and attention away from their start, so that a lost weight changes the logits."""
    for weight in randomise_norms(theirs).parameters():
        if weight.ndim == 2:
            weight.data *= 3
    return theirs.eval()


def same_outputs(answer: torch.Tensor, expected: torch.Tensor) -> bool:
    return expected.std() > 0.01 and (answer - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@torch.no_grad()
def test_load_weights_of_other_repositories_keeps_outputs(case):
    make, name, options, layout, side = case
    theirs = as_trained(make())
    ours = foveal.create_model(name, num_classes=5, **options).eval()
    old = {key: value for key, value in theirs.state_dict().items() if not key.endswith("num_batches_tracked")}
    state = {"arch": "net", "state_dict": {f"module.{key}": value for key, value in old.items()}}
    assert foveal.load_weights(ours, state) == layout
    x = torch.randn(2, 3, side, side)
    assert same_outputs(ours(x), theirs(x))


@torch.no_grad()
def test_load_weights_finds_attention_of_other_repositories_in_any_place():
    """Attention behind torchvision's bn2 at the identity: no name of a weight agrees."""
    theirs = as_trained(resnet18("cbam", AuthorsCBAM))
    ours = foveal.attach(torchvision.models.resnet18(num_classes=5), "cbam").eval()
    foveal.load_weights(ours, theirs.state_dict())
    x = torch.randn(2, 3, 64, 64)
    assert ours.layer1[0].bn2.cbam.channel.strength.s.item() == 1
    assert same_outputs(ours(x), theirs(x))


def test_match_keys_renames_selective_kernels_of_pytorchcv():
    """Names alone: features.stage2.unit1 is our layer2.0, its branches 2 and 3 ours 0 and 1."""
    ours = foveal.create_model("sknet26", num_classes=5)
    there = {
        "layer2.0.conv1.weight": "body.conv1.conv.weight",
        "layer2.0.bn1.bias": "body.conv1.bn.bias",
        "layer2.0.conv2.branches.0.conv.weight": "body.conv2.branches.branch2.conv.weight",
        "layer2.0.conv2.branches.1.norm.weight": "body.conv2.branches.branch3.bn.weight",
        "layer2.0.conv2.fc1.weight": "body.conv2.fc1.conv.weight",
        "layer2.0.conv2.norm.running_var": "body.conv2.fc1.bn.running_var",
        "layer2.0.conv2.fc2.weight": "body.conv2.fc2.weight",
        "layer2.0.bn3.weight": "body.conv3.bn.weight",
        "layer2.0.downsample.1.weight": "identity_conv.bn.weight",
    }
    held = ours.state_dict()
    best = foveal.networks.key_layouts.match_keys(
        ours, {f"features.stage2.unit1.{theirs}": held[name] for name, theirs in there.items()}
    )
    assert best.layout == "pytorchcv"
    assert not best.unexpected + best.shapes
    assert len(best.state) == len(there)
