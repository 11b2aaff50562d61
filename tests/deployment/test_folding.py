"""Folding of norms: which may be folded."""

import torch
from helpers import randomise_norms
from torch import nn

from foveal.deployment.folding import fold_norms

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


class Odd(nn.Module):
    """Pairs of convolution and norm that must stay."""

    def __init__(self):
        super().__init__()
        self.twice, self.twice_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.read, self.read_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.hooked, self.hooked_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.scaled = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1))
        self.scaled_norm = nn.BatchNorm2d(3)
        self.changed, self.changed_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.batch, self.batch_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)
        self.good, self.good_norm, self.act = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(3, 2)
        self.hooked.register_forward_hook(lambda *_: None)

    def forward(self, x):
        x = self.twice_norm(self.twice(self.twice(x)))
        y = self.read(x)
        x = self.read_norm(y) + y
        x = self.hooked_norm(self.hooked(x))
        x = self.scaled_norm(self.scaled(x))
        x = self.changed_norm(self.changed(x).add_(1.0))
        x = self.batch_norm(self.batch(x))
        return self.head(self.pool(self.act(self.good_norm(self.good(x)))).flatten(1))


def test_fold_norms_folds_only_safe_pairs():
    model = randomise_norms_but_untracked(Odd()).eval()
    with torch.no_grad():
        expected = model(IMAGES)
        folded = fold_norms(model, IMAGES)
        torch.testing.assert_close(model(IMAGES), expected)
    assert [(pair.first, pair.then) for pair in folded] == [("good", "good_norm")]
    assert model.act.inplace


def randomise_norms_but_untracked(model: nn.Module) -> nn.Module:
    norm = model._modules.pop("batch_norm")
    randomise_norms(model)
    model.batch_norm = norm
    return model


def test_fold_norms_keeps_a_map_that_is_also_an_output():
    class Showing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y), y

    assert fold_norms(Showing().eval(), IMAGES) == []
