"""Number of images in a call whose arguments are not images alone."""

import pytest
import torch
from helpers import watch_once
from torch import nn

import foveal
from foveal.core.layout import Layout
from foveal.inspection.batch import batch_of

IMAGES, TOKENS = (4, 3, 32, 32), (4, 5, 8)


@pytest.mark.parametrize("shapes", [
    [IMAGES], [(2, 16), IMAGES], [(2, 7), IMAGES], [(2, 6, 16), IMAGES], [(3,), IMAGES], [IMAGES, (2, 3, 8, 8)],
    [(4, 1, 28, 28), (2, 10)], [TOKENS, (1, 1, 5, 5)], [TOKENS, (5, 5)], [(5, 5), TOKENS], [(4, 5), (1, 1, 1, 5)],
    [(4, 3)], [(4, 3), (2, 3)], [(), TOKENS],
])  # fmt: skip
def test_batch_of_takes_maps_before_tokens_and_no_masks(shapes):
    assert batch_of(torch.rand(shape) for shape in shapes) == 4


def test_batch_of_no_tensor_is_unknown():
    assert batch_of([]) is None
    assert batch_of([torch.tensor(1.0)]) is None


class Prompted(nn.Module):
    """A transformer on images that takes prompts, of any number, before them."""

    def __init__(self):
        super().__init__()
        self.patch, self.fc = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 3)
        self.attn = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, prompts, image):
        t = self.patch(image).flatten(2).mT
        return self.fc((t + self.attn(t, t, t)[0]).mean(1) + prompts.mean(0))


@pytest.mark.parametrize("prompts", [1, 2, 3, 4])
def test_watch_takes_no_prompts_for_images(prompts):
    seen, _ = watch_once(Prompted().eval(), torch.rand(prompts, 16), torch.rand(4, 3, 32, 32))
    assert (seen["attn"].axes, tuple(seen["attn"].values.shape)) == ("B G Q K", (4, 2, 16, 16))
    assert seen["attn"].tokens.keys == Layout(0, 4, 4, ())


def test_watch_takes_no_mask_for_images():
    class Masked(nn.Module):
        def forward(self, x, mask):
            x = x[:, None]
            return ((x @ x.mT + mask).softmax(-1) @ x).mean((1, 2))

    model, x = nn.ModuleDict({"attend": Masked()}).eval(), torch.rand(4, 5, 8)
    with foveal.watch(model, extra={Masked: ("softmax()", "affinity")}) as seen:
        model["attend"](x, torch.zeros(1, 1, 5, 5))
    assert seen["attend"].values.shape == (4, 1, 5, 5)
