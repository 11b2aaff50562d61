"""Networks of the caller's function: built, checked on the data, with attention."""

import pytest
import torch
from own_functions import Net, halves, net
from torch import nn

import foveal
from foveal.networks.own import create_for, taken_options


@pytest.fixture(scope="module")
def data():
    return foveal.load_data(halves)


def create(data, function, attention="", **options):
    return create_for(data, "mine:f" + attention, {"mine:f": function}, **options)


def test_create_for_builds_the_network_for_the_data(data):
    model = create(data, net)
    assert model.training
    assert (model.stem.in_channels, model.head.out_features) == (1, 2)
    assert model.made_as == {"backbone": "mine:f", "options": {"num_classes": 2, "in_chans": 1}, "attached": 0}


def test_create_for_draws_the_weights_of_the_plain_network_first(data):
    """Contenders of a seed share the initial weights of the backbone."""
    torch.manual_seed(3)
    plain = create(data, net)
    torch.manual_seed(3)
    attentive = create(data, net, "+se:at=residual,reduction=4")
    assert torch.equal(plain.head.weight, attentive.head.weight)
    assert [each.mechanism for each in foveal.attachments(attentive)] == ["se"]
    torch.manual_seed(3)
    net(2, 1)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    create(data, net)
    assert torch.equal(torch.get_rng_state(), state)  # the check draws nothing


def test_create_for_puts_a_transformer_before_the_image(data):
    assert [each.at for each in foveal.attachments(create(data, net, "+stn"))] == [("input",)]


def test_create_for_needs_a_place_in_an_unknown_network(data):
    with pytest.raises(ValueError, match="Net has no known block: give the place by at="):
        create(data, net, "+se")


def test_taken_options_follow_the_signature():
    options = {"num_classes": 2, "in_chans": 3}
    assert taken_options(lambda num_classes, in_chans: 0, options) == options
    assert taken_options(lambda: 0, options) == {}
    assert taken_options(lambda **others: 0, options) == {"num_classes": 2}  # as torchvision's have no in_chans
    assert taken_options(lambda **others: 0, {"in_chans": 1}) == {"in_chans": 1}


def test_create_for_hands_pretrained_on(data):
    def f(num_classes, in_chans, pretrained=False):
        model = Net(num_classes, in_chans)
        model.stem.bias.data.fill_(9.0 if pretrained else 0.0)
        return model

    model = create(data, f, "+se:at=residual", pretrained=True)
    assert model.stem.bias.unique().tolist() == [9.0]
    assert foveal.attachments(model)[0].identity
    with pytest.raises(ValueError, match="pretrained=True, and the function takes no argument of this name"):
        create(data, net, pretrained=True)


class Twice(Net):
    """Answers in two parts while it is trained."""

    def forward(self, x):
        logits = super().forward(x)
        return (logits, logits) if self.training else logits


ONE = Net(2, 1)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: Net(5, 1), r"it answers \(2, 5\); one logit for each of 2 classes, \(2, 2\), is needed"),
        (lambda: Twice(2, 1), "it answers a tuple of"),
        (lambda: Net(2, 3), "the model fails on images of shape"),
        (lambda: nn.Sequential(Net(2, 1), nn.Softmax(1)), "ends with a sigmoid or softmax"),
        (lambda: nn.Flatten(), "no weight of it can be trained"),
        (lambda: 7, "the function returns a int; an nn.Module is needed"),
        (lambda depth: Net(2, 1), "the function fails, TypeError: .*depth"),
        (lambda: 1 / 0, "the function fails, ZeroDivisionError"),
    ],
)
def test_create_for_refuses_in_one_line(data, function, message):
    with pytest.raises(ValueError, match=f"^network 'mine:f'.*{message}"):
        create(data, function)


def test_create_for_refuses_one_network_twice(data):
    create(data, lambda: ONE)
    with pytest.raises(ValueError, match="returns one network twice; a new one is needed each time"):
        create(data, lambda: ONE)
