"""Grad-CAM of every form of answer, target and image; and the images that `draw` takes."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import foveal
from foveal.core.record import Facts, Record, Tap
from foveal.inspection.drawing.canvas import as_pictures


class Sums(nn.Module):
    """y_k = (k + 1) sum of x over positions: alpha of the one channel is k + 1."""

    def __init__(self, classes=1, end=lambda z: z):
        super().__init__()
        self.features = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.features.weight)
        self.factors, self.end = torch.arange(1.0, classes + 1), end

    def forward(self, x):
        return self.end(self.features(x).sum((2, 3)) * self.factors)


X = torch.tensor([[[[1.0, -2.0], [0.5, -4.0]]], [[[1.0, 2.0], [-0.5, 4.0]]]])  # sums -4.5 and 6.5


@pytest.mark.parametrize("end", [lambda z: z, lambda z: z[:, 0], lambda z: {"logits": z}, lambda z: (z[:, 0], None)])
def test_one_logit(end):
    """The logit of class 1 is z, whose map is x where x > 0; that of class 0 is -z, whose map is -x where x < 0."""
    model = Sums(1, end)
    torch.testing.assert_close(foveal.class_activation(model, X, targets=1).values, X[:, 0].relu())
    torch.testing.assert_close(foveal.class_activation(model, X, targets=0).values, (-X[:, 0]).relu())
    own = torch.stack([(-X[0, 0]).relu(), X[1, 0].relu()])
    torch.testing.assert_close(foveal.class_activation(model, X).values, own)
    torch.testing.assert_close(foveal.class_activation(model, X[:1]).values, own[:1])
    with pytest.raises(ValueError, match="targets=2: a class of 2, from 0 to 1"):
        foveal.class_activation(model, X, targets=2)


@pytest.mark.parametrize(
    ("targets", "classes"),
    [(2, (2, 2)), ([0, 2], (0, 2)), (np.array([1, 0], "uint8"), (1, 0)), (torch.tensor(1), (1, 1)), (None, (0, 2))],
)
def test_targets(targets, classes):
    """Of logits s, 2 s, 3 s the largest is the first where s < 0, and the last where s > 0."""
    found = foveal.class_activation(Sums(3), X, targets=targets).values
    expected = torch.stack([(index + 1) * x.relu() for index, x in zip(classes, X[:, 0], strict=True)])
    torch.testing.assert_close(found, expected)


def test_a_module_names_its_path():
    model = Sums(2)
    found = foveal.class_activation(model, X, at=model.features)
    assert found.path == "features"
    torch.testing.assert_close(found.values, foveal.class_activation(model, X, "features").values)
    wrapped = nn.DataParallel(model)
    assert foveal.class_activation(wrapped.module, list(X), at=wrapped.module.features).path == "features"


@pytest.mark.parametrize(
    ("model", "arguments", "error", "message"),
    [
        (
            Sums(3),
            {"at": 1},
            TypeError,
            "at=1: a module or its path is needed; a class is given by name, as in targets=1",
        ),
        (Sums(3), {"at": torch.tensor([1, 0])}, TypeError, "at=a Tensor: a module or its path"),
        (Sums(3), {"at": nn.ReLU()}, ValueError, "at: this ReLU is not a module of the Sums"),
        (Sums(3), {"targets": 3}, ValueError, "targets=3: a class of 3, from 0 to 2"),
        (Sums(3), {"targets": -1}, ValueError, "targets=-1: a class of 3"),
        (Sums(3), {"targets": [0, 1, 2]}, ValueError, r"targets=\[0, 1, 2\]: .* for each of 2 images"),
        (Sums(3), {"targets": [[0, 1, 0], [1, 0, 0]]}, ValueError, "for each of 2 images"),
        (Sums(3), {"targets": torch.zeros(99).long()}, ValueError, r"targets of shape \(99,\)"),
        (Sums(3), {"targets": 1.0}, TypeError, "targets of type float32: integers"),
        (Sums(3), {"targets": True}, TypeError, "targets of type bool"),
        (Sums(3), {"targets": "cat"}, TypeError, "targets: a str; integers"),
        (Sums(3, lambda z: z.softmax(1)), {}, ValueError, "ends with a sigmoid or softmax"),
        (Sums(3, lambda z: z / 0), {}, ValueError, "answer for image 0 of a batch of 2 is not finite"),
        (Sums(3, lambda z: {"out": z}), {}, ValueError, r"answers a dict with 'out': \(2, 3\), not logits"),
    ],
)
def test_what_is_refused(model, arguments, error, message):
    with pytest.raises(error, match=message) as raised:
        foveal.class_activation(model, X, **arguments)
    assert "\n" not in str(raised.value)


def test_inference_mode():
    model, expected = Sums(2), torch.stack([X[0, 0].relu(), 2 * X[1, 0].relu()])
    with torch.inference_mode():
        for images in (X, X.clone(), X.numpy()):  # a clone of this context is a tensor without autograd
            torch.testing.assert_close(foveal.class_activation(model, images).values, expected)
        assert foveal.score(model, [(X, torch.tensor([0, 1]))], curved=0).accuracy == 1
        made_inside = Sums(2)
        with pytest.raises(ValueError, match=r"its weights were made under torch\.inference_mode"):
            foveal.class_activation(made_inside, X)
    norm = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.inference_mode():
        norm[1].running_mean = torch.zeros(2)
    with pytest.raises(ValueError, match=r"made under torch.inference_mode"):
        foveal.class_activation(norm, X)
    assert torch.is_grad_enabled()


class Pooled(nn.Module):
    """A map whose positions attention pools: the weights (B, G, Q, K) are four-dimensional, and no map."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.features.weight)
        facts = {"mechanism": "pool", "kind": "affinity", "domain": "spatial"}
        self.tap = Tap(Facts(axes="B G Q K", value_range=(0, 1), **facts))

    def forward(self, x):
        values = self.features(x).flatten(2)  # (B, 1, H W)
        weights = self.tap(torch.full((len(x), 1, 2, values.shape[2]), 1 / values.shape[2]))
        return (weights @ values[:, None].mT).flatten(1)


def test_weights_of_attention_are_no_map():
    """Both logits are the mean of x over four positions: each gradient, and their mean alpha, is 1/4."""
    found = foveal.class_activation(Pooled(), X)
    assert found.path == "features"
    torch.testing.assert_close(found.values, X[:, 0].relu() / 4)


RED = np.zeros((4, 6, 3), "uint8")
RED[..., 0] = 255
EXPECTED = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(2, 3, 4, 6)


@pytest.mark.parametrize(
    "images",
    [
        [Image.fromarray(RED)] * 2,
        [Image.fromarray(RED).convert("RGBA"), Image.fromarray(RED)],
        (Image.fromarray(RED).convert("P"),) * 2,
        [RED, RED],
        np.stack([RED, RED]),
        np.stack([RED, RED]) / 255.0,
        np.stack([RED, RED]).transpose(0, 3, 1, 2),
        torch.tensor(np.stack([RED, RED])).permute(0, 3, 1, 2),
        list(torch.tensor(np.stack([RED, RED])).permute(0, 3, 1, 2)),
    ],
)
def test_images_to_draw(images):
    assert torch.equal(as_pictures(images), EXPECTED)
    record = Record(
        mechanism="m",
        kind="mask",
        domain="spatial",
        axes="B H W",
        value_range=(0, 1),
        path="p",
        values=torch.rand(2, 2, 3),
    )
    assert foveal.draw([record], images).alt_text == "2 images with mask of p"


def test_one_image_to_draw():
    for image in (Image.fromarray(RED), RED, RED / 255.0):
        assert torch.equal(as_pictures(image), EXPECTED[:1])
    grey = np.full((4, 6), 51, "uint8")
    for image in (Image.fromarray(grey), grey, [grey], grey[..., None]):
        torch.testing.assert_close(as_pictures(image), torch.full((1, 3, 4, 6), 0.2))


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([], ValueError, "images: an empty list"),
        ([RED, RED[1:]], ValueError, r"images: \(3, 4, 6\) of torch.uint8 and \(3, 3, 6\) of torch.uint8"),
        ([RED, RED / 255.0], ValueError, "one size and type is needed"),
        (["cat.png"], TypeError, "images: a list of str"),
        ("cat.png", TypeError, "images: str given"),
        (RED.transpose(2, 0, 1), ValueError, r"images: one of shape \(3, 4, 6\); an array \(H, W, 1 to 3\)"),
        (np.zeros((2, 3, 4, 3)), ValueError, r"\(B, C, H, W\) or \(B, H, W, C\)\?"),
        (np.zeros((2, 4, 6, 5)), ValueError, r"images \(2, 4, 6, 5\): \(B, 1 to 3, H, W\) is needed"),
        (torch.zeros(3, 4, 6), ValueError, r"images\[None\] makes a batch"),
        (torch.zeros(0, 3, 4, 6), ValueError, "with B from 1"),
        (np.stack([RED, RED]).astype("float32"), ValueError, r"images from 0 to 255: .* or as uint8"),
        (torch.full((1, 3, 4, 6), float("nan")), ValueError, "not all values are finite"),
        (Image.fromarray(np.full((4, 6), 40000, "uint16")), ValueError, "a PIL image of mode 'I;16'"),
    ],
)
def test_images_that_cannot_be_drawn(images, error, message):
    with pytest.raises(error, match=message):
        as_pictures(images)
