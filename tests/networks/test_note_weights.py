"""Weights of the study note's own classes: the same outputs in our networks and mechanisms."""

import pytest
import torch
from helpers import randomise_norms
from note_networks import SE_CHANNELS, Net, SEInception3, SELayer, SKConv, SKNet, se_resnet50
from torch import nn

import foveal
from foveal.mechanisms.selective_kernel import SelectiveKernel
from foveal.mechanisms.squeeze_excite import SqueezeExcite


def as_trained(theirs: nn.Module) -> nn.Module:
    """Move norms, attention and transforms away from their start, so that a lost weight changes the output."""
    for weight in randomise_norms(theirs).parameters():
        if weight.ndim < 4:
            weight.data += 0.1 * torch.randn_like(weight)
    return theirs.eval()


def difference(output: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference relative to the largest magnitude."""
    return ((output - expected).abs().max() / expected.abs().max()).item()


@torch.no_grad()
@pytest.mark.parametrize(
    ("theirs", "ours", "layout", "shape"),
    [
        (lambda: SELayer(64), lambda: SqueezeExcite(64, bias=False), "moskomule", (3, 64, 9, 9)),
        (lambda: SKConv(64, 64, 2), lambda: SelectiveKernel(64, stride=2), "study-note", (3, 64, 9, 9)),
        (
            lambda: SKConv(64, 64, M=3, r=2, L=8),
            lambda: SelectiveKernel(64, dilations=(1, 2, 3), reduction=2, floor=8),
            "study-note",
            (3, 64, 9, 9),
        ),
    ],
    ids=["SELayer", "SKConv", "SKConv, three branches"],
)
def test_load_weights_of_the_notes_layers_keeps_outputs(theirs, ours, layout, shape):
    theirs, ours = as_trained(theirs()), ours().eval()
    assert foveal.load_weights(ours, theirs.state_dict()) == layout
    x = torch.randn(shape)
    assert difference(ours(x), theirs(x)) < 1e-5


@torch.no_grad()
def test_load_weights_of_the_notes_spatial_transformer_network_keeps_outputs():
    """The transforms are far from the identity, and show what lies outside the image: zeros there, as in the note."""
    theirs = as_trained(Net())
    theirs.fc_loc[2].bias += torch.tensor([0.3, 0.2, 0.4, -0.2, 0.3, 0])
    ours = foveal.create_model("stn_cnn:localisation=note,padding=0", num_classes=10, in_chans=1).eval()
    assert foveal.load_weights(ours, theirs.state_dict()) == "study-note"
    x = torch.randn(4, 1, 28, 28)
    with foveal.watch(ours) as seen:
        output = ours(x)
    theta = theirs.fc_loc(theirs.localization(x).flatten(1)).view(-1, 2, 3)
    torch.testing.assert_close(seen["stn"].values, theta)
    assert theta.std(0).min() > 0  # each image has a transform of its own
    assert difference(output.log_softmax(1), theirs(x)) < 1e-5
    border = foveal.create_model("stn_cnn:localisation=note", num_classes=10, in_chans=1).eval()
    foveal.load_weights(border, theirs.state_dict())
    assert difference(border(x).log_softmax(1), theirs(x)) > 1e-2


@torch.no_grad()
@pytest.mark.parametrize(
    "blocks",
    [(3, 4, 6, 3), pytest.param((3, 4, 23, 3), marks=[pytest.mark.slow, pytest.mark.exhaustive])],
    ids=["SKNet50", "SKNet101"],
)
def test_load_weights_of_the_notes_sknets_keeps_outputs(blocks):
    theirs = as_trained(SKNet(20, blocks))
    ours = foveal.create_model("sknet50" if sum(blocks) == 16 else "sknet101", num_classes=20).eval()
    assert foveal.load_weights(ours, theirs.state_dict()) == "study-note"
    x = torch.randn(2, 3, 64, 64)
    expected = theirs(x)
    assert expected.std() > 0.01
    assert difference(ours(x).softmax(1), expected) < 1e-5


@torch.no_grad()
def test_load_weights_of_the_notes_se_resnet_keeps_outputs():
    theirs = as_trained(se_resnet50())
    ours = foveal.create_model("seresnet50:bias=False").eval()
    assert foveal.load_weights(ours, theirs.state_dict()) == "moskomule"
    x = torch.randn(2, 3, 64, 64)
    assert difference(ours(x), theirs(x)) < 1e-5
    with pytest.raises(ValueError, match=r"missing layer1.0.se.fc1.bias.*match best 'seresnet50:bias=False'"):
        foveal.load_weights(foveal.create_model("seresnet50"), theirs.state_dict())


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(("auxiliary", "unused"), [(True, 24), (False, 22)])
def test_load_weights_of_the_notes_se_inception_names_its_uncalled_layers(auxiliary, unused):
    theirs = as_trained(SEInception3(5, auxiliary))
    ours = foveal.create_model("se_inception_v3", num_classes=5, identity=True).eval()
    with pytest.warns(UserWarning, match=f"^{unused} tensors are not used, .*: Mixed_5b.SELayer, .*") as warned:
        assert foveal.load_weights(ours, theirs.state_dict()) == "moskomule"
    named = {name for name in SE_CHANNELS if f"{name}.SELayer" in str(warned[0].message)}
    assert named == set(SE_CHANNELS) - (set() if auxiliary else {"AuxLogits"})
    x = torch.randn(1, 3, 299, 299)
    assert difference(ours(x), theirs(x)) < 1e-5


@pytest.mark.exhaustive
def test_load_weights_names_the_options_that_fit():
    model = foveal.create_model("small_cnn")
    for theirs, name in ((Net, "stn_cnn:localisation=note,padding=0"), (SKNet, "sknet50")):
        with pytest.raises(ValueError, match=f"match best {name!r}, in the layout 'study-note'"):
            foveal.load_weights(model, theirs().state_dict())


def test_load_weights_keeps_a_prefix_that_the_model_has():
    """A network of the caller with an attribute `model`, the name of a container too."""
    theirs, ours = (nn.ModuleDict({"model": nn.Linear(3, 2)}) for _ in range(2))
    assert foveal.load_weights(ours, theirs.state_dict()) == "plain"
    assert torch.equal(ours["model"].weight, theirs["model"].weight)
