"""Moments of maps."""

import pytest
import torch

from foveal.surgery.fused.maps import moments


@pytest.mark.parametrize("mean", [0.0, 2.0, 1e4])
def test_moments_are_precise_for_a_small_variance(mean):
    x = torch.randn(4, 3, 20, 20) + mean
    _, found, var = moments(x)
    torch.testing.assert_close(found.double(), x.double().mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(var.double(), x.double().var((0, 2, 3), unbiased=False), rtol=1e-5, atol=0)
