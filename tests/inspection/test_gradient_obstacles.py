"""Grad-CAM of networks with activation checkpointing and parts without a backward pass: the same maps, or one line."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import foveal

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Parts(nn.Module):
    """A stem, two checkpointed layers, and a head; `run` runs the layers."""

    def __init__(self, run: Callable):
        super().__init__()
        self.stem, self.head, self.run = nn.Conv2d(3, 4, 3), nn.Linear(4, 2), run
        self.layers = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1))

    def forward(self, x):
        return self.head(self.run(self.layers, self.stem(x)).mean((2, 3)))


def plainly(layers, x):
    return layers(x)


def recomputed(layers, x):
    return checkpoint(layers, x, use_reentrant=False)


def reentrant(layers, x):
    return checkpoint(layers, x, use_reentrant=True)


def beside_quantized(layers, x):
    """The layers beside a dynamically quantized one: a gradient passes the layers alone."""
    linear = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(6, 6)), {nn.Linear})
    return layers(x) + linear(x)[..., 1:-1, 1:-1]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("at", ["stem", "layers.0", "layers", None])
def test_class_activation_within_a_checkpoint_is_that_without(at, frozen):
    model = Parts(plainly).requires_grad_(not frozen)
    expected = foveal.class_activation(model, IMAGES, at, targets=0)
    model.run = recomputed
    found = foveal.class_activation(model, IMAGES, at, targets=0)
    assert found.path == expected.path
    torch.testing.assert_close(found.values, expected.values, rtol=0, atol=0)


NO_GRAD = "it runs under no_grad(), as within torch.utils.checkpoint with use_reentrant=True: its map has no gradient"
HIDDEN = "no gradient of the answer shows its map: "


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    ("run", "at", "why"),
    [
        (reentrant, "layers.0", NO_GRAD),
        (reentrant, "stem", f"{HIDDEN}torch.utils.checkpoint with use_reentrant=True hides layers from it; "),
        (torch.no_grad()(plainly), "layers.0", NO_GRAD),
        (beside_quantized, "stem", f"{HIDDEN}a part of the model has no backward pass, as a quantized layer"),
    ],
)
def test_class_activation_names_what_hides_a_gradient(run, at, why, frozen):
    model = Parts(run).requires_grad_(not frozen)
    with pytest.raises(ValueError, match=rf"^{re.escape(f'at={at!r}: {why}')}.*\Z"):  # of one line
        foveal.class_activation(model, IMAGES, at)


@pytest.mark.filterwarnings("ignore")
def test_class_activation_behind_a_reentrant_checkpoint():
    class Longer(Parts):
        def __init__(self, run):
            super().__init__(run)
            self.last = nn.Conv2d(4, 4, 1)

        def forward(self, x):
            return self.head(self.last(self.run(self.layers, self.stem(x))).mean((2, 3)))

    model = Longer(plainly)
    expected = foveal.class_activation(model, IMAGES, "last", targets=0)
    model.run = reentrant
    assert torch.equal(foveal.class_activation(model, IMAGES, "last", targets=0).values, expected.values)
