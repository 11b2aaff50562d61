"""Evaluation mode within a context, and what is restored after it."""

import torch
from torch import nn

import foveal
from foveal.core.trial_pass import eval_mode


class LowRank(nn.Linear):
    """A linear layer with an update of low rank, merged into its weights in evaluation mode, as in loralib."""

    def __init__(self):
        super().__init__(2, 2, bias=False)
        self.a, self.b, self.merged = nn.Parameter(torch.ones(1, 2)), nn.Parameter(torch.ones(2, 1)), False
        nn.init.eye_(self.weight)

    def train(self, mode: bool = True):
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (self.b @ self.a).detach() * (-1 if mode else 1)
            self.merged = not mode
        return self

    def forward(self, x):
        return super().forward(x) if self.merged else super().forward(x) + x @ (self.b @ self.a).T


class Frozen(nn.Sequential):
    """Children in evaluation mode whatever the mode."""

    def train(self, mode: bool = True):
        super().train(mode)
        for child in self.children():
            child.eval()
        return self


def test_eval_mode_sets_modules_back_by_their_own_train():
    model = nn.Sequential(LowRank(), LowRank().eval(), nn.Dropout(), nn.ReLU().eval())
    with eval_mode(model):
        assert [layer.merged for layer in model[:2]] == [True, True]
        assert not any(module.training for module in model.modules())
    assert [each.training for each in model] == [True, False, True, False]
    assert [layer.merged for layer in model[:2]] == [False, True]
    assert torch.equal(model[0].weight, torch.eye(2))
    assert torch.equal(model[1].weight, torch.eye(2) + 1)
    model[0](torch.ones(1, 2)).sum().backward()
    assert model[0].a.grad is not None


def test_eval_mode_restores_a_mode_that_train_would_not_set():
    model = Frozen(nn.Dropout(), nn.ReLU()).train()
    model[0].train()
    with eval_mode(model):
        assert not any(module.training for module in model.modules())
    assert [model.training, model[0].training, model[1].training] == [True, True, False]


def test_class_activation_leaves_weights_that_are_merged_in_evaluation_mode():
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), LowRank()).train()
    foveal.class_activation(model, torch.rand(2, 3, 8, 8))
    assert not model[-1].merged
    assert torch.equal(model[-1].weight, torch.eye(2))
