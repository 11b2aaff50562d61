"""Evaluation's transform is timm's, to the pixel, and carries boxes with the image."""

import numpy as np
import pytest
import timm
import torch
from packaging.version import Version
from PIL import Image
from timm.data import create_transform
from torchvision.tv_tensors import BoundingBoxes

from foveal.data.preprocessing import INTERPOLATIONS, Preprocessing


@pytest.mark.parametrize("interpolation", [each for each in INTERPOLATIONS if each != "random"])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 48), (30, 31)])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875, 0.9])
def test_transform_equals_that_of_timm(interpolation, height, width, crop_pct):
    if height != width and interpolation != "bilinear" and Version(timm.__version__) < Version("1.0.31"):
        pytest.skip("timm before 1.0.31 resizes to a size that is not square in bilinear, whatever is asked")
    random = np.random.default_rng(height)
    options = {"crop_pct": crop_pct, "interpolation": interpolation}
    theirs = create_transform((3, height, width), is_training=False, normalize=False, **options)
    ours = Preprocessing((3, height, width), (0.0,) * 3, (1.0,) * 3, **options).transform()
    for size in ((48, 64), (7, 90), tuple(random.integers(1, 120, 2))):
        image = Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8))
        assert torch.equal(ours(image), theirs(image))


def test_transform_carries_boxes():
    """64x48 to 32x24, of which the middle 20x20 are kept: halved, minus 6 and 2."""
    transform = Preprocessing((3, 20, 20), (0.0,) * 3, (1.0,) * 3, 20 / 24).transform()
    boxes = BoundingBoxes([[20.0, 10, 40, 30], [0, 0, 14, 6]], format="XYXY", canvas_size=(48, 64))
    assert transform(boxes).tolist() == [[4, 3, 14, 13], [0, 0, 1, 1]]
