"""Grad-CAM against captum and by hand, on networks of several libraries; models restored."""

import math

import pytest
import timm
import torch
import torchvision
from captum.attr import LayerGradCam
from helpers import plain_weights, randomise_norms
from torch import nn

import foveal
from foveal.inspection.grad_cam import class_activation


class Slots(nn.Module):
    """Two channels of an image, each with its own weight, summed over positions: logits of two classes."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 2, 1, bias=False)
        self.features.weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
        self.head = nn.Linear(2, 2, bias=False)
        self.head.weight.data = torch.tensor([[3.0, 0.0], [0.0, 5.0]])

    def forward(self, x):
        return self.head(self.features(x).sum((2, 3)))


def test_class_activation_by_hand():
    """y_0 = 3 sum A_0: alpha is 3 and 0, so L is 3 x where x is positive; y_1 = 5 sum A_1, L is 5 where x is -1."""
    x = torch.tensor([[[[1.0, -2.0], [0.5, 4.0]]]])
    first = class_activation(Slots(), x, targets=torch.tensor([0]))
    torch.testing.assert_close(first.values, torch.tensor([[[3.0, 0.0], [1.5, 12.0]]]))
    second = class_activation(Slots(), x, "features", targets=torch.tensor([1]))
    torch.testing.assert_close(second.values, torch.tensor([[[0.0, 10.0], [0.0, 0.0]]]))
    assert torch.equal(class_activation(Slots(), x).values, first.values)  # the class that it says, 10.5 to -17.5
    assert (first.path, first.kind, first.mechanism, first.axes) == ("features", "mask", "grad_cam", "B H W")
    assert (first.hard, first.domain, first.value_range) == (False, "spatial", (0, math.inf))


def small() -> nn.Module:
    return foveal.create_model("small_cnn", num_classes=7).eval()


def resnet18() -> nn.Module:
    return timm.create_model("resnet18").eval()


@pytest.mark.parametrize(
    ("make", "path", "at"),
    [
        (small, "features", None),
        (small, "features.0", "features.0"),
        (resnet18, "layer4", None),
        (resnet18, "layer2.1", "layer2.1"),
        (resnet18, "layer3.0.bn1", "layer3.0.bn1"),
    ],
)
def test_class_activation_agrees_with_captum(make, path, at):
    model = randomise_norms(make())
    images, targets = torch.rand(3, 3, 64, 64), torch.tensor([2, 0, 6])
    own = class_activation(model, images, at, targets)
    theirs = LayerGradCam(model, model.get_submodule(path)).attribute(images, targets, relu_attributions=True)[:, 0]
    assert own.path == path
    assert theirs.max() > 0
    assert (own.values - theirs).abs().max() <= 1e-5 * theirs.max()


def test_class_activation_of_a_layer_changed_in_place_later():
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    inplace = randomise_norms(nn.Sequential(*layers, nn.Linear(8, 4))).eval()
    apart = nn.Sequential(*layers[:2], nn.ReLU(), *inplace[3:]).eval()
    x = torch.randn(2, 3, 9, 9)
    theirs = LayerGradCam(apart, apart[1]).attribute(x, torch.tensor([1, 3]), relu_attributions=True)[:, 0]
    torch.testing.assert_close(class_activation(inplace, x, "1", torch.tensor([1, 3])).values, theirs)
    assert class_activation(inplace, x).path == "2"


@pytest.mark.parametrize(
    ("make", "path", "size"),
    [
        (lambda: torchvision.models.resnet18(), "layer4", 2),
        (lambda: torchvision.models.mobilenet_v3_small(), "features", 2),
        (lambda: torchvision.models.squeezenet1_1(), "classifier.2", 3),
        (lambda: torchvision.models.alexnet(), "features.11", 3),  # not the pooling that ends `features`
        (lambda: timm.create_model("mobilenetv3_small_050"), "blocks", 2),  # what follows are maps of 1x1
        (lambda: timm.create_model("convnext_atto"), "stages", 2),
        (lambda: timm.create_model("densenet121", growth_rate=4, block_config=(2, 2, 2, 2)), "features", 2),
        (lambda: foveal.create_model("seresnet20"), "layer3", 16),
        (lambda: foveal.create_model("small_cnn+cbam"), "features", 8),
        (lambda: torchvision.models.swin_t(), "permute", 2),
    ],
)
@torch.no_grad()
def test_class_activation_finds_the_last_map_before_pooling(make, path, size):
    model = make()
    found = class_activation(model, torch.rand(2, 3, 64, 64))
    assert (found.path, found.values.shape) == (path, (2, size, size))
    assert found.values.isfinite().all()


def test_class_activation_accepts_channels_last_maps():
    class Last(nn.Sequential):
        def forward(self, x):
            return super().forward(x).movedim(1, 3)

    class Head(nn.Module):
        def __init__(self, last):
            super().__init__()
            self.dims, self.fc = (1, 2) if last else (2, 3), nn.Linear(6, 3)

        def forward(self, x):
            return self.fc(x.mean(self.dims))

    torch.manual_seed(2)
    conv, fc = nn.Conv2d(3, 6, 3, stride=2), nn.Linear(6, 3)
    plain, last = nn.Sequential(nn.Sequential(conv), Head(False)), nn.Sequential(Last(conv), Head(True))
    plain[1].fc = last[1].fc = fc
    for height, width in ((16, 16), (14, 24)):
        x = torch.randn(2, 3, height, width)
        first, second = (class_activation(each, x, at="0").values for each in (plain, last))
        assert first.max() > 0
        torch.testing.assert_close(first, second)
    swin = timm.create_model("swin_tiny_patch4_window7_224", img_size=112, window_size=2, depths=(1, 1, 1, 1))
    assert class_activation(swin.eval(), torch.rand(1, 3, 112, 112), at="layers.1").values.shape == (1, 14, 14)


def test_class_activation_leaves_nothing_behind():
    model = randomise_norms(foveal.create_model("small_cnn", num_classes=3))
    model.train()
    model.stem.eval()
    model.head.weight.requires_grad_(False)
    model.stem[0].weight.grad = torch.ones_like(model.stem[0].weight)
    before, modes = plain_weights(model), [module.training for module in model.modules()]
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        found = class_activation(model, x)
    with pytest.raises(ValueError, match="not a map"):
        class_activation(model, x, at="head")
    assert found.values.max() > 0
    assert not found.values.requires_grad
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [name for name, w in model.named_parameters() if w.grad is not None] == ["stem.0.weight"]
    assert torch.equal(model.stem[0].weight.grad, torch.ones_like(model.stem[0].weight))
    assert [name for name, w in model.named_parameters() if not w.requires_grad] == ["head.weight"]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_class_activation_ignores_frozen_weights():
    model = randomise_norms(small())
    x = torch.rand(2, 3, 32, 32)
    free = class_activation(model, x).values
    assert torch.equal(class_activation(model.requires_grad_(False), x).values, free)


def test_class_activation_is_drawn_from_zero_to_its_largest_weight():
    model, x = randomise_norms(small()), torch.rand(2, 3, 32, 32)
    found = class_activation(model, x)
    figure = foveal.draw([found], x).figure
    bars = [axis for axis in figure.axes if len(axis.get_xticks()) == 2]
    assert bars[-1].get_xlim() == pytest.approx((0, found.values.max().item()))


class Blind(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x):
        self.conv(x)
        return x.mean((2, 3))


@pytest.mark.parametrize(
    ("model", "given", "error", "message"),
    [
        ("resnet18", {}, TypeError, "model: 'resnet18'; a torch.nn.Module is needed"),
        (Slots(), {"at": "feature"}, ValueError, "unknown module 'feature'; did you mean 'features'"),
        (Slots(), {"at": "head"}, ValueError, r"at='head': it gives \(2, 2\), not a map"),
        (Slots(), {"targets": torch.tensor([0, 2])}, ValueError, r"targets=\[0, 2\]: a class of 2"),
        (Slots(), {"targets": torch.tensor([0])}, ValueError, "for each of 2 images"),
        (nn.Flatten(), {}, ValueError, "Grad-CAM of a Flatten: no module gives a map"),
        (nn.Sequential(nn.Conv2d(1, 1, 1)), {}, ValueError, r"answers \(2, 1, 8, 8\), not logits"),
    ],
)
def test_class_activation_refuses_bad_input(model, given, error, message):
    with pytest.raises(error, match=message):
        class_activation(model, torch.rand(2, 1, 8, 8), **given)


def test_class_activation_refuses_unread_maps_and_tokens():
    with pytest.raises(ValueError, match="at='conv': the answer does not depend on its map"):
        class_activation(Blind(), torch.rand(2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"the last map is that of 'patches' before the tokens of 'norm'"):
        class_activation(Shuffled(), torch.rand(1, 3, 32, 32))


class Shuffled(nn.Module):
    """Tokens in another order than the map that they were made of."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 4, 8, 8), nn.LayerNorm(4)

    def forward(self, x):
        x = self.patches(x).flatten(2).mT
        return self.norm(x.index_select(1, torch.arange(15, -1, -1, device=x.device))).mean(1)
