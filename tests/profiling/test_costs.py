"""Costs of a network: multiply-adds, parameters, memory."""

import weakref
from functools import partial

import pytest
import torch
from torch import nn

from foveal.mechanisms.self_attention import RelativeAttention
from foveal.profiling.costs import costs, count_macs, loss_of, peak_bytes, saved_bytes


def test_count_macs_by_hand():
    """A 3x3 convolution of 2 to 4 channels on 5x5 positions, then a layer of 100 to 3."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(100, 3))
    assert count_macs(model, (2, 5, 5)) == 9 * 2 * 4 * 25 + 100 * 3


class Tokens(nn.Module):
    """A layer on the 16 pixels of a 4x4 image as tokens of 8 channels; `looks` if it reads a value of the image."""

    def __init__(self, layer, looks=False):
        super().__init__()
        self.layer, self.looks = layer, looks

    def forward(self, x):
        assert not self.looks or x.max().item() > -1
        tokens = x.flatten(2).mT
        return (
            self.layer(tokens, tokens, tokens) if isinstance(self.layer, nn.MultiheadAttention) else self.layer(tokens)
        )


@pytest.mark.parametrize("looks", [False, True], ids=["meta", "own device"])
@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (nn.MultiheadAttention(8, 2, batch_first=True), 4 * 16 * 8 * 8 + 2 * 2 * 16 * 16 * 4),
        (
            nn.TransformerEncoderLayer(8, 2, 32, batch_first=True),
            4 * 16 * 8 * 8 + 2 * 2 * 16 * 16 * 4 + 2 * 16 * 8 * 32,
        ),
        (nn.LSTM(8, 8, batch_first=True), 4 * 16 * 2 * 8 * 8),
    ],
    ids=["MultiheadAttention", "TransformerEncoderLayer", "LSTM"],
)
def test_count_macs_of_layers_with_fused_kernels_by_hand(layer, macs, looks):
    """Four projections of 16 tokens and two products of G=2 heads of d=4; then two linear layers; or four gates."""
    switches = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    assert count_macs(Tokens(layer, looks), (8, 4, 4)) == macs
    assert (torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled) == switches


def test_count_macs_of_self_attention_on_maps_by_hand():
    """q, k, v; logits of G=2 heads of d=4 for 4 rows and 4 columns; q k^T and a v, both d + 4 + 4 deep."""
    expected = 16 * 8 * 24 + 2 * (2 * 16 * 4 * 4) + 2 * (2 * 16 * 16 * (4 + 4 + 4))
    assert count_macs(RelativeAttention(8, 8, heads=2, size=4), (8, 4, 4)) == expected


def test_costs_restore_models_and_threads():
    models = {"a": nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten())}
    models["b"] = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten())
    threads = torch.get_num_threads()
    measured = costs(models, (1, 8, 8))
    assert torch.get_num_threads() == threads
    assert models["a"][1].training
    assert models["a"][1].running_mean.eq(0).all()
    assert models["a"][0].weight.grad is None
    assert measured["a"].parameters == 18 + 2 + 4
    assert min(measured["b"].single, measured["b"].batch, measured["b"].step) > 0


class Powers(nn.Module):
    """Loss whose saved tensors can be counted by hand: x * w, then exp, which saves its output."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 100))

    def forward(self, x):
        return (x * self.weight).exp()

    def loss(self, outputs, labels, criterion):
        return outputs.sum()


def test_saved_bytes_and_peak_bytes_by_hand():
    """Of 10 images of 100 floats: the product saves x, the exponential its answer, the sum nothing. At the height of
    the backward pass there are these, the product's gradient and the sum's, and one row for the weight."""
    images = torch.rand(10, 100)
    model = Powers()
    assert saved_bytes(partial(loss_of, model, images), model.parameters()) == 2 * 4000
    weights = 400
    assert 2 * 4000 + weights <= peak_bytes(model, images) <= 4 * 4000 + 3 * weights + 100


def test_saved_bytes_frees_what_the_pass_saved():
    kept = []

    class Noting(Powers):
        def forward(self, x):
            answer = super().forward(x)
            kept.append(weakref.ref(answer.untyped_storage()))
            return answer

    model = Noting()
    saved_bytes(partial(loss_of, model, torch.rand(10, 100)), model.parameters())
    assert [each() for each in kept] == [None]
