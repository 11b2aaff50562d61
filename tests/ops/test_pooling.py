"""Means over a map, by pooling where that is faster: the same values."""

import pytest
import torch

import foveal
from foveal.mechanisms.bam import BAM
from foveal.mechanisms.cbam import CBAM
from foveal.mechanisms.efficient_channel import EfficientChannel
from foveal.mechanisms.squeeze_excite import SqueezeExcite
from foveal.ops.pooling import map_means, suits_pooling


def last(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (1 + torch.randn(*shape)).to(dtype).to(memory_format=torch.channels_last)


@pytest.mark.parametrize(("shape", "dtype"), [((8, 512, 28, 28), torch.float32), ((2, 64, 64, 64), torch.bfloat16)])
@torch.no_grad()
def test_map_means_are_means(shape, dtype):
    x = last(*shape, dtype=dtype)
    assert suits_pooling(x)
    exact = x.double().mean((2, 3))
    bound = 1e-5 if dtype == torch.float32 else 1e-2  # half precision has eight bits for the result itself
    assert (map_means(x) - exact).abs().max() <= bound * exact.abs().max()
    with foveal.no_fast_path():
        assert torch.equal(map_means(x), x.mean((2, 3)))


def test_map_means_by_hand():
    """Channel c of image b is 10 b + c everywhere."""
    with torch.no_grad():
        x = (10 * torch.arange(8).view(8, 1) + torch.arange(1024) % 10).float()[:, :, None, None].expand(-1, -1, 12, 12)
        x = x.contiguous(memory_format=torch.channels_last)
        assert suits_pooling(x)
        torch.testing.assert_close(map_means(x), x[:, :, 0, 0])


@torch.no_grad()
@pytest.mark.parametrize("mechanism", [SqueezeExcite, EfficientChannel, CBAM, BAM])
def test_map_means_can_be_mapped_and_traced(mechanism):
    """Within vmap and torch.fx a tensor does not know its layout."""
    module, x = mechanism(32).eval(), torch.randn(3, 2, 32, 6, 6)
    expected = torch.stack([module(each) for each in x])
    torch.testing.assert_close(torch.vmap(module)(x), expected)
    traced = torch.fx.symbolic_trace(module)
    torch.testing.assert_close(traced(x[0]), expected[0])


@torch.no_grad()
def test_map_means_is_the_plain_mean_where_it_is_not_better():
    assert not suits_pooling(last(1, 64, 8, 8))  # small
    assert not suits_pooling(torch.randn(8, 512, 28, 28))  # channels first
    assert not suits_pooling(last(1, 64, 128, 128))  # a long sum, one after the other
    with torch.enable_grad():
        assert not suits_pooling(last(8, 512, 28, 28))
