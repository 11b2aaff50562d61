"""Found places are recorded where the pass that is watched is not the one that was tried: the right call, or none."""

import pytest
import torch
from helpers import watch_once
from torch import fx, nn

import foveal


class Gate(nn.Module):
    """A gate after noise, in training alone, that is a sigmoid as well."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        if self.training:
            x = x * torch.sigmoid(torch.randn(len(x), 3, 1, 1) + 5)
        self.last = torch.sigmoid(self.fc(x.mean((2, 3))))
        return x * self.last[..., None, None]


@pytest.mark.parametrize("training", [False, True])
def test_watch_in_training_records_the_gate_and_not_another_sigmoid(training):
    model = nn.Sequential(Gate()).train(training)
    with foveal.watch(model) as seen:
        model(torch.rand(4, 3, 8, 8))
    assert torch.equal(seen["0"].values, model[0].last.detach())
    assert not seen.unseen


def test_replace_in_training_changes_the_gate_and_not_another_sigmoid():
    model, x = nn.Sequential(Gate()).train(), torch.rand(4, 3, 8, 8)
    with foveal.replace(model, {"0": 0.0}):
        assert model(x).eq(0).all()
    with foveal.replace(model, {"0": 1.0}):
        assert model(x).lt(x).all()  # the noise stays


class Several(nn.Module):
    """One sigmoid in a loop: the gate is the last of them, as many as `before` come before it."""

    def __init__(self, before):
        super().__init__()
        self.fc, self.before = nn.Linear(3, 3), before

    def forward(self, x):
        constant = torch.zeros(1, 3)
        for each in [constant] * self.before + [self.fc(x.mean((2, 3)))]:
            weights = each.sigmoid()
        return x * weights[..., None, None]


def test_a_call_that_cannot_be_told_from_others_is_refused():
    model, x = nn.Sequential(Several(1)), torch.rand(2, 3, 8, 8)
    assert watch_once(model, x)[0]["0"].values.shape == (2, 3)
    model[0].before = 2
    seen, _ = watch_once(model, x)
    assert len(seen) == 0
    assert seen.unseen["0"].startswith("its sigmoid is called 3 times where a trial pass called it 2 times; which of")
    with foveal.replace(model, {"0": 0.0}), pytest.raises(ValueError, match="'0' cannot be replaced: its sigmoid is"):
        model(x)
    model[0].before = 1
    assert watch_once(model, x)[0]["0"].values.shape == (2, 3)


def test_watch_of_a_copy_made_by_fx_records_its_gate():
    """The copy that is tried has code of its own."""
    model, x = fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 3, 1), Gate().eval()).eval()), torch.rand(2, 3, 8, 8)
    (record,) = watch_once(model, x)[0]
    expected = torch.sigmoid(model.get_submodule("1.fc")(model.get_submodule("0")(x).mean((2, 3))))
    torch.testing.assert_close(record.values, expected.detach())


def test_a_weight_that_is_changed_in_place_afterwards_is_recorded_as_it_was():
    class InPlace(Gate):
        def forward(self, x):
            weights = torch.sigmoid(self.fc(x.mean((2, 3))))
            y = x * weights[..., None, None]
            weights.zero_()
            return y

    model = nn.Sequential(InPlace()).eval()
    assert watch_once(model, torch.rand(2, 3, 8, 8))[0]["0"].values.min() > 0
