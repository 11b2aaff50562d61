"""Scores of networks whose attention covers the object and is needed, or does not."""

import json
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import multi_head_attention_forward

import foveal
from foveal.core.record import Facts, Tap

SIDE = 8


QUARTERS = ((0, 0), (0, 4), (4, 0), (4, 4))  # upper left corners, by class


class Mask(nn.Module):
    """Weighs bright positions 1 and others 0."""

    def __init__(self):
        super().__init__()
        self.tap = Tap(Facts(mechanism="mask", kind="mask", domain="spatial", axes="B H W", value_range=(0, 1)))

    def forward(self, x):
        return x * self.tap((x[:, 0] > 0.7).float())[:, None]


class Brightest(nn.Module):
    """Brightest quarter of the image after attention."""

    def __init__(self):
        super().__init__()
        self.mask = Mask()

    def forward(self, x):
        x = self.mask(x)
        return torch.stack([x[:, 0, y : y + 4, x0 : x0 + 4].sum((1, 2)) for y, x0 in QUARTERS], dim=1)


def bright_squares(count: int = 80) -> list[tuple[torch.Tensor, ...]]:
    """A bright 2x2 square in one quarter; dim light in the first quarter outweighs it where no attention removes it."""
    labels = torch.arange(count) % 4
    images, boxes = torch.zeros(count, 1, SIDE, SIDE), torch.zeros(count, 4)
    images[:, :, :4, :4] = 0.6
    for index, label in enumerate(labels.tolist()):
        y, x = QUARTERS[label][0] + 1, QUARTERS[label][1] + 1
        images[index, 0, y : y + 2, x : x + 2] = 1
        boxes[index] = torch.tensor([x, y, x + 2, y + 2])
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    parts = (part[order].split(20) for part in (images, labels, boxes))
    return list(zip(*parts, strict=True))


def test_score_of_attention_on_the_object_that_is_needed():
    found = foveal.score(Brightest(), bright_squares())
    assert (found.accuracy, found.images) == (1.0, 80)
    perfect = {"pointing": 1, "energy": 1, "iou": 1}
    for path in ("mask", "grad_cam of mask"):  # the logit is a sum of what the mask lets through
        means = {each.metric: each.attention.mean for each in found.located if each.path == path}
        assert means == perfect
    assert all(each.beats_both for each in found.located)
    lost = {each.replacement: each.accuracy_drop.mean for each in found.ablations}
    assert lost["none"] == 0.75  # every image is said to be of the first class
    assert 0.45 < lost["another"] < 0.68  # 9/16: not of the first class, nor alike
    assert found.ablations[0].path == "mask"


def test_score_curves_of_a_mask_that_passes_the_object():
    """Without the four pixels of the square, less than a tenth, nothing passes the mask: all classes tie."""
    found = foveal.score(Brightest(), bright_squares())
    assert [(each.path, each.curve) for each in found.curves] == [
        (path, curve) for path in ("mask", "grad_cam of mask") for curve in ("deletion", "insertion")
    ]
    sure = math.exp(4) / (math.exp(4) + 3)  # logits of 4 and three 0
    for deletion, insertion in (found.curves[:2], found.curves[2:]):
        assert deletion.auc.mean == pytest.approx(((sure + 0.25) / 2 + 9 * 0.25) / 10, abs=1e-6)
        # blurred, no square passes the mask but, in part, that of the first quarter with its dim light
        assert ((sure + 0.25) / 2 + 9 * sure) / 10 - 1e-6 < insertion.auc.mean < sure
        assert deletion.beats_both
        assert insertion.beats_both
    assert str(found.curves[0]) in str(found)
    assert json.loads(found.to_json())["curves"][0]["auc"]["mean"] == found.curves[0].auc.mean


def test_score_curves_use_the_first_images_and_can_be_omitted():
    batch_sizes = []
    model = Brightest()
    model.register_forward_hook(lambda _, args, out: batch_sizes.append(len(out)))
    without = foveal.score(model, bright_squares(), curved=0)
    plain = sum(batch_sizes)
    assert without.curves == ()
    batch_sizes.clear()
    with_curves = foveal.score(model, bright_squares(), curved=30)
    assert with_curves.located == without.located
    # a pass to watch, one for Grad-CAM, and for two places 3 + 2 (9) (6), over 30 images
    assert sum(batch_sizes) - plain == 30 * (2 + 3 + 2 * 9 * 6)


class Sums(nn.Module):
    """Sums over the quarters of a map: no attention."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.features.weight)

    def forward(self, x):
        x = self.features(x)
        return torch.stack([x[:, 0, y : y + 4, x0 : x0 + 4].sum((1, 2)) for y, x0 in QUARTERS], dim=1)


def test_score_of_a_network_without_attention_uses_grad_cam():
    """Every logit's gradient is positive: the map is the image, whose brightest pixels are the object."""
    found = foveal.score(Sums(), bright_squares())
    assert {each.path for each in (*found.located, *found.curves)} == {"grad_cam of features"}
    assert {each.metric: each.attention.mean for each in found.located}["pointing"] == 1
    assert found.ablations == ()
    assert (
        str(found).splitlines()[1]
        == "left out: Sums: no attention was found, by name or in a trial pass; foveal.attach adds one"
    )


def test_score_reports_attention_without_a_map_for_grad_cam():
    class NoMap(Brightest):
        def __init__(self):
            super().__init__()
            self.mask = Rows()

        def forward(self, x):
            x = self.mask(x)[:, None]
            return torch.stack([x[:, 0, y : y + 4, x0 : x0 + 4].sum((1, 2)) for y, x0 in QUARTERS], dim=1)

    class Rows(Mask):
        def forward(self, x):
            return super().forward(x)[:, 0]

    found = foveal.score(NoMap(), bright_squares())
    assert {each.path for each in found.located} == {"mask"}
    assert "Grad-CAM of a NoMap: no module gives a map" in found.left_out[0]


def test_score_leaves_a_single_image_batch_out_of_swaps():
    images, labels, boxes = (torch.cat(parts) for parts in zip(*bright_squares(), strict=True))
    uneven = [part[:21].split(5) for part in (images, labels, boxes)]  # the last batch holds one image
    found, even = (
        foveal.score(Brightest(), list(zip(*parts, strict=True)))
        for parts in (uneven, [part[:20].split(5) for part in (images, labels, boxes)])
    )
    assert (found.images, even.images) == (21, 20)
    lost = [{each.replacement: each.accuracy_drop for each in score.ablations}["another"] for score in (found, even)]
    assert lost[0] == lost[1]
    assert found.located == even.located


def test_score_of_attention_nowhere_is_not_better_than_chance():
    torch.manual_seed(0)
    model = foveal.create_model("small_cnn+stn", num_classes=4, in_chans=1)
    found = foveal.score(model, bright_squares())
    assert not any(each.beats_both for each in found.located)
    assert {each.accuracy_drop.mean for each in found.ablations} == {0.0}
    assert {each.path for each in (*found.located, *found.curves)} == {"stem.0.stn"}
    assert found.left_out == ("Grad-CAM: 'stem.0.stn' moves the image, so that the maps after it do not lie over it",)
    assert "not better than chance" in str(found)


def test_score_chooses_the_threshold_on_other_images():
    """Mask of 0.6 at the object and 0.5 around it: only a threshold above 0.5 of its range finds the object."""

    class Soft(Brightest):
        def __init__(self):
            super().__init__()
            self.mask = SoftMask()

    class SoftMask(Mask):
        def forward(self, x):
            return x * self.tap(x[:, 0])[:, None]

    first = bright_squares()
    located = foveal.score(Soft(), first, first[:1]).located
    found = {each.metric: each.attention.mean for each in located if each.path == "mask"}
    assert found["iou"] == 1.0
    assert found["pointing"] == 1.0


def test_score_replaces_a_place_at_each_call():
    class Twice(Brightest):
        def forward(self, x):
            return super().forward(self.mask(x))

    found = foveal.score(Twice(), bright_squares())
    assert [(each.path, each.replacement) for each in found.ablations] == [("mask", "another")]


class Encoder(nn.Module):
    """Tokens of 4x4 pixels that attend to one another, by torch's module or by its function alone."""

    def __init__(self, functional: bool):
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, 8, 4, 4), nn.Linear(8, 4)
        self.mixer, self.functional = nn.MultiheadAttention(8, 2, batch_first=True), functional

    def forward(self, x):
        tokens = self.stem(x).flatten(2).mT
        if not self.functional:
            return self.head(self.mixer(tokens, tokens, tokens)[0].mean(1))
        first, m = tokens.transpose(0, 1), self.mixer
        weights = m.in_proj_weight, m.in_proj_bias, None, None, False, 0.0, m.out_proj.weight, m.out_proj.bias
        return self.head(multi_head_attention_forward(first, first, first, 8, 2, *weights)[0].mean(0))


@pytest.mark.parametrize(
    ("functional", "why"),
    [
        (False, "the weights of a MultiheadAttention can only be seen"),
        (True, "torch's multi_head_attention_forward computes its weights inside; they can only be seen"),
    ],
)
def test_score_leaves_out_ablations_of_weights_that_can_only_be_seen(functional, why):
    labelled = [(images, labels) for images, labels, _ in bright_squares(40)]
    found = foveal.score(nn.Sequential(Mask(), Encoder(functional)), labelled, curved=0)
    place = "1" if functional else "1.mixer"
    assert found.left_out[-1] == f"ablation of {place!r}: {why}"
    assert [each.replacement for each in found.ablations if each.path == "0"] == ["mean", "another", "none"]
    assert {each.path for each in found.ablations} == {"0"}


def test_score_restores_the_network():
    model = Brightest().train()
    foveal.score(model, bright_squares()[:1])
    assert model.training
    assert not model.mask.tap._forward_hooks


@pytest.mark.parametrize(
    ("model", "loader", "message"),
    [
        (nn.Flatten(), bright_squares()[:1], "no attention was found"),
        (Brightest(), [], "gave no images"),
        (Brightest(), [(torch.rand(1, 1, 8, 8), torch.zeros(1).long(), torch.tensor([[2, 2, 9, 4]]))], "9.0, 4.0"),
        (Brightest(), [(torch.rand(1, 1, 8, 8), torch.zeros(1).long(), torch.tensor([[-1, 2, 5, 4]]))], "-1.0, 2.0"),
        (Brightest(), [(torch.rand(1, 1, 8, 8), torch.zeros(1).long(), torch.tensor([[5, 2, 5, 4]]))], "5.0, 2.0"),
    ],
)
def test_score_refuses_bad_input(model, loader, message):
    with pytest.raises(ValueError, match=message):
        foveal.score(model, loader)
