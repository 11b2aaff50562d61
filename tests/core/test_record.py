"""A Tap is an identity."""

import torch

from foveal.core.record import Tap
from foveal.mechanisms.squeeze_excite import SqueezeExcite


def test_tap_is_an_identity():
    values = torch.rand(3)
    tap = SqueezeExcite(4).tap
    assert isinstance(tap, Tap)
    assert tap(values) is values
