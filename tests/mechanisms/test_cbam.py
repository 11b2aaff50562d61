"""CBAM and its spatial gate: the order of operations, records, details of the authors' code."""

import pytest
import torch
import torchvision
from helpers import fill, randomise_norms
from torch import nn

import foveal
from foveal.mechanisms.cbam import CBAM, SpatialGate


class TestSpatialGate:
    def test_spatial_gate_stands_alone(self):
        model = randomise_norms(torchvision.models.resnet18()).eval()
        images = torch.randn(2, 3, 64, 64)
        plain = model(images)
        foveal.attach(model, "spatial", at="layer4.*")
        assert torch.equal(model(images), plain)
        with foveal.watch(model) as seen:
            model(images)
        assert {(record.mechanism, record.axes) for record in seen} == {("spatial_gate", "B H W")}

    def test_spatial_gate_is_that_of_cbam(self):
        whole, alone = CBAM(8).eval(), SpatialGate(8).eval()
        alone.load_state_dict(whole.spatial.state_dict())
        x = torch.randn(2, 8, 5, 7)
        assert torch.equal(alone(x), whole.spatial(x))

    @pytest.mark.parametrize("part", ["channel.fc2", "spatial.norm"])
    def test_cbam_zero_gates_give_zero(self, part):
        """A popular copy adds its input again."""
        module = CBAM(8).eval()
        fill(module.get_submodule(part), bias=-200.0)
        assert module(torch.rand(2, 8, 5, 5)).eq(0).all()

    def test_spatial_gate_within_cbam_records_as_cbam(self):
        with foveal.watch(module := CBAM(8)) as seen:
            module(torch.rand(2, 8, 5, 5))
        assert [record.mechanism for record in seen] == ["cbam", "cbam"]


class TestCBAM:
    def test_cbam_spatial_gate_reads_the_maximum_first(self):
        """A convolution that reads its first input alone depends on the maximum over channels."""
        gate = CBAM(4).spatial.eval()
        gate.conv.weight.data.zero_()
        gate.conv.weight.data[0, 0, 3, 3] = 1.0
        x = torch.zeros(1, 4, 3, 3)
        x[0, 2, 1, 1] = 4.0
        mask = gate.weigh(x)[0]
        scale = 1 / (1 + 1e-5) ** 0.5
        assert mask[1, 1].item() == pytest.approx(torch.sigmoid(torch.tensor(4.0 * scale)).item())
        assert mask[0, 0].item() == 0.5

    def test_cbam_channel_gate_adds_mean_and_maximum_before_the_sigmoid(self):
        gate = CBAM(1, reduction=1).channel
        fill(gate, fc1__weight=1.0, fc1__bias=0.0, fc2__weight=1.0, fc2__bias=0.0)
        x = torch.tensor([[[[0.0, 1.0], [1.0, 2.0]]]])  # mean 1, maximum 2
        assert gate.weigh(x).item() == pytest.approx(torch.sigmoid(torch.tensor(3.0)).item())

    def test_cbam_has_the_details_of_the_authors(self):
        module = CBAM(32)
        assert module.spatial.conv.bias is None
        assert module.spatial.norm.momentum == 0.01
        assert module.channel.fc1.bias is not None

    def test_cbam_has_two_records(self):
        module = nn.Sequential(CBAM(8))
        with foveal.watch(module) as seen:
            module(torch.rand(2, 8, 5, 5))
        assert seen.paths() == ["0.channel", "0.spatial"]
        assert [record.domain for record in seen] == ["channel", "spatial"]


def test_cbam_keeps_its_input_whatever_replaces_the_channel_gate():
    """`nn.Identity` returns the input itself, which is not to be written on."""
    module, x = CBAM(8).eval(), torch.rand(2, 8, 5, 5)
    module.channel = nn.Identity()
    before = x.clone()
    with torch.no_grad():
        torch.testing.assert_close(module(x), before * module.spatial.weigh(before)[:, None])
    assert torch.equal(x, before)
