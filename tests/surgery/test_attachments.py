"""Names of weights with attachments: plain checkpoints, load hooks."""

import pytest
import torch
import torchvision
from helpers import plain_weights, randomise_norms

import foveal


def images(side: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, side, side)


def test_attach_loads_a_plain_checkpoint_before_and_after():
    plain = plain_weights(randomise_norms(torchvision.models.resnet18()))
    x = images()
    before, after = torchvision.models.resnet18().eval(), torchvision.models.resnet18().eval()
    before.load_state_dict(plain)
    foveal.attach(before, "sk")
    foveal.attach(after, "sk")
    after.load_state_dict(plain)
    with torch.no_grad():
        assert torch.equal(before(x), after(x))


def test_attach_refuses_a_checkpoint_with_half_an_attention():
    model = torchvision.models.resnet18()
    foveal.attach(model, "se")
    state = model.state_dict()
    del state["layer1.0.bn2.se.fc1.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key\(s\).*layer1.0.bn2.se.fc1.weight"):
        model.load_state_dict(state)


def test_attach_adds_one_load_hook():
    model = torchvision.models.resnet18()
    for _ in range(3):
        foveal.detach(foveal.attach(model, "se"))
    assert len(model._load_state_dict_pre_hooks) == 0
    foveal.attach(foveal.attach(model, "se"), "cbam")
    assert len(model._load_state_dict_pre_hooks) == 1
