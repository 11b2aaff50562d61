"""Figures of an experiment that are measured of a stored network, against the plain loop over its test part."""

import pytest
import torch

import foveal
from foveal.comparison.figures import FIGURES, SCALES, before_late, early, error_of_one_path, late, slopes_by_size
from foveal.training.load_model import load_model


def trained(model, folder):
    foveal.train(foveal.RunConfig(data="digits", model=model, epochs=1, batch_size=64, lr=1e-3), folder)
    return folder


@pytest.mark.slow
def test_error_of_one_path_is_that_of_a_network_without_samples(tmp_path):
    run = trained("ram:glimpses=2,size=4,samples=3", tmp_path / "run")
    loaded = load_model(run)
    test = loaded.load_data("digits").test
    single = foveal.create_model("ram:glimpses=2,size=4", num_classes=10, in_chans=1)
    single.load_state_dict(loaded.network.state_dict())
    with torch.no_grad():
        right = single.eval()(loaded.preprocessing.normalize(test.images)).argmax(1) == test.labels
    assert FIGURES["error of one path"].measure is error_of_one_path
    assert error_of_one_path(run) == {"glimpse": pytest.approx(100 * (1 - right.double().mean().item()))}


@pytest.mark.slow
def test_error_of_one_path_is_refused_of_a_network_without_paths(tmp_path):
    with pytest.raises(ValueError, match="run: a SmallCNN, and only a RAM takes a path over an image"):
        error_of_one_path(trained("small_cnn", tmp_path / "run"))


@pytest.mark.slow
def test_slopes_by_size_read_all_images_whose_objects_are_not_known(tmp_path):
    run = trained("small_cnn+sk:groups=8", tmp_path / "run")
    loaded = load_model(run)
    images = loaded.preprocessing.normalize(loaded.load_data("digits").test.images)
    slopes = foveal.selection_by_size(loaded.network, images, SCALES).slopes()
    assert slopes_by_size(run) == pytest.approx(slopes, abs=1e-5)


@pytest.mark.parametrize(
    ("values", "first", "before", "last"),
    [([5.0], 5, 5, 5), ([1.0, 2.0], 1, 1, 2), ([1.0, 2.0, 4.0], 1, 1.5, 4), ([1.0, 2, 3, 4, 5, 7], 1.5, 2.5, 6)],
)
def test_thirds_of_the_layers_are_averaged(values, first, before, last):
    assert (early(values), before_late(values), late(values)) == (first, before, last)
