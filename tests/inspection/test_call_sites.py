"""Found places are recorded where the pass that is watched is not the one that was tried: the right call, or none."""

import pytest
import torch
from helpers import watch_once
from torch import fx, nn

import foveal
from foveal.core.layout import Layout


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


def attend(x, y):
    return (x @ y.mT).softmax(-1) @ y


class Decoder(nn.Module):
    """Cross attention to a context, if there is one, before self attention; both by the same function."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 8, 8)

    def forward(self, x, context=None):
        t = self.patch(x).flatten(2).mT
        if context is not None:
            t = t + attend(t, context)
        self.tokens = t.detach()
        return (t + attend(t, t)).mean(1)


class Whole(nn.Module):
    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, *args, **kwargs):
        return self.decoder(*args, **kwargs)


def by_hand(decoder, x, context):
    """The weights of the last pass: self attention, and cross attention before it."""
    own, cross = decoder.tokens, decoder.patch(x).flatten(2).mT.detach()
    return (own @ own.mT).softmax(-1), (cross @ context.mT).softmax(-1)


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("wrap", [lambda model: model, Whole])
def test_watch_records_attention_that_further_arguments_bring(wrap, by_name):
    decoder, x, context = Decoder().eval(), torch.rand(2, 3, 16, 24), torch.rand(2, 6, 16)
    model, more = wrap(decoder), {"context": context}
    for _ in range(2):
        with foveal.watch(model) as seen, torch.no_grad():
            model(x, **more) if by_name else model(x, context)
        own, cross = sorted(seen, key=lambda record: record.tokens.keys is None)
        torch.testing.assert_close((own.values[:, 0], cross.values[:, 0]), by_hand(decoder, x, context))
        assert own.tokens.keys == cross.tokens.queries == Layout(0, 2, 3, ())
        assert not seen.unseen
        alone, _ = watch_once(model, x)
        assert alone.paths() == [own.path]
        torch.testing.assert_close(alone[0].values[:, 0], by_hand(decoder, x, context)[0])
    with foveal.replace(model, {cross.path: 0.0}), torch.no_grad():
        assert torch.equal(model(x, context), model(x))


def test_a_model_found_in_its_first_pass_is_recorded_in_it():
    """Also the model itself, whose hooks are running then."""

    class Tokens(nn.Module):
        def forward(self, x, scale):
            return attend(x, x) * scale

    x = torch.rand(3, 5, 4)
    seen, _ = watch_once(Tokens(), x, 2.0)
    torch.testing.assert_close(seen[0].values[:, 0], (x @ x.mT).softmax(-1))
    assert (seen[0].forward, seen[0].tokens.keys) == (0, None)
