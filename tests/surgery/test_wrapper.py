"""The wrapper around a host module."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils import prune

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


class Stage(nn.Module):
    """Host with a child, an empty slot and a buffer."""

    def __init__(self):
        super().__init__()
        self.conv, self.slot, self.scale = nn.Conv2d(3, 4, 1), None, 2.0
        self.register_buffer("shift", torch.ones(1))

    def forward(self, x):
        x = self.conv(x) * self.scale + self.shift
        return x if self.slot is None else self.slot(x)


CHANGES = {
    "a child is replaced": lambda stage: setattr(stage, "conv", nn.Conv2d(3, 5, 1)),
    "a slot is filled": lambda stage: setattr(stage, "slot", nn.ReLU()),
    "a new child is set": lambda stage: setattr(stage, "late", nn.Dropout(1.0)),
    "a new child is added": lambda stage: stage.add_module("late", nn.Conv2d(9, 9, 1)),
    "a new child is registered": lambda stage: stage.register_module("late", nn.Conv2d(9, 9, 1)),
    "an attribute is set": lambda stage: setattr(stage, "scale", 3.0),
    "a new attribute is set": lambda stage: setattr(stage, "note", "kept"),
    "an attribute is deleted": lambda stage: (setattr(stage, "extra", 1), delattr(stage, "extra")),
    "a buffer is set": lambda stage: setattr(stage, "shift", torch.zeros(1)),
    "a buffer is added": lambda stage: stage.register_buffer("more", torch.zeros(2)),
    "a weight is added": lambda stage: stage.register_parameter("more", nn.Parameter(torch.zeros(2))),
    "a weight is set": lambda stage: setattr(stage, "more", nn.Parameter(torch.zeros(2))),
    "a weight is pruned": lambda stage: prune.l1_unstructured(stage.conv, "weight", 0.5),
    "a buffer is deleted": lambda stage: (stage.register_buffer("more", torch.zeros(2)), delattr(stage, "more")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_attached_passes_every_change_at_its_path_on_to_the_host(change):
    """A network that is changed with attention attached equals one that is changed without, before and after detach."""
    plain = nn.Sequential(Stage()).eval()
    model = foveal.attach(copy.deepcopy(plain), "se", at="0", reduction=1)
    own = {name for name, _ in model.named_modules()} - {name for name, _ in plain.named_modules()}
    for network in (plain, model):
        torch.manual_seed(0)
        CHANGES[change](network[0])
    x = images(8)
    names = [name for name, _ in model.named_modules() if name not in own]
    assert names == [name for name, _ in plain.named_modules()]
    if change != "a child is replaced":  # by one of another width
        assert torch.equal(model(x), plain(x))
    foveal.detach(model)
    assert torch.equal(model(x), plain(x))
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert vars(model[0]).keys() == vars(plain[0]).keys()


def test_attached_prunes_the_weight_of_its_host():
    model = foveal.attach(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), "cbam", at="0", reduction=1)
    prune.l1_unstructured(model[0], "weight", 0.5)
    assert "0.weight_orig" in dict(model.named_parameters())
    model(images(8)).sum().backward()
    assert (model[0].host.weight == 0).sum() == 6
