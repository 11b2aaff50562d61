"""The fused end of a gated block: gradients, values that are not finite, layouts."""

import pytest
import torch
from helpers import norm_inputs
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from foveal.surgery.fused.gated_residual import gated_residual
from foveal.surgery.fused.norms import taken


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_gated_residual_gradients(affine, training, check):
    c, r, norm, matrix = norm_inputs(affine)
    norm.train(training)

    def answer(c, r, matrix, *_):
        return gated_residual(c, *taken(norm, c), lambda z: (z @ matrix).sigmoid(), r)

    assert check(answer, (c, r, matrix, *norm.parameters()))


def test_gated_residual_passes_nan_on():
    c = torch.randn(2, 3, 4, 4)
    c[0, 1, 2, 2] = torch.nan
    out = gated_residual(c, *taken(nn.BatchNorm2d(3), c), torch.sigmoid, torch.zeros_like(c))
    assert out[:, 1].isnan().all()
    assert not out[:, [0, 2]].isnan().any()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gated_residual_keeps_the_memory_format(layout):
    c, r = (torch.randn(2, 8, 5, 5).contiguous(memory_format=layout).requires_grad_() for _ in range(2))
    out = gated_residual(c, *taken(nn.BatchNorm2d(8), c), torch.sigmoid, r)
    out.sum().backward()
    for each in (out, c.grad, r.grad):
        assert each.is_contiguous(memory_format=layout)
