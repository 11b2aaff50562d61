"""Attention of custom classes, and what resembles attention."""

import pytest
import torch
from helpers import watch_once
from timm import layers
from torch import nn

import foveal

CHANNELS = 16


class MyGate(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.squash = nn.Conv2d(CHANNELS, CHANNELS, 1), nn.Sigmoid()

    def forward(self, x):
        return x * self.squash(self.conv(x.mean((2, 3), keepdim=True)))


class MyAttention(nn.Module):
    def forward(self, x):
        return torch.sigmoid(x.mean(1, keepdim=True)) * x


def test_watch_extra_records_a_custom_class():
    model, x = nn.Sequential(MyGate(), MyAttention()), torch.rand(2, CHANNELS, 5, 7)
    extra = {MyGate: ("squash", "gate"), f"{__name__}.MyAttention": ("sigmoid()", "mask")}
    seen, out = watch_once(model, x, extra=extra)
    assert [(record.path, record.mechanism, record.axes) for record in seen] == [
        ("0", "MyGate", "B C"),
        ("1", "MyAttention", "B H W"),
    ]
    torch.testing.assert_close(out, x * seen["0"].values[:, :, None, None] * seen["1"].values[:, None])
    with foveal.replace(model, {"0": 1.0, "1": 1.0}, extra=extra):
        assert torch.equal(model(x), x)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({MyGate: ("sigmoid", "gate")}, r"has no child 'sigmoid'; it has conv, squash, or use 'softmax\(\)'"),
        ({MyGate: ("squash", "gait")}, "unknown kind 'gait'; did you mean 'gate'"),
        ({"my.Gate": ("squash", "gate")}, "extra: the model has no module of the class 'my.Gate'"),
    ],
)
def test_watch_extra_refuses_bad_values(extra, message):
    with pytest.raises(ValueError, match=message):
        foveal.watch(nn.Sequential(MyGate()), extra=extra)


def test_watch_extra_reports_an_unexpected_shape():
    model, x = nn.Sequential(MyGate(), MyAttention()), torch.rand(2, CHANNELS, 5, 7)
    seen, _ = watch_once(model, x, extra={MyGate: ("squash", "affinity"), MyAttention: ("sigmoid()", "gate")})
    assert seen.paths() == ["0"]
    assert "not a gate of each channel" in seen.unseen["1"]
    seen, _ = watch_once(model, x, extra={MyGate: ("squash", "mask"), MyAttention: ("sigmoid()", "selection")})
    assert seen.unseen["0"] == "its weights of shape (2, 16, 1, 1) are not B H W"


class Windows(nn.Module):
    """Attention of one head within the left and the right half of a map."""

    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def forward(self, x):
        halves = torch.stack(x.chunk(2, 3), 1).flatten(0, 1).flatten(2).mT[:, None]  # (B 2, 1, Q, C)
        return self.inner(halves).mean((1, 2)).unflatten(0, (-1, 2)).mean(1)


class Inner(nn.Module):
    def forward(self, x):
        return (x @ x.mT).softmax(-1) @ x


@pytest.mark.parametrize("extra", [None, {Inner: ("softmax()", "affinity")}])
def test_watch_takes_no_window_for_an_image(extra):
    model, x = nn.Sequential(nn.Conv2d(3, CHANNELS, 4, 4), Windows()), torch.rand(3, 3, 16, 16)
    seen, _ = watch_once(model, x, extra=extra)
    assert (seen["1.inner"].axes, tuple(seen["1.inner"].values.shape)) == ("B N G Q K", (3, 2, 1, 8, 8))
    right = model[0](x)[1, :, :, 2:].flatten(1).mT
    torch.testing.assert_close(seen["1.inner"].values[1, 1, 0], (right @ right.mT).softmax(-1))


def test_watch_names_unrecognized_attention():
    model = nn.Sequential(
        MyAttention(), layers.SEModule(CHANNELS), layers.lambda_layer.LambdaLayer(CHANNELS, feat_size=(4, 4))
    )
    seen, _ = watch_once(model, torch.rand(2, CHANNELS, 4, 4))
    assert seen.paths() == ["0", "1"]
    assert seen.found == {"0": "in a trial pass", "1": "by its class"}
    assert "linear attention" in seen.unseen["2"]
    with pytest.raises(ValueError, match="'2' cannot be replaced: a linear"):
        foveal.replace(model, {"2": 1.0})
