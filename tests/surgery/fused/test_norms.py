"""Batch statistics of fused norms."""

import pytest
import torch
from torch import nn

from foveal.surgery.fused.norms import taken


@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"momentum": 0.3}, {"track_running_stats": False}])
def test_taken_moves_statistics_as_a_plain_norm(options):
    ours, theirs = nn.BatchNorm2d(4, **options), nn.BatchNorm2d(4, **options)
    for step in range(3):
        c = torch.randn(3, 4, 5, 5) * (step + 1)
        expected = theirs(c)
        torch.testing.assert_close(taken(ours, c)[0].with_these(c), expected, rtol=1e-5, atol=1e-6)
    for (name, mine), (_, other) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6, msg=name)


def test_taken_refuses_one_value_for_each_channel():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        taken(nn.BatchNorm2d(3), torch.randn(1, 3, 1, 1))
