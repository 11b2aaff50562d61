"""The gate-like mechanisms: values by thought, other libraries' layers, and what re-implementations get wrong."""

import math

import pytest
import timm
import torch
import torchvision
from conftest import randomise_norms
from torch import nn
from torch.nn import functional as F

import foveal
from foveal.mechanisms.bam import BAM
from foveal.mechanisms.catalog import list_mechanisms
from foveal.mechanisms.cbam import CBAM, SpatialGate
from foveal.mechanisms.coordinate import Coordinate
from foveal.mechanisms.efficient_channel import EfficientChannel
from foveal.mechanisms.gather_excite import GatherExcite, nearest
from foveal.mechanisms.global_context import GlobalContext
from foveal.surgery.placement import between_stages

LN3 = math.log(3.0)  # sigmoid(ln 3) = 3/4, sigmoid(2 ln 3) = 9/10


def filled(module: nn.Module, **values: float) -> None:
    for name, value in values.items():
        nn.init.constant_(module.get_parameter(name.replace("__", ".")), value)


def without_scale(module: nn.Module) -> nn.Module:
    """Its norms as the identity."""
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.eps = 0.0
    return module.eval()


class TestEfficientChannel:
    def test_a_gate_by_thought(self):
        """A kernel that reads the left neighbour alone: means 1, 2, 3 give logits of ln 3 times 0, 1, 2."""
        module = EfficientChannel(3, kernel_size=3)
        module.conv.weight.data = torch.tensor([[[LN3, 0.0, 0.0]]])
        x = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1) * torch.tensor([[0.5, 1.5], [1.0, 1.0]])
        torch.testing.assert_close(module.weigh(x), torch.tensor([[0.5, 0.75, 0.9]]))
        torch.testing.assert_close(module(x)[0, 2], 0.9 * x[0, 2])

    @pytest.mark.parametrize(
        ("channels", "k"), [(1, 1), (4, 1), (8, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)]
    )
    def test_the_kernel_of_the_paper(self, channels, k):
        """(log2 C + 1) / 2 is 3.5 at 64, 4 at 128, 5.5 at 1024, 6 at 2048. A popular copy has 3 everywhere."""
        assert EfficientChannel(channels).conv.kernel_size == (k,)

    def test_all_that_it_learns_is_the_kernel(self):
        """No bias; a popular copy has one."""
        assert [tuple(weight.shape) for weight in EfficientChannel(256).parameters()] == [(1, 1, 5)]

    @pytest.mark.parametrize("channels", [8, 24, 64, 200, 512, 2048])
    def test_is_that_of_timm(self, channels):
        ours, theirs = EfficientChannel(channels), timm.layers.EcaModule(channels)
        theirs.conv.load_state_dict(ours.conv.state_dict())
        x = torch.randn(2, channels, 5, 7)
        assert torch.equal(ours(x), theirs(x))


class TestGatherExcite:
    def test_works_where_timms_cannot_be_made(self):
        try:
            timm.layers.create_attn("ge", 64)
        except TypeError:
            x = torch.randn(2, 64, 7, 9)
            assert GatherExcite(64, plus=True)(x).shape == x.shape
        else:
            pytest.skip("timm's default gather-excite can be made by now")

    def test_the_whole_map_by_thought(self):
        x = torch.stack([torch.zeros(2, 2), torch.tensor([[0.0, 2.0], [2.0, 0.0]]) * LN3])[None]
        torch.testing.assert_close(GatherExcite(2).weigh(x), torch.tensor([[0.5, 0.75]]))

    def test_neighbourhoods_by_thought(self):
        """Extent 2: cells are means of 3x3 around every other position, less at the border; one bright corner."""
        x = torch.zeros(1, 1, 4, 4)
        x[0, 0, 0, 0] = 4 * LN3  # the first cell has four positions inside the map
        expected = torch.full((4, 4), 0.5)
        expected[:2, :2] = 0.75
        torch.testing.assert_close(GatherExcite(1, extent=2).weigh(x)[0, 0], expected)

    @pytest.mark.parametrize("extent", [0, 2, 4, 8])
    @pytest.mark.parametrize("size", [(16, 16), (7, 9), (13, 6), (3, 1)])
    def test_without_weights_is_that_of_timm(self, extent, size):
        theirs = timm.layers.GatherExcite(8, extent=extent, use_mlp=False)
        x = torch.randn(2, 8, *size)
        assert torch.equal(GatherExcite(8, extent=extent or None)(x), theirs(x))

    @pytest.mark.parametrize(("size", "cells"), [(122, 16), (9, 3), (7, 4), (5, 5), (4, 1)])
    def test_cells_are_resized_in_whole_numbers(self, size, cells):
        """`F.interpolate` has 7 at row 61 of 122, where 61 * 16 / 122 is 8."""
        resized = nearest(torch.arange(float(cells)).view(1, 1, cells, 1), size, 3)
        assert resized[0, 0].tolist() == [[row * cells // size] * 3 for row in range(size)]

    def test_a_learned_gather_of_the_whole_map_is_a_convolution_of_its_size(self):
        module = GatherExcite(6, theta=True, size=(5, 7))
        x = torch.randn(2, 6, 5, 7)
        convolved = F.conv2d(x, module.gather[0].weight, groups=6)
        torch.testing.assert_close(module.gather[0](x), convolved)
        torch.testing.assert_close(module.eval().weigh(x), module.gather[1](convolved).sigmoid()[:, :, 0, 0])

    @pytest.mark.parametrize("factor", [2, 3])
    def test_on_a_larger_map_the_kernel_weighs_as_much(self, factor):
        """A map enlarged pixel by pixel tells of the same things: each position of it counts 1 / factor^2."""
        gather = GatherExcite(4, theta=True, size=6).gather[0]
        nn.init.ones_(gather.weight)
        x = torch.rand(2, 4, 6, 6)
        enlarged = x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        torch.testing.assert_close(gather(enlarged), gather(x), rtol=1e-5, atol=0)

    def test_what_is_learned(self):
        """The networks of the authors: 56x56 kernels at the first stage, biases in the perceptron alone."""

        def shapes(**options):
            with torch.device("meta"):
                return [tuple(weight.shape) for weight in GatherExcite(256, **options).parameters()]

        norm, kernel = [(256,), (256,)], (256, 1, 3, 3)
        perceptron = [(16, 256, 1, 1), (16,), (256, 16, 1, 1), (256,)]
        assert shapes() == shapes(extent=8) == []
        assert shapes(theta=True, extent=8) == 3 * [kernel, *norm]
        assert shapes(theta=True, size=56) == [(256, 1, 56, 56), *norm]
        assert shapes(theta=True, plus=True, size=56) == [(256, 1, 56, 56), *norm, *perceptron]

    def test_the_order_of_norms_and_relus(self):
        module = GatherExcite(8, extent=4, theta=True, plus=True)
        kinds = [type(part) for part in (*module.gather, *module.excite)]
        gather = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Conv2d, nn.BatchNorm2d]
        assert kinds == [*gather, nn.ReLU, nn.Conv2d, nn.ReLU, nn.Conv2d]

    def test_a_mean_and_a_perceptron_are_squeeze_excite(self):
        gate, se = GatherExcite(32, plus=True, reduction=4), timm.layers.SqueezeExcite(32, rd_channels=8)
        for ours, theirs in ((gate.excite[0], se.fc1), (gate.excite[2], se.fc2)):
            theirs.load_state_dict(ours.state_dict())
        x = torch.randn(2, 32, 5, 7)
        torch.testing.assert_close(gate(x), se(x))

    @pytest.mark.parametrize("options", [{"size": 4}, {"extent": 4}])
    def test_a_training_batch_of_one_number_a_channel_is_refused_in_one_line(self, options):
        module = GatherExcite(8, theta=True, **options)
        with pytest.raises(ValueError, match="gather excite: a training batch of 1 image"):
            module(torch.rand(1, 8, 4, 4))
        assert module(torch.rand(2, 8, 4, 4)).shape == (2, 8, 4, 4)
        assert module.eval()(torch.rand(1, 8, 4, 4)).shape == (1, 8, 4, 4)

    def test_several_neighbourhoods_of_one_image_train(self):
        assert GatherExcite(8, extent=4, theta=True)(torch.rand(1, 8, 5, 4)).shape == (1, 8, 5, 4)


class TestGlobalContext:
    def test_where_it_attends_to_by_thought(self):
        """Logits of ln 3 against 0: three quarters here, a quarter there."""
        module = GlobalContext(2)
        module.attention.weight.data = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
        x = torch.tensor([[LN3, 0.0], [8.0, 4.0]]).view(1, 2, 1, 2)
        torch.testing.assert_close(module.weigh(x), torch.tensor([[[0.75, 0.25]]]))

    def test_what_it_adds_by_thought(self):
        """A context of 3, 3, 1, 1 is normalised to 1, 1, -1, -1, of which a ReLU leaves the first two."""
        module = GlobalContext(4)
        nn.init.zeros_(module.attention.weight)
        for layer, scale in ((module.fc1, 1.0), (module.fc2, 5.0)):
            layer.weight.data = scale * torch.eye(4)
        filled(module, fc1__bias=0.0)
        x = torch.tensor([3.0, 3.0, 1.0, 1.0]).view(1, 4, 1, 1) * torch.tensor([[0.5, 1.5]])
        added = (module(x) - x)[0, :, 0]
        torch.testing.assert_close(added, torch.tensor([5.0, 5, 0, 0])[:, None].expand(4, 2), rtol=1e-4, atol=1e-6)

    def test_is_that_of_timm_which_adds(self):
        """A bias of the attention, which timm's has, changes nothing: a softmax does not see it."""
        theirs = timm.layers.GlobalContext(64, fuse_add=True, fuse_scale=False, rd_ratio=1 / 16)
        ours = GlobalContext(64)
        for mine, other in (
            (ours.attention.weight, theirs.conv_attn.weight),
            *((ours.fc1.get_parameter(kind), theirs.mlp_add.fc1.get_parameter(kind)) for kind in ("weight", "bias")),
            *((ours.norm.get_parameter(kind), theirs.mlp_add.norm.get_parameter(kind)) for kind in ("weight", "bias")),
            *((ours.fc2.get_parameter(kind), theirs.mlp_add.fc2.get_parameter(kind)) for kind in ("weight", "bias")),
        ):
            other.data.normal_()
            mine.data.copy_(other.data.view_as(mine))
        with torch.no_grad():
            ours.norm.eps = theirs.mlp_add.norm.eps
            theirs.conv_attn.bias.fill_(3.0)
            x = torch.randn(2, 64, 5, 7, dtype=torch.float64)
            torch.testing.assert_close(ours.double()(x), theirs.double()(x))

    def test_its_shares_are_one_in_sum(self):
        module = GlobalContext(8)
        mask = module.weigh(100 * torch.randn(3, 8, 6, 5))
        assert mask.isfinite().all()
        torch.testing.assert_close(mask.sum((1, 2)), torch.ones(3))

    @pytest.mark.parametrize("channels", [1, 8, 16])
    def test_with_few_channels_it_depends_on_its_input(self, channels):
        """A hidden width of one, C / 16 at 16 channels, would be normalised to nothing."""
        module = GlobalContext(channels)
        nn.init.normal_(module.fc2.weight)
        added = [(module(x) - x)[0, :, 0, 0] for x in (torch.randn(1, channels, 4, 4), torch.randn(1, channels, 4, 4))]
        assert (added[0] - added[1]).abs().max() > 1e-3


class TestCoordinate:
    def test_a_gate_by_thought(self):
        """Rows of mean 3 and 5, columns of 4 and 4: h_swish(z) is z from 3 on."""
        module = without_scale(Coordinate(1))
        for name in ("conv.weight", "conv_h.weight", "conv_h.bias", "conv_w.weight", "conv_w.bias"):
            nn.init.zeros_(module.get_parameter(name))
        module.conv.weight.data[0] = 1.0
        module.conv_h.weight.data[0, 0] = LN3 / 3
        module.conv_w.weight.data[0, 0] = LN3 / 2
        x = torch.tensor([[[[2.0, 4.0], [6.0, 4.0]]]])
        rows, columns = module.weigh(x)
        five_thirds = 1 / (1 + 3 ** (-5 / 3))
        torch.testing.assert_close(rows, torch.tensor([[[0.75, five_thirds]]]))
        torch.testing.assert_close(columns, torch.tensor([[[0.9, 0.9]]]))
        torch.testing.assert_close(module(x)[0, 0, 1, 0].item(), 6 * five_thirds * 0.9)

    @pytest.mark.parametrize("training", [True, False])
    def test_is_that_of_timm_with_the_authors_biases(self, training):
        layers = pytest.importorskip("timm.layers.coord_attn")
        ours, theirs = Coordinate(64), layers.CoordAttn(64, rd_channels=8, bias=True)
        randomise_norms(theirs)
        nn.init.normal_(theirs.conv1.bias)  # which the norm behind it takes away again
        names = {"conv": "conv1", "norm": "bn1", "conv_h": "conv_h", "conv_w": "conv_w"}
        for mine, other in names.items():
            for key, value in ours.get_submodule(mine).state_dict().items():
                value.copy_(theirs.get_submodule(other).state_dict()[key].view_as(value))
        ours.norm.running_mean -= theirs.conv1.bias.detach()
        x = torch.randn(2, 64, 5, 7)
        torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("channels", "width"), [(16, 8), (256, 8), (512, 16), (1024, 32)])
    def test_the_width_of_the_authors(self, channels, width):
        assert Coordinate(channels).conv.out_channels == width

    def test_states_its_rows_and_its_columns(self):
        model = nn.Sequential(Coordinate(8))
        with foveal.watch(model) as seen:
            model(torch.rand(2, 8, 5, 6))
        assert seen.paths() == ["0.height", "0.width"]
        assert [tuple(record.values.shape) for record in seen] == [(2, 8, 5), (2, 8, 6)]

    def test_one_position_of_one_image_trains(self):
        assert Coordinate(8)(torch.rand(1, 8, 1, 1)).isfinite().all()


class TestSpatialGate:
    def test_stands_alone(self):
        model = randomise_norms(torchvision.models.resnet18()).eval()
        images = torch.randn(2, 3, 64, 64)
        plain = model(images)
        foveal.attach(model, "spatial", at="layer4.*")
        assert torch.equal(model(images), plain)
        with foveal.watch(model) as seen:
            model(images)
        assert {(record.mechanism, record.axes) for record in seen} == {("spatial_gate", "B H W")}

    def test_is_that_of_cbam(self):
        whole, alone = CBAM(8).eval(), SpatialGate(8).eval()
        alone.load_state_dict(whole.spatial.state_dict())
        x = torch.randn(2, 8, 5, 7)
        assert torch.equal(alone(x), whole.spatial(x))

    @pytest.mark.parametrize("part", ["channel.fc2", "spatial.norm"])
    def test_what_either_gate_of_cbam_closes_is_gone(self, part):
        """A popular copy adds its input once more."""
        module = CBAM(8).eval()
        filled(module.get_submodule(part), bias=-200.0)
        assert module(torch.rand(2, 8, 5, 5)).eq(0).all()

    def test_within_cbam_it_speaks_for_cbam(self):
        with foveal.watch(module := CBAM(8)) as seen:
            module(torch.rand(2, 8, 5, 5))
        assert [record.mechanism for record in seen] == ["cbam", "cbam"]


def silenced(module: BAM) -> BAM:
    """Its last norms give nothing but their biases, zero."""
    for branch in (module.channel, module.spatial):
        nn.init.zeros_(branch[-1].weight)
    return module.eval()


class TestBAM:
    def test_the_branches_add_by_thought(self):
        """Mc = ln 3 and Ms = ln 3 give M = 9/10, and 1.9 x comes out."""
        module = silenced(BAM(4))
        assert torch.equal(module.weigh(torch.rand(1, 4, 3, 5)), torch.full((1, 4, 3, 5), 1.5))
        filled(module.channel[-1], bias=LN3)
        filled(module.spatial[-1], bias=LN3)
        x = torch.randn(2, 4, 3, 5)
        torch.testing.assert_close(module(x), 1.9 * x)

    def test_the_released_branches_multiply_by_thought(self):
        module = silenced(BAM(4, released=True))
        filled(module.channel[-1], bias=LN3)
        filled(module.spatial[-1], bias=2.0)
        x = torch.randn(2, 4, 3, 5)
        torch.testing.assert_close(module(x), 1.9 * x)

    def test_channels_and_positions_meet_by_thought(self):
        """Channel 0 at ln 3 more than channel 1, position 1 at ln 3 more than position 0."""
        module = without_scale(silenced(BAM(2, reduction=1)))
        module.channel[-1].bias.data = torch.tensor([LN3, 0.0])
        first, *dilated, last = (part for part in module.spatial if isinstance(part, nn.Conv2d))
        for conv in (first, *dilated, last):
            nn.init.zeros_(conv.weight)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        for conv in (first, *dilated):
            nn.init.eye_(conv.weight.data[:, :, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2])
        nn.init.constant_(last.weight, 0.5)
        nn.init.ones_(module.spatial[-1].weight)
        x = torch.tensor([0.0, LN3]).expand(1, 2, 1, 2)  # which comes through as it is
        torch.testing.assert_close(module.weigh(x)[0, :, 0], 1 + torch.tensor([[0.75, 0.9], [0.5, 0.75]]))

    def test_the_form_of_the_paper(self):
        module, relu = BAM(64), nn.ReLU
        assert [type(part) for part in module.channel] == [nn.Linear, relu, nn.Linear, nn.BatchNorm1d]
        assert [type(part) for part in module.spatial] == 3 * [nn.Conv2d, relu] + [nn.Conv2d, nn.BatchNorm2d]
        assert [conv.out_channels for conv in module.spatial if isinstance(conv, nn.Conv2d)] == [4, 4, 4, 1]

    def test_the_form_of_the_release(self):
        module, relu = BAM(64, released=True), nn.ReLU
        assert [type(part) for part in module.channel] == [nn.Linear, nn.BatchNorm1d, relu, nn.Linear]
        assert [type(part) for part in module.spatial] == 3 * [nn.Conv2d, nn.BatchNorm2d, relu] + [nn.Conv2d]

    def test_a_position_reads_a_grid_of_four_by_four_pixels(self):
        """Two 3x3 convolutions of dilation 4: positions at -8, -4, 0, 4 and 8, all within a map that is kept whole."""
        spatial = randomise_norms(BAM(16, reduction=1)).eval().spatial
        x = torch.randn(1, 16, 19, 19, requires_grad=True)
        spatial(x)[0, 0, 9, 9].backward()
        rows, columns = x.grad.abs().sum((0, 1)).nonzero().unbind(1)
        assert set(rows.tolist()) == set(columns.tolist()) == {1, 5, 9, 13, 17}

    @pytest.mark.parametrize("released", [False, True])
    @pytest.mark.parametrize("size", [(7, 7), (8, 8), (14, 9), (1, 1)])
    def test_no_map_collapses(self, size, released):
        """A popular copy pads by 1 what is dilated by 2: 7x7 becomes 1x1 in silence, and 8x8 raises."""
        module = randomise_norms(BAM(16, reduction=2, released=released)).eval()
        x = torch.randn(1, 16, *size)
        assert module.spatial(x).shape == (1, 1, *size)
        weights = module.weigh(x)
        assert weights.shape == x.shape
        assert size == (1, 1) or weights[0, 0].std() > 0

    def test_the_mean_is_over_all_of_a_map_that_is_not_square(self):
        """The authors' code pools by the height twice."""
        module = BAM(2, reduction=1).eval()
        nn.init.zeros_(module.spatial[-1].weight)
        x = torch.rand(1, 2, 4, 9)
        torch.testing.assert_close(module.weigh(x), module.weigh(x.mT).mT)

    def test_a_training_batch_of_one_is_refused_in_one_line(self):
        module = BAM(8)
        with pytest.raises(ValueError, match="bam: a training batch of 1 image"):
            module(torch.rand(1, 8, 4, 4))
        for norm in (part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)):
            norm.eval()
        assert module(torch.rand(1, 8, 4, 4)).shape == (1, 8, 4, 4)


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
    def test_after_each_stage_but_the_last(self, name):
        made, stages = NETWORKS[name]
        with torch.device("meta"):
            assert between_stages(made()) == stages

    @pytest.mark.parametrize("name", NETWORKS)
    def test_bam_stands_there_and_changes_nothing_at_birth(self, name):
        made, stages = NETWORKS[name]
        model = randomise_norms(made()).eval()
        images = torch.randn(2, 3, 64, 64)
        plain = model(images)
        foveal.attach(model, "bam")
        assert list(foveal.attachments(model)[0].at) == stages
        with foveal.watch(model) as seen:
            assert torch.equal(model(images), plain)
        assert sum(record.mechanism == "bam" for record in seen) == len(stages)
        for module in model.modules():
            if isinstance(module, BAM):
                filled(module, strength__s=1.0)
        assert not torch.allclose(model(images), plain, rtol=1e-3)
        assert torch.equal(foveal.detach(model)(images), plain)

    def test_a_timm_network_without_known_blocks_names_its_stages(self):
        with torch.device("meta"):
            assert between_stages(timm.create_model("convnext_atto")) == ["stages.0", "stages.1", "stages.2"]

    @pytest.mark.parametrize("made", [lambda: nn.Sequential(nn.Conv2d(3, 8, 3)), torchvision.models.vgg11])
    def test_a_network_that_shows_no_stages_is_named(self, made):
        with torch.device("meta"), pytest.raises(ValueError, match=r"has no stages: give the place by at="):
            foveal.attach(made(), "bam")


@pytest.mark.parametrize(
    ("mechanism", "options", "says"),
    [
        (EfficientChannel, {"channels": 0}, "channels=0"),
        (EfficientChannel, {"kernel_size": 4}, "kernel_size=4: an odd number"),
        (GatherExcite, {"extent": 1}, "extent=1: at least 2"),
        (GatherExcite, {"extent": 6, "theta": True}, "extent=6: a power of 2"),
        (GatherExcite, {"theta": True}, "size=None"),
        (GatherExcite, {"theta": True, "size": 0}, "size=0"),
        (GatherExcite, {"reduction": 0}, "reduction=0"),
        (GlobalContext, {"reduction": 0}, "reduction=0"),
        (Coordinate, {"channels": 0}, "channels=0"),
        (SpatialGate, {"kernel_size": 2}, "kernel_size=2"),
        (BAM, {"dilation": 0}, "dilation=0"),
    ],
)
def test_impossible_values_are_named(mechanism, options, says):
    with pytest.raises(ValueError, match=says):
        mechanism(**{"channels": 16, **options})


def test_the_list_tells_their_weights_at_256_channels():
    """By thought: 2 * 49 + 2; 256 * 8 + 16 + 2 (8 * 256 + 256); two linear layers of 16 with what stands between."""
    counts = {each.name: each.parameters for each in list_mechanisms()}
    assert (counts["eca"], counts["ge"], counts["spatial"]) == (5, 0, 100)
    assert counts["coord"] == 256 * 8 + 16 + 2 * (8 * 256 + 256)
    assert counts["gc"] == 256 + (256 * 16 + 16) + 2 * 16 + (16 * 256 + 256)
    channel, spatial = 256 * 16 + 16 + 16 * 256 + 2 * 256, 256 * 16 + 16 + 2 * (9 * 16 * 16 + 16) + 16 + 2
    assert counts["bam"] == channel + spatial
