"""The CNN with a transformer: image sizes."""

import pytest
import torch

import foveal
from foveal.mechanisms.spatial_transformer import SpatialTransformer


@pytest.mark.parametrize("side", [28, 42, 60, 33])
def test_stn_cnn_accepts_any_image_size(side):
    model = foveal.create_model("stn_cnn", num_classes=10, in_chans=1)
    assert model(torch.rand(2, 1, side, side)).shape == (2, 10)
    assert isinstance(model.stn, SpatialTransformer)


@pytest.mark.parametrize("name", ["stn_cnn", "two_stn_cnn"])
def test_stn_cnn_accepts_any_image_size_with_the_notes_localisation(name):
    model = foveal.create_model(f"{name}:localisation=note,padding=0", num_classes=10, in_chans=1)
    assert model(torch.rand(2, 1, 42, 60)).shape == (2, 10)


def test_stn_cnn_refuses_an_unknown_localisation():
    with pytest.raises(ValueError, match="unknown localisation 'moment'; did you mean 'moments'"):
        foveal.create_model("stn_cnn:localisation=moment")
