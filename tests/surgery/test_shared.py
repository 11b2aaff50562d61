"""Attention at modules that a network holds in several places: a shared activation, a block that runs several times."""

import pytest
import torch
from torch import nn

import foveal
from foveal.mechanisms.squeeze_excite import SqueezeExcite
from foveal.training.recreate import Attached


class Block(nn.Module):
    def __init__(self, act: nn.Module, channels: int = 4, out: int = 4):
        super().__init__()
        self.conv, self.act = nn.Conv2d(channels, out, 3, padding=1), act

    def forward(self, x):
        return self.act(self.conv(x))


class Residual(Block):
    def forward(self, x):
        return x + super().forward(x)


def one_activation(kind: type[Block] = Block) -> nn.Module:
    act = nn.ReLU()
    return nn.Sequential(nn.Conv2d(3, 4, 1), *(kind(act) for _ in range(3)))


def one_block() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), *[Block(nn.ReLU())] * 3)


def one_sequence() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), *[nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())] * 2)


def runs_of_attention(model: nn.Module) -> int:
    """Runs of attached mechanisms in one pass."""
    runs: list[nn.Module] = []
    for module in model.modules():
        if isinstance(module, SqueezeExcite):
            module.register_forward_hook(lambda module, *_: runs.append(module))
    model(torch.rand(2, 3, 8, 8))
    return len(runs)


@pytest.mark.parametrize("at", ["*.act", ["1.act", "2.act", "3.act"], lambda path, module: isinstance(module, nn.ReLU)])
@pytest.mark.parametrize(("make", "mechanisms"), [(one_activation, 3), (one_block, 1)])
def test_attach_reaches_every_place_of_a_shared_module(make, mechanisms, at):
    """A shared activation gets attention of its own in each block; a block with its weights is one, in every run."""
    model = make()
    names = [*model.state_dict()]
    foveal.attach(model, "se", at=at, reduction=2)
    assert len(foveal.attachments(model)[0].modules) == mechanisms
    assert runs_of_attention(model) == 3
    assert [*foveal.detach(model).state_dict()] == names


def test_attach_names_one_place_of_a_shared_activation():
    model = foveal.attach(one_activation(), "se", at=["2.act", "3.act"], reduction=2)
    assert [each.host for each in foveal.attachments(model)[0].modules] == ["2.act", "3.act"]
    assert runs_of_attention(model) == 2


@pytest.mark.parametrize(
    ("make", "at", "host", "first"),
    [
        (one_block, "3.act", "3.act", "1.act"),
        (one_block, ["1.conv", "2.act"], "2.act", "1.act"),
        (one_sequence, "2", "2", "1"),
    ],
)
def test_attach_refuses_a_further_path_alone(make, at, host, first):
    model = make()
    with pytest.raises(ValueError, match=f"^at: '{host}' is '{first}' under a further path, .*; name '{first}'$"):
        foveal.attach(model, "se", at=at, reduction=2)
    assert not foveal.attachments(model)


def test_attach_adds_one_child_to_a_sequence_that_runs_twice():
    model = foveal.attach(one_sequence(), "se", at=["1", "2"], reduction=2)
    assert runs_of_attention(model) == 2
    assert len(model[1]) == 3


def test_attach_replaces_a_shared_convolution_in_each_place():
    sequence = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
    model = nn.Sequential(Block(nn.ReLU(), 3), Block(nn.ReLU()), Block(nn.ReLU()))
    model[1].conv = model[2].conv = sequence
    foveal.attach(model, "sk", at=["1.conv", "2.conv"], reduction=2, groups=1)
    assert [model[block].conv.branches[0] is sequence for block in (1, 2)] == [True, True]
    foveal.detach(model)
    assert [model[block].conv is sequence for block in (1, 2)] == [True, True]


def test_attach_counts_the_channels_of_a_shared_activation_in_each_place():
    act = nn.ReLU()
    model = nn.Sequential(Block(act, 3, 4), Block(act, 4, 6))
    foveal.attach(model, "se", at="*.act", reduction=2)
    assert [model[block].act.se.fc1.in_features for block in (0, 1)] == [4, 6]


def test_attach_refuses_a_name_of_a_shared_activation_that_is_not_called():
    class First(nn.Sequential):
        def forward(self, x):
            return self[1](self[0](x))

    model = First(*one_activation())
    with pytest.raises(ValueError, match=r"'2\.act': no forward pass reaches it"):
        foveal.attach(model, "se", at="*.act", reduction=2)


def test_attach_at_residual_ends_in_a_shared_activation():
    model = foveal.attach(one_activation(Residual), "se", at="residual", reduction=2)
    assert [each.host for each in foveal.attachments(model)[0].modules] == ["1.act", "2.act", "3.act"]


def test_a_checkpoint_names_places_of_a_shared_activation():
    model = one_activation()
    Attached("se", ["1.act", "2.act", "3.act"], "standard", True, {"reduction": 2}).attach_to(model)
    assert runs_of_attention(model) == 3
