"""The fused selection among branches: gradients."""

import pytest
import torch
from helpers import norm_inputs
from torch.autograd import gradcheck, gradgradcheck

from foveal.surgery.fused.normed_selection import normed_selection
from foveal.surgery.fused.norms import taken


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_normed_selection_gradients(affine, training, check):
    c, d, norm, matrix = norm_inputs(affine)
    norm.train(training)

    def answer(c, d, matrix, *_):
        norms = [taken(norm, each)[0] for each in (c, d)]
        return normed_selection((c, d), norms, lambda s: torch.stack((s @ matrix, s), 1).softmax(1))

    assert check(answer, (c, d, matrix, *norm.parameters()))
