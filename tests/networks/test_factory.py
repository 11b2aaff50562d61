"""Networks created by name: options, identity at birth, pretrained weights, errors."""

import re

import pytest
import timm
import torch

import foveal
from foveal.training.checkpoint import load_checkpoint, save_checkpoint


@pytest.mark.parametrize("name", ["seresnet18", "sknet26", "stn_cnn", "small_cnn", "resnet18+cbam", "resnet18+stn+se"])
def test_create_model_returns_logits(name):
    model = foveal.create_model(name, num_classes=7, in_chans=1).eval()
    answer = model(20 * torch.randn(2, 1, 64, 64))
    assert answer.shape == (2, 7)
    assert not torch.allclose(answer.exp().sum(1), torch.ones(2), atol=1e-3)  # neither softmax nor log-softmax
    assert not torch.allclose(answer.sum(1), torch.ones(2), atol=1e-3)


def test_create_model_draws_the_same_backbone_with_and_without_attention():
    torch.manual_seed(1)
    plain = foveal.create_model("small_cnn", num_classes=10, in_chans=1).state_dict()
    for mechanism in ("stn", "se", "sk:groups=8", "cbam"):
        torch.manual_seed(1)
        model = foveal.create_model(f"small_cnn+{mechanism}", num_classes=10, in_chans=1)
        own = foveal.surgery.attachments.plain_state_dict(model)
        assert all(torch.equal(own[name], value) for name, value in plain.items())


def test_create_model_passes_options_to_their_owner():
    model = foveal.create_model("resnet18+se", num_classes=3, reduction=8, drop_path_rate=0.2)
    assert model.layer4[1].se.fc1.out_features == 64
    assert model.layer4[1].drop_path.drop_prob == 0.2
    model = foveal.create_model("resnet18+sk:dilations=(1,2,3),groups=16+se:bias=False", num_classes=3)
    assert len(model.layer1[0].conv1.branches) == 3
    assert model.layer4[1].se.fc1.bias is None


def test_create_model_name_states_where_attention_stands(tmp_path):
    model = foveal.create_model("resnet18+se:position=pre,reduction=8+cbam:at=residual", num_classes=3)
    paths = [attachment.modules[-1].path for attachment in foveal.attachments(model)]
    assert paths == ["layer4.1.conv1.se", "layer4.1.bn2.cbam"]
    (post,) = foveal.attachments(foveal.create_model("resnet18+se", num_classes=3, position="post"))
    assert (post.position, post.modules[-1].host) == ("post", "layer4.1")
    save_checkpoint(tmp_path / "model.safetensors", model, {})
    again, _ = load_checkpoint(tmp_path / "model.safetensors")
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(again(x), model.eval()(x))
    with pytest.raises(ValueError, match="position='pre': sk is attached instead of a convolution"):
        foveal.create_model("resnet18+sk:position=pre")


def test_create_model_starts_recipes_as_in_the_paper_and_pretrained_as_identity():
    with torch.device("meta"):
        assert foveal.create_model("seresnet18").layer1[0].se.strength.s is None
        assert foveal.create_model("seresnet18", identity=True).layer1[0].se.strength.s is not None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("seresnet5", "unknown network 'seresnet5'; did you mean 'seresnet5"),
        ("resnet18+sse", "unknown mechanism 'sse'; did you mean 'se'"),
        ("resnet18+se:reductoin=8", "unknown option of se 'reductoin'; did you mean 'reduction'"),
        ("resnet18+se:8", "'se:8': '8' is not an option, NAME=VALUE"),
    ],
)
def test_create_model_refuses_unknown_names_with_the_nearest(name, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        foveal.create_model(name)


def test_create_model_refuses_unknown_options():
    with pytest.raises(ValueError, match=r"network 'resnet18': .*reductionn"):
        foveal.create_model("resnet18+se", reductionn=8)


def test_create_model_pretrained_without_a_connection_is_one_line(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(ValueError, match=r"no pretrained weights \(no route to host\); foveal.load_weights reads a"):
        foveal.create_model("resnet18+se", pretrained=True)
    with pytest.raises(ValueError, match=r"no pretrained weights of .small_cnn."):
        foveal.create_model("small_cnn", pretrained=True)


def test_create_model_pretrained_takes_whole_networks_of_timm(monkeypatch):
    """`pretrained=True` requests the whole network of timm; here its weights are random."""
    real, calls = timm.create_model, []

    def fake(name, pretrained=False, **options):
        calls.append((name, pretrained))
        return real(name, **options)

    monkeypatch.setattr(timm, "create_model", fake)
    foveal.create_model("sknet50", pretrained=True, num_classes=3)
    assert calls == [("resnext50_32x4d", False), ("skresnext50_32x4d", True)]
    calls.clear()
    model = foveal.create_model("seresnet18", pretrained=True, num_classes=3)
    assert calls == [("resnet18", True)]
    assert model.layer1[0].se.strength.s is not None
