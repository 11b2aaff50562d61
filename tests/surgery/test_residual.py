"""Ends of residual branches found by tracing, on known and on custom networks."""

import re

import pytest
import timm
import torch
import torchvision
from helpers import randomise_norms
from torch import nn

import foveal
from foveal.surgery.blocks import known_block
from foveal.surgery.residual import residual_ends


class Net(nn.Module):
    """Common residual blocks; `end` is the end of the branch."""

    def __init__(self, end: str = "norm", blocks: int = 2):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(*(Residual(end) for _ in range(blocks)))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Residual(nn.Module):
    def __init__(self, end: str):
        super().__init__()
        self.end = end
        self.conv1, self.norm1, self.act = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        self.conv2, self.norm2, self.last = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        self.drop, self.slot = timm.layers.DropPath(0.2), nn.Identity()

    def forward(self, x):
        y = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        if self.end == "activation in place":
            y = self.last(y)
        elif self.end == "shared activation":
            y = self.act(y)
        elif self.end == "slot":
            y = self.slot(y)
        elif self.end == "slot after a product":
            y = self.slot(0.5 * y)
        elif self.end == "dropped path":
            y = self.slot(self.drop(y))
        elif self.end == "function":
            y = 0.5 * y
        elif self.end == "function in place":
            y.clamp_(min=0)
        return torch.add(x, y) if self.end == "torch.add" else x.add_(y) if self.end == "in place" else x + y


@pytest.mark.parametrize(
    ("end", "found"),
    [
        ("norm", "norm2"),
        ("torch.add", "norm2"),
        ("in place", "norm2"),
        ("activation in place", "last"),
        ("slot", "slot"),
        ("slot after a product", "slot"),
        ("dropped path", "norm2"),
    ],
)
def test_residual_ends_are_the_last_modules_before_additions(end, found):
    assert residual_ends(Net(end)) == [f"blocks.0.{found}", f"blocks.1.{found}"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Net("function"), "in 'blocks.0' the branch ends in no module"),
        (Net("function in place"), "in 'blocks.0' the branch ends in no module"),
        (Net("shared activation"), "in 'blocks.0' the branch ends in a module that is called elsewhere too"),
        (Net(blocks=0), "Net adds no map of a branch to a shortcut"),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4, 4)), "the trial pass stopped: "),
        (timm.create_model("vit_tiny_patch16_224"), "VisionTransformer adds no map of a branch to a shortcut"),
        (torchvision.models.vgg11(), "VGG adds no map of a branch to a shortcut"),
    ],
)
def test_attach_residual_refuses_networks_without_ends(model, message):
    with pytest.raises(ValueError, match=re.escape(f"at='residual': {message}")) as caught:
        foveal.attach(model, "se", at="residual")
    assert "\n" not in str(caught.value)
    assert not [module for module in model.modules() if module._forward_hooks or module._forward_pre_hooks]


def test_residual_ends_leave_out_additions_within_a_branch():
    class Within(Residual):
        def forward(self, x):
            y = self.conv1(x)
            y = self.norm1(y + self.conv2(y))  # as in Res2Net
            return x + y

    assert residual_ends(nn.Sequential(nn.Conv2d(3, 8, 1), Within(""))) == ["1.norm1"]


def test_residual_ends_of_several_branches_in_one_forward():
    class Several(Residual):
        def forward(self, x):
            x = x + self.norm1(self.conv1(x))
            return x + self.norm2(self.conv2(x))

    assert residual_ends(nn.Sequential(nn.Conv2d(3, 8, 1), Several(""))) == ["1.norm1", "1.norm2"]


def test_attach_residual_prefers_a_sequential():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.branch = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))

        def forward(self, x):
            return x + self.branch(x)

    model = nn.Sequential(nn.Conv2d(3, 8, 1), Plain(), Plain())
    names = set(model.state_dict())
    foveal.attach(model, "se", at="residual")
    assert [each.path for each in model.attachments[0].modules] == ["1.branch.se", "2.branch.se"]
    assert names <= set(model.state_dict())


def test_residual_ends_separate_a_projected_shortcut_from_the_branch():
    model = torchvision.models.resnet18()
    assert residual_ends(model) == [f"layer{stage}.{block}.bn2" for stage in (1, 2, 3, 4) for block in (0, 1)]


KNOWN = ["resnet50", "dla34", "convnext_atto", "resnetv2_18"]


@pytest.mark.parametrize("name", KNOWN)
def test_residual_ends_agree_with_the_table_of_blocks(name):
    """The same tensors, whether the row names the module that outputs them, or a slot or drop path behind it."""
    model = randomise_norms(timm.create_model(name)).eval()
    blocks = {path: module for path, module in model.named_modules() if known_block(module)}
    found = residual_ends(model)
    assert [path.rpartition(".")[0].removesuffix(".conv2").removesuffix(".conv3") for path in found] == [*blocks]
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        foveal.attach(model, Half, at="residual")
        by_tracing = model(x)
        foveal.attach(foveal.detach(model), Half)
        assert torch.equal(model(x), by_tracing)


class Half(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x / 2


def test_attach_residual_twice_and_from_a_checkpoint():
    model = randomise_norms(Net()).eval()
    x = torch.randn(2, 3, 16, 16)
    before = model(x)
    foveal.attach(model, "se", at="residual")
    foveal.attach(model, "cbam", at="residual")
    assert torch.equal(model(x), before)
    assert [name for name, _ in model.blocks[0].norm2.named_children()] == ["host", "se", "cbam"]
    assert model.attachments[1].at == ("residual",)
    assert torch.equal(foveal.detach(model)(x), before)


def test_attach_residual_is_for_mechanisms_after_a_module():
    with pytest.raises(ValueError, match="at='residual': sk is attached instead of a convolution of the network"):
        foveal.attach(Net(), "sk", at="residual")
