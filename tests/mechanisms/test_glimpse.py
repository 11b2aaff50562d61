"""Glimpses: geometry of the retina, density and gradient of the policy."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import foveal
from foveal.mechanisms.glimpse import Glimpse
from foveal.networks.ram import RAM


def at(x: float, y: float, width: int, height: int) -> torch.Tensor:
    """The location of a point that lies x, y pixels from the image's upper left corner."""
    return torch.tensor([[2 * x / width - 1, 2 * y / height - 1]])


def look(images, location, size, scales, padding=0.0):
    glimpse = Glimpse(4, size, scales, padding=padding)
    return glimpse(glimpse.levels(images), location)


class TestRetina:
    @pytest.mark.parametrize(("height", "width"), [(24, 30), (23, 31)])
    def test_glimpse_patches_are_crops_and_their_means(self, height, width):
        images = torch.rand(2, 3, height, width)
        seen = look(images, at(13, 11, width, height).expand(2, 2), size=4, scales=3)  # around a corner of pixels
        assert seen.shape == (2, 9, 4, 4)
        for k, half in enumerate((2, 4, 8)):
            crop = images[:, :, 11 - half : 11 + half, 13 - half : 13 + half]
            torch.testing.assert_close(seen[:, 3 * k : 3 * k + 3], F.avg_pool2d(crop, 2**k))

    def test_glimpse_location_has_x_before_y(self):
        image = torch.zeros(1, 1, 10, 20)
        image[:, :, 2, 15] = 1
        assert look(image, at(15.5, 2.5, 20, 10), size=1, scales=1).item() == pytest.approx(1)
        assert look(image, at(2.5, 2.5, 20, 10), size=1, scales=1).item() == 0

    def test_glimpse_interpolates_between_pixels(self):
        ramp = torch.arange(40.0).expand(1, 1, 40, 40)  # pixel i has the value i and its centre at i + 0.5
        fine, coarse = look(ramp, at(17.3, 20, 40, 40), size=2, scales=2)[0]
        assert fine[0].tolist() == pytest.approx([16.3, 17.3], abs=1e-4)
        assert coarse[0].tolist() == pytest.approx([15.8, 17.8], abs=1e-4)

    def test_glimpse_pads_outside_the_image(self):
        seen = look(torch.ones(1, 1, 16, 16), torch.tensor([[-1.0, -1.0]]), size=4, scales=2, padding=-3.0)
        for patch in seen[0]:
            torch.testing.assert_close(patch[2:, 2:], torch.ones(2, 2))
            outside = torch.cat([patch[:2].flatten(), patch[:, :2].flatten()])
            torch.testing.assert_close(outside, torch.full_like(outside, -3))

    def test_glimpse_patch_may_exceed_the_image(self):
        seen = look(torch.full((1, 1, 1, 1), 16.0), torch.zeros(1, 2), size=2, scales=3)
        assert seen.sum((2, 3)).tolist() == [[16, 4, 1]]  # the same light on patches of 4, 16 and 64 pixels' area


def test_glimpse_location_is_inside_the_image():
    glimpse = Glimpse(8, std=0.7)
    for weight in glimpse.parameters():
        nn.init.normal_(weight, std=3)
    mean = glimpse.weigh(torch.randn(500, 8))
    location, _ = glimpse.draw(mean)
    assert mean.abs().max() <= 1
    assert location.abs().max() == 1  # some were drawn outside, and moved onto the edge
    for model in (RAM(std=0.9), RAM(std=0.9).eval(), RAM(policy="random").eval()):
        with foveal.watch(model) as seen, torch.no_grad():
            model(torch.rand(40, 1, 20, 20))
        record = seen["glimpse"]
        assert (record.axes, record.hard, record.size, record.values.shape) == ("B T 2", True, (12, 12), (40, 6, 2))
        assert record.values.abs().max() <= record.value_range[1] == 1


def test_glimpse_density_is_gaussian_and_trains_the_policy_alone():
    glimpse = Glimpse(8, std=0.1)
    mean = torch.tensor([[0.2, -0.3], [0.0, 0.5]], requires_grad=True)
    location, density = glimpse.draw(mean)
    expected = torch.distributions.Normal(mean, 0.1).log_prob(location).sum(1)
    torch.testing.assert_close(density - expected, torch.full((2,), math.log(2 * math.pi * 0.01)))
    (gradient,) = torch.autograd.grad(density.sum(), mean)
    torch.testing.assert_close(gradient, (location - mean.detach()) / 0.01)
    assert not location.requires_grad


def test_glimpse_policy_gradient_is_that_of_the_expected_reward():
    """A reward left of c: its mean is Phi((c - mu) / std), whose derivative in mu is -phi((c - mu) / std) / std."""
    std, mu, c, count = 0.2, 0.1, 0.0, 40_000
    mean = torch.tensor([[mu, 0.0]], requires_grad=True)
    location, density = Glimpse(8, std=std).draw(mean.expand(count, 2))
    reward = (location[:, 0] < c).float()
    (gradient,) = torch.autograd.grad((density * (reward - reward.mean())).mean(), mean)
    z = (c - mu) / std
    slope = -math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / std
    assert gradient[0].tolist() == pytest.approx([slope, 0.0], abs=4 / (std * math.sqrt(count)))


def test_attach_refuses_a_glimpse():
    for mechanism in ("glimpse", Glimpse):
        with pytest.raises(ValueError, match=r"^glimpse works only in a network of its own; foveal\.list_models"):
            foveal.attach(foveal.create_model("small_cnn"), mechanism)
    with pytest.raises(ValueError, match="glimpse works only in a network of its own"):
        foveal.create_model("resnet18+glimpse")
    facts = {each.name: each for each in foveal.list_mechanisms()}["glimpse"]
    assert (facts.domain, facts.kind, facts.attaches) == ("spatial", "hard", "network")
    assert facts.parameters == 256 * 128 + 128 + 128 * 2 + 2
