"""Costs of a network: multiply-adds, parameters, memory."""

import weakref
from functools import partial

import torch
from torch import nn

from foveal.profiling.costs import costs, count_macs, loss_of, peak_bytes, saved_bytes


def test_count_macs_by_hand():
    """A 3x3 convolution of 2 to 4 channels on 5x5 positions, then a layer of 100 to 3."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(100, 3))
    assert count_macs(model, (2, 5, 5)) == 9 * 2 * 4 * 25 + 100 * 3


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
