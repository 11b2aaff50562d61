"""Attention that a trial pass finds in networks of no library, and what it must not take for attention."""

import copy
import random

import numpy as np
import pytest
import torch
from helpers import watch_once
from torch import nn
from torch.nn import functional as F

import foveal
from foveal.inspection.finding.find import find_places

C = 8


class Net(nn.Module):
    """A network of one mechanism, `attend`, after a convolution of stride 2 and before a classifier."""

    attend = nn.Module.forward

    def __init__(self):
        super().__init__()
        self.stem, self.fc, self.conv = nn.Conv2d(3, C, 2, 2), nn.Conv2d(C, C, 1), nn.Conv2d(C, C, 3, padding=1)
        self.one, self.twice = nn.Conv2d(C, 1, 3, padding=1), nn.Conv2d(C, 2 * C, 1)
        self.norm, self.head = nn.BatchNorm2d(C), nn.Linear(C, 5)
        self.qkv = nn.Linear(C, 3 * C)

    def forward(self, x):
        return self.head(self.attend(self.stem(x)).flatten(2).mean(2))

    def heads(self, x):
        return self.qkv(x.flatten(2).mT).unflatten(-1, (3, 2, C // 2)).movedim(2, 0).transpose(2, 3)


def gate_by_sigmoid(self, x):
    return x * torch.sigmoid(self.fc(x.mean((2, 3), keepdim=True)))


def gate_by_hardsigmoid(self, x):
    return F.hardsigmoid(self.fc(F.adaptive_avg_pool2d(x, 1))) * x


def gate_by_relu6(self, x):
    return x * (F.relu6(self.fc(x.mean((2, 3), keepdim=True)) + 3) / 6)


def gate_by_clamp(self, x):
    return x.mul(torch.clamp(self.fc(x.mean((2, 3), keepdim=True)) * 0.2 + 0.5, 0, 1))


def mask_by_convolution(self, x):
    return x * self.one(x).sigmoid()


def residual_mask(self, x):
    return (1 + self.conv(x).sigmoid()) * self.fc(x)


def softmax_of_queries_and_keys(self, x):
    q, k, v = self.heads(x)
    return ((q @ k.mT / 2).softmax(-1) @ v).transpose(1, 2).flatten(2).mT


def softmax_by_einsum(self, x):
    q, k, v = self.heads(x)
    weights = F.softmax(torch.einsum("bgqd,bgkd->bgqk", q, k), dim=-1)
    return torch.einsum("bgqk,bgkd->bgqd", weights, v).transpose(1, 2).flatten(2).mT


def fused(self, x):
    return F.scaled_dot_product_attention(*self.heads(x)).transpose(1, 2).flatten(2).mT


def batched_product(self, x):
    q, k, v = (each.flatten(0, 1) for each in self.heads(x))
    return torch.bmm(torch.bmm(q, k.mT).softmax(2), v).unflatten(0, (-1, 2)).transpose(1, 2).flatten(2).mT


def selection_of_branches(self, x):
    maps = torch.stack([self.conv(x), self.fc(x)], 1)
    weights = self.twice(maps.sum(1).mean((2, 3), keepdim=True)).unflatten(1, (2, C)).softmax(1)
    return (weights * maps).sum(1)


class Pooling(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(C, 1, 1)

    def forward(self, x):
        weights = self.one(x).flatten(2).softmax(-1)
        return x + torch.bmm(x.flatten(2), weights.mT)[..., None]


FOUND = {  # mechanism: kind, domain, axes, shape of two images of 8 x 12 pixels
    gate_by_sigmoid: ("gate", "channel", "B C", (2, C)),
    gate_by_hardsigmoid: ("gate", "channel", "B C", (2, C)),
    gate_by_relu6: ("gate", "channel", "B C", (2, C)),
    gate_by_clamp: ("gate", "channel", "B C", (2, C)),
    mask_by_convolution: ("mask", "spatial", "B H W", (2, 4, 6)),
    residual_mask: ("gate", "mixed", "B C H W", (2, C, 4, 6)),
    softmax_of_queries_and_keys: ("affinity", "spatial", "B G Q K", (2, 2, 24, 24)),
    softmax_by_einsum: ("affinity", "spatial", "B G Q K", (2, 2, 24, 24)),
    fused: ("affinity", "spatial", "B G Q K", (2, 2, 24, 24)),
    selection_of_branches: ("selection", "channel", "B K C", (2, 2, C)),
}


def net_of(mechanism):
    torch.manual_seed(0)
    return type("Net", (Net,), {"attend": mechanism})().eval()


@pytest.mark.parametrize("mechanism", FOUND, ids=lambda each: each.__name__)
def test_find_places_shows_attention_of_no_library(mechanism):
    model, images = net_of(mechanism), torch.rand(2, 3, 8, 12)
    with torch.no_grad():
        plain = model(images)
    seen, out = watch_once(model, images)
    assert torch.equal(out, plain)
    (record,) = seen
    assert (record.kind, record.domain, record.axes, tuple(record.values.shape)) == FOUND[mechanism]
    assert set(seen.found.values()) == {"in a trial pass"}
    assert str(seen).endswith(", found in a trial pass")
    if record.kind in ("affinity", "selection"):
        sums = record.values.sum(-1 if record.kind == "affinity" else 1)
        torch.testing.assert_close(sums, torch.ones_like(sums))


def test_watch_of_found_weights_equals_them_by_hand():
    model, images = net_of(gate_by_relu6), torch.rand(2, 3, 8, 12)
    seen, _ = watch_once(model, images)
    by_hand = F.hardsigmoid(model.fc(model.stem(images).mean((2, 3), keepdim=True)))
    torch.testing.assert_close(seen[0].values, by_hand[:, :, 0, 0])
    for mechanism in (fused, softmax_of_queries_and_keys):
        model = net_of(mechanism)
        q, k, _ = model.heads(model.stem(images))
        torch.testing.assert_close(watch_once(model, images)[0][0].values, (q @ k.mT / 2).softmax(-1))


def test_watch_shows_the_weights_of_a_pooling_and_of_heads_in_the_batch():
    images = torch.rand(2, 3, 8, 12)
    seen, _ = watch_once(net_of(batched_product), images)
    assert seen[0].values.shape == (2, 2, 24, 24)
    model = nn.Sequential(nn.Conv2d(3, C, 2, 2), Pooling())
    seen, _ = watch_once(model, images)
    by_hand = model[1].one(model[0](images)).flatten(2).softmax(-1)
    assert (seen[0].kind, seen[0].axes) == ("mask", "B H W")
    torch.testing.assert_close(seen[0].values, by_hand.unflatten(-1, (4, 6))[:, 0])


@pytest.mark.parametrize("mechanism", [*FOUND], ids=lambda each: each.__name__)
def test_replace_of_found_weights_by_themselves_changes_nothing(mechanism):
    model, images = net_of(mechanism), torch.rand(2, 3, 8, 12)
    seen, out = watch_once(model, images)
    with torch.no_grad(), foveal.replace(model, {seen.paths()[0]: seen[0].values}):
        torch.testing.assert_close(model(images), out)
    with torch.no_grad(), foveal.replace(model, {seen.paths()[0]: lambda weights: weights * 0}):
        assert not torch.allclose(model(images), out)


def swish(self, x):
    return x * torch.sigmoid(1.7 * x)


def swish_after_a_norm(self, x):
    return x * torch.sigmoid(self.norm(x))


def hard_swish(self, x):
    return x * F.relu6(x + 3) / 6


def gated_linear_unit(self, x):
    a, b = self.twice(x).chunk(2, 1)
    return a * b.sigmoid()


def gated_linear_unit_of_two_layers(self, x):
    return self.fc(x) * self.norm(self.other(x)).sigmoid()


def softmax_of_a_classifier(self, x):
    return self.fc(x).softmax(1)


def relu6(self, x):
    return x * F.relu6(self.fc(x))


def constants(self, x):
    return x * torch.sigmoid(self.fc.weight[:, 0].mean())


@pytest.mark.parametrize(
    "mechanism",
    [
        swish, swish_after_a_norm, hard_swish, gated_linear_unit, gated_linear_unit_of_two_layers,
        softmax_of_a_classifier, relu6, constants,
    ],
)  # fmt: skip
def test_find_places_takes_no_activation_for_attention(mechanism):
    model = net_of(mechanism)
    model.other = nn.Conv2d(C, C, 1)
    found = find_places(model)
    assert (found.places, found.reasons, found.stopped) == ({}, {}, "")
    with pytest.raises(ValueError, match=r"Net: no attention was found, by name or in a trial pass; foveal\.attach"):
        foveal.watch(model)


class Blocks(nn.Module):
    """Attention by names: of torch, of a mechanism in a module of its own, of one that is not attention."""

    def __init__(self):
        super().__init__()
        self.stem, self.multi_head = nn.Conv2d(3, C, 4, 4), nn.MultiheadAttention(C, 2, batch_first=True)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(C, C, 1), nn.Sigmoid())
        self.no_attention, self.unsquashed, self.idle = Attention(), TanhAttention(), Attention()

    def forward(self, x):
        x = self.no_attention(self.stem(x))
        x = self.unsquashed(x * self.gate(x)).flatten(2).mT
        return self.multi_head(x, x, x)[0].mean(1)


class Attention(nn.Identity):
    pass


class TanhAttention(nn.Module):
    def forward(self, x):
        return x * x.mean((2, 3), keepdim=True).tanh()


def test_watch_names_what_looks_like_attention_and_was_not_recorded():
    seen, _ = watch_once(Blocks().eval(), torch.rand(2, 3, 16, 16))
    assert seen.paths() == ["multi_head", "gate"]
    assert seen.found == {"multi_head": "by its class", "gate": "in a trial pass"}
    assert seen["multi_head"].values.shape == (2, 2, 16, 16)
    assert seen["gate"].mechanism == "Blocks"
    assert list(seen.unseen) == ["unsquashed", "idle"]
    assert "a trial pass found in it no softmax of queries and keys" in seen.unseen["unsquashed"]
    assert seen.unseen["idle"] == "Attention looks like attention; it was never called"


def test_watch_finds_attention_with_the_arguments_of_the_first_pass():
    """A model that takes no image: nothing is known of it before it is called."""

    class TwoInputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def forward(self, tokens, scale):
            return self.inner(tokens) * scale

    class Inner(nn.Module):
        def forward(self, x):
            return (x @ x.mT).softmax(-1) @ x

    x = torch.rand(3, 5, 4)
    seen, out = watch_once(TwoInputs(), x, 2.0)
    torch.testing.assert_close(out, (x @ x.mT).softmax(-1) @ x * 2)
    torch.testing.assert_close(seen["inner"].values[:, 0], (x @ x.mT).softmax(-1))
    model = nn.Linear(4, 2)
    with pytest.raises(ValueError, match="Linear: no attention was found, by name"), foveal.watch(model):
        model(x)


class Caching(Net):
    """A network that changes itself in a pass, and draws random numbers."""

    attend = gate_by_sigmoid

    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))
        self.sizes, self.cache = [], {}

    def forward(self, x):
        self.passes += 1
        self.sizes.append(tuple(x.shape))
        self.cache[x.shape] = torch.rand(1) + random.random() + np.random.rand()  # noqa: S311
        self.training_seen = self.training
        return super().forward(x)


def test_find_places_leaves_no_trace():
    model = Caching().train()
    model.head.register_forward_hook(lambda *_: pytest.fail("a hook of the user ran"))
    weights = copy.deepcopy(model.state_dict())
    keys = set(vars(model))
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    foveal.watch(model)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[:2]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert (model.sizes, model.cache, float(model.passes), set(vars(model))) == ([], {}, 0.0, keys)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert len(model.head._forward_hooks) == 1
    assert not any(hasattr(weight, "_foveal_node") for weight in model.parameters())
