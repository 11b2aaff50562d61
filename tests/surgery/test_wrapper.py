"""The wrapper around a host module."""

import pytest
import torch
import torchvision
from torch import nn

import foveal


def images(side: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, side, side)


def test_attached_shows_in_repr_and_passes_attributes():
    model = torchvision.models.resnet18()
    foveal.attach(model, "se")
    assert "(bn2): Attached(\n" in repr(model)
    assert model.layer1[0].bn2.num_features == 64  # other attributes are the host's
    model.layer1[0].bn2.eps = 0.5
    assert foveal.detach(model).layer1[0].bn2.eps == 0.5


def test_attached_keeps_several_inputs_and_refuses_several_outputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.join, self.act = nn.Conv2d(3, 4, 1), Add(), nn.ReLU()
            self.both = Both()

        def forward(self, x):
            one, other = self.both(self.conv(self.act(x)))
            return self.join(one, y=self.act(other))

    model, x = Two(), images(8)
    before = model(x)
    assert torch.equal(foveal.attach(model, "se", at="join")(x), before)
    for at, message in (("act", "several widths"), ("both", "gives no single tensor")):
        with pytest.raises(ValueError, match=message):
            foveal.attach(Two(), "se", at=at)


class Add(nn.Module):
    def forward(self, x, y):
        return x + y


class Both(nn.Module):
    def forward(self, x):
        return x, x + 1
