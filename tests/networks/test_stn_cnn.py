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
