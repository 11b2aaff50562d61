"""Default placements, positions between stages, patterns of paths."""

import re

import pytest
import timm
import torch
import torchvision
from helpers import fill, randomise_norms
from torch import nn

import foveal
from foveal.mechanisms.bam import BAM
from foveal.surgery.blocks import BLOCKS, CHAINS
from foveal.surgery.placement import between_stages, default_paths, list_placements, matching_paths

NETWORKS = {
    "torchvision resnet18": (torchvision.models.resnet18, ["layer1", "layer2", "layer3"]),
    "torchvision resnet50": (torchvision.models.resnet50, ["layer1", "layer2", "layer3"]),
    "timm resnet50": (lambda: timm.create_model("resnet50"), ["layer1", "layer2", "layer3"]),
    "timm mobilenetv3_large_100": (
        lambda: timm.create_model("mobilenetv3_large_100"),
        ["blocks.0", "blocks.1", "blocks.2", "blocks.4"],  # its sixth stage changes no size, its last has no block
    ),
    "small_cnn": (lambda: foveal.create_model("small_cnn", in_chans=3), ["features.0"]),
}


class TestBetweenStages:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_between_stages_stands_after_each_stage_but_the_last(self, name):
        build, stages = NETWORKS[name]
        with torch.device("meta"):
            assert between_stages(build()) == stages

    @pytest.mark.parametrize("name", NETWORKS)
    def test_attach_bam_between_stages_keeps_outputs_at_birth(self, name):
        build, stages = NETWORKS[name]
        model = randomise_norms(build()).eval()
        images = torch.randn(2, 3, 64, 64)
        plain = model(images)
        foveal.attach(model, "bam")
        assert list(foveal.attachments(model)[0].at) == stages
        with foveal.watch(model) as seen:
            assert torch.equal(model(images), plain)
        assert sum(record.mechanism == "bam" for record in seen) == len(stages)
        for module in model.modules():
            if isinstance(module, BAM):
                fill(module, strength__s=1.0)
        assert not torch.allclose(model(images), plain, rtol=1e-3)
        assert torch.equal(foveal.detach(model)(images), plain)

    def test_between_stages_of_an_unknown_timm_network(self):
        with torch.device("meta"):
            assert between_stages(timm.create_model("convnext_atto")) == ["stages.0", "stages.1", "stages.2"]

    @pytest.mark.parametrize("build", [lambda: nn.Sequential(nn.Conv2d(3, 8, 3)), torchvision.models.vgg11])
    def test_attach_bam_refuses_a_network_without_stages(self, build):
        with torch.device("meta"), pytest.raises(ValueError, match=r"has no stages: give the place by at="):
            foveal.attach(build(), "bam")


def test_default_paths_of_a_chain_follow_each_activation():
    with torch.device("meta"):
        plain, normed = torchvision.models.vgg11(), torchvision.models.vgg11_bn()
        theirs = timm.create_model("vgg11")
    assert default_paths(plain) == [f"features.{index}" for index in (1, 4, 7, 9, 12, 14, 17, 19)]
    assert default_paths(theirs) == default_paths(plain)
    for model in (plain, normed):
        assert all(isinstance(model.get_submodule(path), nn.ReLU) for path in default_paths(model))
    assert len(default_paths(normed)) == 8


def test_list_placements_lists_every_block():
    rows = {(row.family, row.blocks): row for row in list_placements()}
    assert rows["timm resnet", "BasicBlock"].end == "after se"
    assert rows["timm resnet", "BasicBlock"].positions == "standard pre post identity"
    assert rows["torchvision resnet", "Bottleneck"].convolution == "conv2 bn2 relu"
    assert rows["timm convnext", "ConvNeXtBlock"].end == "before drop_path"
    assert rows["torchvision inception", "InceptionA InceptionB InceptionC InceptionD InceptionE"].convolution == ""
    assert rows["torchvision vgg", "VGG"].end == "after each activation"
    assert sum(len(row.blocks.split()) for row in rows.values()) == len(BLOCKS) + len(CHAINS)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("layer4.*", ["layer4.0", "layer4.1"]),
        ("layer4", ["layer4"]),
        ("layer*.0", ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]),
        ("**.bn2", [f"layer{s}.{b}.bn2" for s in (1, 2, 3, 4) for b in (0, 1)]),
        (["layer1.0", "layer2.1"], ["layer1.0", "layer2.1"]),
        (lambda path, module: isinstance(module, nn.Linear), ["fc"]),
    ],
)
def test_matching_paths_of_patterns(pattern, expected):
    with torch.device("meta"):
        assert matching_paths(torchvision.models.resnet18(), pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("layr4.*", "unknown place 'layr4.*'; did you mean 'layer4"),
        (["layer4.*", "layer4.1"], "'layer4.1' is matched twice, by 'layer4.*' and by 'layer4.1'"),
        (lambda path, module: False, "chose none"),
    ],
)
def test_matching_paths_refuses_bad_patterns(pattern, message):
    with torch.device("meta"), pytest.raises(ValueError, match=re.escape(message)):
        matching_paths(torchvision.models.resnet18(), pattern)
