"""Weights from files and other layouts; what does not fit."""

import pytest
import timm
import torch
from copied_networks import AuthorsCBAM, TheirSE, resnet18
from helpers import randomise_norms
from torch import nn

import foveal
from foveal.networks.key_layouts import LAYOUTS, load_matched, match_keys
from foveal.networks.recipes import RECIPES


@pytest.mark.parametrize("name", ["seresnet50", "sknet50", "seresnext50_32x4d"])
def test_load_weights_of_timm_networks_keeps_outputs(name):
    theirs = randomise_norms(timm.create_model(RECIPES[name].whole)).eval()
    for weight in theirs.parameters():
        if weight.ndim == 1:
            weight.data += 0.1 * torch.randn_like(weight)
    ours = foveal.create_model(name).eval()
    foveal.load_weights(ours, theirs.state_dict())
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected, answer = theirs(x), ours(x)
    assert expected.std() > 0.01
    assert (answer - expected).abs().max() < 1e-5 * expected.abs().max()


class TestLoadWeights:
    def test_load_weights_strips_prefixes_and_containers(self, tmp_path):
        theirs = randomise_norms(timm.create_model("resnet18", num_classes=3))
        ours = foveal.create_model("resnet18+se", num_classes=3, identity=True)
        state = {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in theirs.state_dict().items()}}
        torch.save(state, tmp_path / "checkpoint.pth")
        assert foveal.load_weights(ours, tmp_path / "checkpoint.pth") == "plain"
        x = torch.rand(2, 3, 64, 64)
        assert torch.equal(ours.eval()(x), theirs.eval()(x))

    def test_load_weights_names_what_does_not_fit_and_keeps_the_model(self):
        model = foveal.create_model("resnet18+se", num_classes=3)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(
            ValueError, match=r"do not fit this ResNet: fc.weight has shape \(3, 512\) in the model and \(9, 512\) in"
        ):
            foveal.load_weights(model, timm.create_model("resnet18", num_classes=9).state_dict())
        with pytest.raises(ValueError, match=r"missing .* and \d+ more; unexpected .* and \d+ more"):
            foveal.load_weights(model, timm.create_model("mobilenetv3_small_050").state_dict())
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    @pytest.mark.parametrize("content", [b"", b"not a file of weights"])
    def test_load_weights_refuses_unreadable_files(self, content, tmp_path):
        model = foveal.create_model("small_cnn")
        for name in ("w.safetensors", "w.pth"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ValueError, match=f"{name}' cannot be read: [^\n]*$"):
                foveal.load_weights(model, tmp_path / name)
        with pytest.raises(ValueError, match="there is no file"):
            foveal.load_weights(model, tmp_path / "nowhere.safetensors")

    def test_load_weights_runs_no_code_of_a_pickle(self, tmp_path):
        class Bomb:
            def __reduce__(self):
                return (print, ("boom",))

        torch.save({"x": Bomb()}, tmp_path / "bomb.pth")
        with pytest.raises(ValueError, match="cannot be read"):
            foveal.load_weights(foveal.create_model("small_cnn"), tmp_path / "bomb.pth")


def test_load_weights_uses_a_named_layout_alone():
    model = foveal.create_model("cbam_resnet18", num_classes=5)
    state = resnet18("cbam", AuthorsCBAM).state_dict()
    assert foveal.load_weights(model, state, "attention-module") == "attention-module"
    with pytest.raises(ValueError, match=r"unexpected layer1\.0\.cbam.ChannelGate.mlp.1.weight"):
        foveal.load_weights(model, state, layout="plain")
    with pytest.raises(ValueError, match=f"layout='authors': must be one of {', '.join(LAYOUTS)}"):
        foveal.load_weights(model, state, layout="authors")


def attended() -> nn.Module:
    """Network with attention in three places, each with a strength."""
    return foveal.create_model("small_cnn+se", num_classes=10, in_chans=1, identity=True)


PLACES = ["features.0.attention", "features.2.attention", "features.3.attention"]


@pytest.mark.parametrize("lost", ["features.2.attention.", "features.2.attention.strength.s"])
def test_attention_of_some_places_is_refused_with_the_missing_names(lost):
    model = attended()
    state = {name: value for name, value in model.state_dict().items() if not name.startswith(lost)}
    best = match_keys(model, state)
    assert best.missing == [name for name in model.state_dict() if name.startswith(lost)]
    with pytest.raises(ValueError, match=r"do not fit this SmallCNN: missing features\.2\.attention\."):
        load_matched(model, best)


def test_attention_without_any_strength_counts_in_full_and_must_be_in_every_place():
    source, model = foveal.create_model("small_cnn+se", num_classes=10, in_chans=1), attended()
    state = source.state_dict()
    assert foveal.load_weights(model, state) == "plain"
    assert [model.get_submodule(place).strength.s.item() for place in PLACES] == [1, 1, 1]
    partial = {name: value for name, value in state.items() if not name.startswith(PLACES[1])}
    assert match_keys(attended(), partial).missing == [name for name in model.state_dict() if PLACES[1] in name]


def test_a_second_mechanism_that_the_file_lacks_keeps_its_values():
    source, model = attended(), foveal.attach(attended(), "eca", identity=False)
    with pytest.warns(UserWarning, match="contain no attention: eca keeps its initial values"):
        foveal.load_weights(model, source.state_dict())
    assert all(torch.equal(model.state_dict()[name], value) for name, value in source.state_dict().items())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(10, dtype=torch.int8), r"head\.bias is of type torch\.int8; a floating type is needed"),
        (torch.full((10,), torch.nan), r"head\.bias has values that are not finite, as torch\.float32$"),
        (torch.full((10,), 1e300, dtype=torch.float64), r"head\.bias has values that are not finite"),
    ],
    ids=["integers", "nan", "too large for the model"],
)
def test_load_weights_refuses_values_that_no_weight_has(value, message):
    model = foveal.create_model("small_cnn", num_classes=10, in_chans=1)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        foveal.load_weights(model, {**{name: each + 1 for name, each in before.items()}, "head.bias": value})
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    foveal.load_weights(model, {**before, "head.bias": torch.ones(10, dtype=torch.bfloat16)})
    assert model.head.bias.tolist() == [1] * 10


@pytest.mark.slow
@pytest.mark.exhaustive
def test_load_weights_names_the_nearest_network():
    model = foveal.create_model("small_cnn")
    for state, nearest in (
        (resnet18("se", TheirSE).state_dict(), "match best 'seresnet18:bias=False', in the layout 'moskomule'"),
        (timm.create_model("resnet34", num_classes=7).state_dict(), "match best 'resnet34', in the layout 'plain'"),
        ({"weight": torch.zeros(2, 2)}, "match no known network"),
    ):
        with pytest.raises(ValueError, match=f"do not fit this SmallCNN: .*; they {nearest}"):
            foveal.load_weights(model, state)
