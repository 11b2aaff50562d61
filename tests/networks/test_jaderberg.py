"""Networks of the transformer's paper: weights, sizes, what a transformer before them starts as and learns by."""

from typing import Any

import pytest
import torch

import foveal
from foveal.profiling.costs import count_parameters
from foveal.training.checkpoint import load_checkpoint, save_checkpoint

NAMES = ("jaderberg_cnn", "jaderberg_fcn")
COUNTS = {  # by hand: 64 filters of 9x9, 120 of 7x7; 351 and 203 units
    ("jaderberg_cnn", 28): (81 + 1) * 64 + (49 * 64 + 1) * 120 + (2 * 2 * 120 + 1) * 10,
    ("jaderberg_cnn", 42): (81 + 1) * 64 + (49 * 64 + 1) * 120 + (5 * 5 * 120 + 1) * 10,
    ("jaderberg_fcn", 28): (784 + 1) * 352 + (352 + 1) * 352 + (352 + 1) * 10,
    ("jaderberg_fcn", 42): (1764 + 1) * 203 + (203 + 1) * 203 + (203 + 1) * 10,
}
LOCALISATIONS = {  # by hand, for one channel and the six numbers of an affine transform
    "moments": (81 + 1) * 32 + (6 * 32 + 1) * 6,
    "convolutional": (25 + 1) * 20 + (25 * 20 + 1) * 20 + (4 * 4 * 20 + 1) * 20 + (20 + 1) * 6,
    "linear": (42 * 42 + 1) * 32 + (32 + 1) * 32 + (32 + 1) * 6,
}
PAPERS = {"jaderberg_cnn": "convolutional", "jaderberg_fcn": "linear"}


def make(name: str, side: int = 28) -> torch.nn.Module:
    network, plus, mechanism = name.partition("+")
    return foveal.create_model(f"{network}:img_size={side}{plus}{mechanism}", num_classes=10, in_chans=1)


@pytest.mark.parametrize(("name", "side"), COUNTS)
def test_jaderberg_networks_have_about_400_thousand_weights(name, side):
    model = make(name, side)
    assert count_parameters(model) == COUNTS[name, side] == pytest.approx(400_000, rel=0.04)
    assert model(torch.rand(2, 1, side, side)).shape == (2, 10)
    assert model.pretrained_cfg["input_size"] == (1, side, side)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("localisation", LOCALISATIONS)
def test_a_transformer_before_them_starts_as_the_identity_and_learns(name, localisation):
    """Training first moves the regression, whose weights are zero, and then every weight before it."""
    torch.manual_seed(0)
    model: Any = make(f"{name}+stn:localisation={localisation}")
    module = model.stem[0].stn
    assert count_parameters(module) == LOCALISATIONS[localisation]
    images, labels = torch.rand(4, 1, 28, 28), torch.arange(4)
    assert module.localisation.regression.weight.eq(0).all()
    torch.testing.assert_close(module(images), images, atol=1e-5, rtol=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    assert all(weight.grad.ne(0).any() for weight in module.localisation.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_transformer_may_show_less_than_the_image(name):
    model = make(f"{name}+stn:size=28")
    assert model(torch.rand(2, 1, 42, 42)).shape == (2, 10)


def test_parallel_transformers_show_their_parts_at_half_the_side():
    """Two transformers, two channels each, of 21x21 pixels, as many as one channel of 42x42: the same units."""
    model: Any = foveal.create_model("jaderberg_fcn:transformers=2", num_classes=19, in_chans=2).eval()
    assert model.stem[4].weight.shape == (203, 42 * 42)
    images = torch.rand(3, 2, 42, 42)
    parts = model.stem[:3](images)
    halves = images.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    torch.testing.assert_close(parts, torch.cat([halves, halves], dim=1), atol=1e-5, rtol=0)
    with foveal.watch(model) as seen:
        assert model(images).shape == (3, 19)
    assert seen.paths() == ["stem.1.transformers.0", "stem.1.transformers.1"]


@pytest.mark.parametrize("name", NAMES)
def test_jaderberg_networks_refuse_images_of_another_size(name):
    with pytest.raises(ValueError, match="images of 42x28 pixels, and the network has img_size=28"):
        make(name)(torch.rand(1, 1, 42, 28))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("jaderberg_cnn:img_size=21", "img_size=21: must be 22 or more"),
        ("jaderberg_fcn:img_size=0", "img_size=0: must be 1 or more"),
        ("jaderberg_fcn:img_size=21,transformers=1", "img_size=21: must be 1 or more, and even with transformers"),
        ("jaderberg_fcn:transformers=-1", "transformers=-1: must be 0 or more"),
        ("jaderberg_fcn:transformer=2", "did you mean 'transformers'"),
        ("jaderberg_cnn+stn:localisation=linea", "unknown localisation 'linea'; did you mean 'linear'"),
    ],
)
def test_jaderberg_networks_refuse_options(name, message):
    with pytest.raises(ValueError, match=message):
        foveal.create_model(name, num_classes=10, in_chans=1)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_jaderberg_checkpoints_go_round(name, tmp_path):
    model = make(f"{name}+stn:localisation={PAPERS[name]},family=rotation").eval()
    save_checkpoint(tmp_path / "m.safetensors", model, {})
    images = torch.rand(2, 1, 28, 28)
    assert torch.equal(load_checkpoint(tmp_path / "m.safetensors")[0].eval()(images), model(images))
