"""Accuracy of every form of labels and answers, against ten lines of plain Python; and models without a map."""

import math

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import foveal
from foveal.core.record import Facts, Tap


class Mask(nn.Module):
    def __init__(self):
        super().__init__()
        self.tap = Tap(Facts(mechanism="mask", kind="mask", domain="spatial", axes="B H W", value_range=(0, 1)))

    def forward(self, x):
        return x * self.tap(torch.ones_like(x[:, 0]))[:, None]


class Means(nn.Module):
    """Logits are the means of the image's channels, (B, K); `end` makes of them what the model returns."""

    def __init__(self, end=lambda z: z):
        super().__init__()
        self.mask, self.end = Mask(), end

    def forward(self, x):
        return self.end(self.mask(x).mean((2, 3)))


def as_images(logits: list[list[float]]) -> torch.Tensor:
    return torch.tensor(logits)[:, :, None, None].expand(-1, -1, 4, 4).clone()


CLASSES = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
RIGHT = as_images(torch.eye(4)[CLASSES].mul(5).sub(2).tolist())
BINARY = as_images([[1.0], [-1.0], [2.0], [-3.0], [1.0], [1.0], [-1.0], [-0.5]])
SIGNS = torch.tensor([1, 0, 1, 0, 1, 1, 0, 0])


def accuracy(labels, images=RIGHT, end=lambda z: z) -> float:
    return foveal.score(Means(end), [(images, labels)], curved=0).accuracy


@pytest.mark.parametrize(
    "labels",
    [
        CLASSES[:, None],
        nn.functional.one_hot(CLASSES, 4),
        nn.functional.one_hot(CLASSES, 4).double(),
        nn.functional.one_hot(CLASSES, 4).bool(),
        CLASSES.to(torch.uint16),
        CLASSES.numpy().astype("int8"),
    ],
)
def test_labels_of_a_network_that_is_right(labels):
    assert accuracy(labels) == 1
    wrong = np.roll(labels, 1, 0) if isinstance(labels, np.ndarray) else labels.roll(1, 0)
    assert accuracy(wrong) == 0


def test_one_hot_rows_of_as_many_images_as_classes():
    assert accuracy(torch.eye(4), RIGHT[:4]) == 1
    assert accuracy(torch.eye(4)[[0, 1, 3, 2]], RIGHT[:4]) == 0.5


@pytest.mark.parametrize("end", [lambda z: z, lambda z: z[:, 0], lambda z: z.squeeze(), lambda z: {"logits": z}])
def test_one_logit_is_a_binary_model(end):
    assert accuracy(SIGNS, BINARY, end) == 1
    assert accuracy(1 - SIGNS, BINARY, end) == 0
    assert accuracy(torch.ones(8, 1), BINARY, end) == 0.5


@pytest.mark.parametrize("z", [2.0, -2.0])
def test_curves_of_one_logit(z):
    """An answer that does not depend on the image: its class has the probability sigmoid(2) all along."""
    model = Means(lambda means: means * 0 + z)
    found = foveal.score(model, [(torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 0]))])
    masks = [each for each in found.curves if each.path == "mask"]
    assert [each.auc.mean for each in masks] == pytest.approx([1 / (1 + math.exp(-2))] * 2)


def test_one_logit_and_two_give_the_same_scores():
    """Logits 0 and z have the softmax sigmoid(z); without Grad-CAM, whose logits differ, all figures are the same."""
    torch.manual_seed(1)
    loader = [(torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 0, 1, 1, 0]))]
    one, two = (foveal.score(Means(end), loader) for end in (lambda z: z, lambda z: torch.cat([z * 0, z], 1)))
    assert (one.accuracy, one.ablations) == (two.accuracy, two.ablations)
    pairs = [pair for pair in zip(one.curves, two.curves, strict=True) if pair[0].path == "mask"]
    assert len(pairs) == 2
    for mine, theirs in pairs:
        assert mine.auc.mean == pytest.approx(theirs.auc.mean, abs=1e-6)


@pytest.mark.parametrize(
    ("images", "labels", "end", "message"),
    [
        (RIGHT, CLASSES + 1, lambda z: z, "loader: batch 0: labels from 1 to 4; 0 to 3 are possible"),
        (RIGHT, CLASSES.float(), lambda z: z, "type float32"),
        (RIGHT[:4], torch.full((4, 4), 0.25), lambda z: z, "rows that are not one-hot"),
        (BINARY, CLASSES, lambda z: z, "0 to 1 are possible, as the model has one output"),
        (BINARY, SIGNS, lambda z: z.sigmoid(), "ends with a sigmoid or softmax"),
        (RIGHT, CLASSES, lambda z: nn.functional.softmax(z, 1), "ends with a sigmoid or softmax"),
        (RIGHT, CLASSES, lambda z: z * float("nan"), "is not finite"),
        (
            RIGHT,
            CLASSES,
            lambda z: torch.where(z.amax(1, True) == z[:, 3:], z / 0, z),
            "answer for image 3 of a batch of 8",
        ),
        (RIGHT, CLASSES, lambda z: z[:, :, None, None], r"answers \(2, 4, 1, 1\), not logits"),
        (RIGHT, CLASSES, lambda z: z.argmax(1), "of int64, not logits"),
    ],
)
def test_no_figure_of_wrong_labels_or_answers(images, labels, end, message):
    with pytest.raises(ValueError, match=message) as error:
        accuracy(labels, images, end)
    assert "\n" not in str(error.value)


def test_labels_of_choose_are_checked_too():
    with pytest.raises(ValueError, match="choose: batch 1: labels from 0 to 9"):
        foveal.score(Means(), [(RIGHT, CLASSES)], [(RIGHT, CLASSES), (RIGHT, CLASSES * 3)])


@pytest.mark.parametrize("boxes", [CLASSES, torch.rand(8, 5), torch.full((8, 4), float("nan"))])
def test_boxes_that_are_none(boxes):
    with pytest.raises(ValueError, match="box"):
        foveal.score(Means(), [(RIGHT, CLASSES, boxes)], curved=0)


@pytest.mark.parametrize("keys", [("image", "label"), ("images", "labels"), ("pixel_values", "labels")])
def test_loaders_of_dicts(keys):
    loader = [dict(zip(keys, each, strict=True)) for each in ((RIGHT, CLASSES), (RIGHT.numpy(), CLASSES.numpy()))]
    found = foveal.score(Means(), loader, curved=0)
    assert (found.accuracy, found.images) == (1, 16)
    images = torch.rand(8, 3, 16, 16)
    loader = [{keys[0]: images}, {keys[0]: images.numpy(), keys[1]: "anything"}, images.numpy(), (images, None)]
    assert foveal.audit(foveal.create_model("small_cnn+se"), loader).images == 32


class Windows(nn.Module):
    """Attention within windows alone: neither a map of the whole image, nor one for Grad-CAM."""

    def __init__(self, kind, axes, shape):
        super().__init__()
        facts = {"mechanism": "m", "domain": "channel" if kind == "gate" else "spatial", "value_range": (0, 1)}
        self.tap, self.shape = Tap(Facts(kind=kind, axes=axes, **facts)), shape

    def forward(self, x):
        weights = self.tap(torch.ones(len(x), *self.shape))
        return x.mean((2, 3)) * weights.flatten(1).mean(1, keepdim=True)


class Network(nn.Module):
    def __init__(self, *window):
        super().__init__()
        self.attention = Windows(*window)

    def forward(self, x):
        return self.attention(x)


NO_MAP = "boxes, deletion and insertion: no place gives a map of the whole image"


@pytest.mark.parametrize(
    ("window", "line"),
    [
        (("affinity", "B N G Q K", (4, 1, 4, 4)), "'attention': affinities 'B N G Q K' give no map of the whole image"),
        (("affinity", "B G Q K", (1, 3, 3)), "'attention': affinities 'B G Q K' give no map of the whole image"),
        (("gate", "B C", (4,)), NO_MAP),  # a gate weighs channels, of which no line is needed
    ],
)
def test_places_without_a_map_are_left_out_and_listed(window, line):
    boxes = torch.tensor([[0.0, 0, 2, 2]]).expand(8, 4)
    found = foveal.score(Network(*window), [(RIGHT, CLASSES, boxes)])
    assert (found.accuracy, found.located, found.curves) == (1, (), ())
    assert line in found.left_out
    assert NO_MAP in found.left_out
    assert f"left out: {line}" in str(found)
    assert {each.path for each in found.ablations} == {"attention"}


@pytest.mark.parametrize(
    ("name", "options", "places"),
    [
        ("tnt_s_legacy_patch16_224", {"img_size": 64, "depth": 1}, 2),
    ],
)
def test_a_transformer_without_a_map_of_the_whole_image(name, options, places):
    model = timm.create_model(name, num_classes=2, **options)
    found = foveal.score(model, [(torch.rand(2, 3, 64, 64), torch.tensor([0, 1]))])
    assert (found.located, found.curves, found.left_out[-1]) == ((), (), NO_MAP)
    assert "Grad-CAM of a" in found.left_out[0]
    assert any(line.startswith("'blocks.0.attn") and "affinities" in line for line in found.left_out)
    assert len({each.path for each in found.ablations}) == places


def test_windows_are_left_out_and_the_last_map_stays():
    """Hiera's tokens are in windows until its last stage, whose 2x2 tokens are in the image's order."""
    model = timm.create_model("hiera_tiny_224", num_classes=2, embed_dim=8, img_size=64, stages=(1, 1, 1, 1))
    found = foveal.score(model, [(torch.rand(2, 3, 64, 64), torch.tensor([0, 1]))])
    assert {each.path for each in found.curves} == {"grad_cam of blocks.3"}
    assert any(line.startswith("'blocks.0.attn") and "affinities" in line for line in found.left_out)
    assert len({each.path for each in found.ablations}) == 4


FORMS = {
    "classes": lambda classes, width: classes,
    "column": lambda classes, width: classes[:, None],
    "one-hot": lambda classes, width: np.eye(width + 3, dtype="int64")[classes % (width + 3)][:, :width],
    "wider": lambda classes, width: np.eye(width + 3, dtype="int64")[classes % (width + 3)][:, : width + 1],
    "cube": lambda classes, width: classes[:, None, None],
}
DTYPES = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64", "bool"]
ENDS = {
    "rows": lambda z: z,
    "dict": lambda z: {"logits": z},
    "tuple": lambda z: (z, None),
    "squeezed": lambda z: z[:, 0] if z.shape[1] == 1 else z,
}


def reference(logits: list[list[float]], labels: np.ndarray) -> float | None:
    """The accuracy, or None where the labels are not one class of the model for each image."""
    width, right = len(logits[0]), []
    for row, label in zip(logits, labels.tolist(), strict=True):
        label = label[0] if isinstance(label, list) and len(label) == 1 else label
        if isinstance(label, list):
            if len(label) != width or sorted(label) != [0] * (width - 1) + [1]:
                return None
            label = label.index(1)
        elif label not in range(max(width, 2)) or (isinstance(label, float) and width > 1):
            return None
        right.append(label == (row.index(max(row)) if width > 1 else row[0] > 0))
    return sum(right) / len(right)


@st.composite
def cases(draw):
    width, count = draw(st.integers(1, 5)), draw(st.integers(2, 6))
    numbers = st.lists(st.integers(-40, 40), min_size=width, max_size=width, unique=True)
    logits = [[value / 8 for value in row] for row in draw(st.lists(numbers, min_size=count, max_size=count))]
    low, high = draw(st.sampled_from([(0, max(width, 2) - 1), (0, width), (-1, width)]))
    classes = np.array(draw(st.lists(st.integers(low, high), min_size=count, max_size=count)))
    labels = FORMS[draw(st.sampled_from(list(FORMS)))](classes, width).astype(draw(st.sampled_from(DTYPES)))
    return logits, labels, draw(st.sampled_from(list(ENDS))), draw(st.integers(1, count))


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(cases())
def test_score_gives_the_reference_accuracy_or_refuses(case):
    logits, labels, end, size = case
    images = as_images(logits)
    loader = [(images[at : at + size], labels[at : at + size]) for at in range(0, len(images), size)]
    expected = reference(logits, labels)
    try:
        found = foveal.score(Means(ENDS[end]), loader, curved=0).accuracy
    except (ValueError, TypeError) as error:
        found, message = None, str(error)
    if found is None:
        plain = labels.dtype.kind in "iu" or labels.shape[1:] == (len(logits[0]),)
        assert expected is None or not plain, message  # integers and one-hot rows must be read
        assert "\n" not in message
    else:
        assert expected is not None
        assert found == pytest.approx(expected, abs=1e-6)


class UnknownMask(nn.Module):
    """A mask of the values themselves, which a trial pass takes for an activation."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Sigmoid()

    def forward(self, x):
        return x * self.weights(x[:, :1] * 0 + 9)


class Several(nn.Module):
    """Logits among others of the same shape, as of an auxiliary head."""

    def __init__(self):
        super().__init__()
        self.mask = UnknownMask()

    def forward(self, x):
        logits = self.mask(x).mean((2, 3))
        return {"auxiliary": -logits, "main": logits}


def test_score_takes_an_answer_and_extra_classes():
    batches, given = [(RIGHT, CLASSES)], {"extra": {UnknownMask: ("weights", "mask")}}
    with pytest.raises(ValueError, match="it answers a dict with 'auxiliary'"):
        foveal.score(Several(), batches, **given)
    found = foveal.score(Several(), batches, answer=lambda out: out["main"], **given)
    assert found.accuracy == 1
    assert {each.path for each in found.ablations} == {"mask"}
    assert {each.path for each in found.curves} == {"mask", "grad_cam of mask"}
    assert foveal.score(Several(), batches, answer=lambda out: out["auxiliary"], **given).accuracy == 0
