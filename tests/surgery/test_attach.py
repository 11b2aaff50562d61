"""Attach and detach on networks of torchvision and timm."""

import copy
import pickle
import re

import pytest
import timm
import torch
import torchvision
from helpers import plain_weights, randomise_norms
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

import foveal
from foveal.mechanisms.squeeze_excite import SqueezeExcite
from foveal.surgery.attachments import plain_state_dict


@pytest.mark.parametrize(
    ("make", "at"),
    [
        (lambda: timm.create_model("resnet18", drop_path_rate=0.2), "layer4.1"),
        (lambda: timm.create_model("convnext_atto"), "stages.0.blocks.0"),
        (lambda: timm.create_model("convnext_atto", drop_path_rate=0.2), "stages.3.blocks.1"),
        (torchvision.models.convnext_tiny, "features.1.0"),
    ],
)
def test_attach_several_in_one_place_keeps_their_order(make, at):
    model, order = make().eval(), []
    for mechanism in ("se", "cbam"):
        foveal.attach(model, mechanism, at=at)
    for module in model.get_submodule(at).modules():
        if type(module).__name__ in ("SqueezeExcite", "CBAM", "DropPath", "StochasticDepth"):
            module.register_forward_hook(lambda module, *_: order.append(type(module).__name__))
    model(torch.randn(1, 3, 64, 64))
    assert order[:2] == ["SqueezeExcite", "CBAM"]
    assert len(order) == 3 or at == "stages.0.blocks.0"  # where no path is ever dropped, no module drops it


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (torchvision.models.resnet18, {"position": "posst"}, "unknown position 'posst'; did you mean 'post'?"),
        (torchvision.models.mobilenet_v2, {"position": "identity"}, "InvertedResidual, has no module on its shortcut"),
        (torchvision.models.densenet121, {"position": "pre"}, "_DenseLayer, has no single first layer of its branch"),
        (torchvision.models.vgg11, {"position": "post"}, "'features.1', a ReLU, is not a known block"),
        (torchvision.models.resnet18, {"position": "pre", "at": "residual"}, "finds only the ends of branches"),
        (
            torchvision.models.resnet18,
            {"position": "pre", "mechanism": "sk"},
            "sk is attached instead of a convolution",
        ),
    ],
)
def test_attach_refuses_unknown_positions(make, options, message):
    with torch.device("meta"):
        model = make()
    printed = repr(model)
    with pytest.raises(ValueError, match=re.escape(message)):
        foveal.attach(model, **{"mechanism": "se", **options})
    assert repr(model) == printed


HOSTS = {
    "torchvision resnet18": lambda: torchvision.models.resnet18(),
    "torchvision resnet26": lambda: ResNet(Bottleneck, [2, 2, 2, 2]),
    "timm resnet26": lambda: timm.create_model("resnet26"),
    "timm mobilenetv3_small_100": lambda: timm.create_model("mobilenetv3_small_100"),
    "timm efficientnet_b0": lambda: timm.create_model("efficientnet_b0"),
    "timm regnety_002": lambda: timm.create_model("regnety_002"),
    "timm rexnet_100": lambda: timm.create_model("rexnet_100"),
}


REFUSED = {("timm rexnet_100", "sk"): "no sequence of convolution, norm and activation"}


CASES = [(host, mechanism) for host in HOSTS for mechanism in ("se", "sk", "cbam")]


def images(side: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, side, side)


def switch_on(model: nn.Module) -> None:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("strength.s"):
                weight.fill_(1.0)


@pytest.mark.parametrize(("host", "mechanism"), [case for case in CASES if case not in REFUSED])
def test_attach_keeps_logits_bitwise(host, mechanism):
    model = randomise_norms(HOSTS[host]()).eval()
    x, printed, names, plain = images(), repr(model), set(model.state_dict()), plain_weights(model)
    with torch.no_grad():
        before = model(x)
        foveal.attach(model, mechanism)
        assert torch.equal(model(x), before)

        places = model.attachments[0].modules
        with foveal.watch(model) as seen:
            model(x)
        assert len(places) >= 8
        assert not seen.unseen
        paths = [place.path for place in places]
        own = [record for record in seen if record.path in paths or record.path.rpartition(".")[0] in paths]
        assert len(own) == len(places) * (2 if mechanism == "cbam" else 1)

        switch_on(model)
        assert not torch.allclose(model(x), before, rtol=1e-3)
        model.load_state_dict(plain)  # a plain checkpoint after attaching: the attention keeps its values
        assert not torch.allclose(model(x), before, rtol=1e-3)

        assert names <= set(plain_state_dict(model))
        foveal.detach(model)
        assert torch.equal(model(x), before)
    assert repr(model) == printed
    assert set(model.state_dict()) == names


@pytest.mark.parametrize(("host", "mechanism"), REFUSED)
def test_attach_refuses_and_keeps_the_model(host, mechanism):
    model = HOSTS[host]()
    printed = repr(model)
    with pytest.raises(ValueError, match=REFUSED[host, mechanism]):
        foveal.attach(model, mechanism)
    assert repr(model) == printed


@pytest.mark.parametrize("host", ["timm efficientnet_b0", "timm regnety_002", "timm rexnet_100"])
def test_attach_keeps_the_attention_of_the_host(host):
    model = randomise_norms(HOSTS[host]()).eval()
    own = {type(m).__module__ + type(m).__name__ for m in model.modules() if "timm" in type(m).__module__}
    count = sum("Squeeze" in type(m).__name__ or "SE" in type(m).__name__ for m in model.modules())
    foveal.attach(model, "se")
    called = []
    own_attention = [
        m
        for m in model.modules()
        if "timm" in type(m).__module__ and ("Squeeze" in type(m).__name__ or "SE" in type(m).__name__)
    ]
    for module in own_attention:
        module.register_forward_hook(lambda *_: called.append(1))
    with torch.no_grad():
        model(images())
    assert len(own_attention) == count == len(called)
    assert own <= {type(m).__module__ + type(m).__name__ for m in model.modules()}


def test_attach_fills_a_free_slot_without_renaming_weights():
    model = timm.create_model("resnet18")
    names = set(model.state_dict())
    foveal.attach(model, "se")
    assert names <= set(model.state_dict())
    assert isinstance(model.layer4[1].se, SqueezeExcite)


def test_attach_stands_before_stochastic_depth_and_the_addition():
    model = timm.create_model("resnet18", drop_path_rate=0.3)
    foveal.attach(model, "se")
    order = []
    block = model.layer4[1]
    for name in ("bn2", "se", "drop_path"):
        getattr(block, name).register_forward_hook(lambda *_, name=name: order.append(name))
    model(images())
    assert order == ["bn2", "se", "drop_path"]


@pytest.mark.parametrize(
    ("make", "at", "path"),
    [
        (lambda: torchvision.models.resnet18(), "layer4.*", "layer4.0.bn2.se"),
        (lambda: torchvision.models.resnet18(), "layer4", "layer4.se"),
        (lambda: torchvision.models.resnet18(), "layer1.0.conv1", "layer1.0.conv1.se"),
        (lambda: timm.create_model("resnet18"), "layer4.*", "layer4.0.se"),
        (lambda: torchvision.models.vgg11_bn(), "features.1", "features.1.se"),
        (lambda: torchvision.models.densenet121(), "features.denseblock1", "features.denseblock1.se"),
    ],
)
def test_attach_at_states_where(make, at, path):
    model = randomise_norms(make()).eval()
    x = images(96)
    with torch.no_grad():
        before = model(x)
        foveal.attach(model, "se", at=at)
        assert torch.equal(model(x), before)
    assert model.attachments[0].modules[0].path == path
    assert isinstance(model.get_submodule(path), SqueezeExcite)


def test_attach_takes_the_channels_that_flow_there():
    """An Inception module gives the sum of its branches' channels, not those of any of its convolutions."""
    with torch.device("meta"):
        model = timm.create_model("inception_v3")
        foveal.attach(model, "se")
    widths = [model.get_submodule(each.path).fc2.out_features for each in model.attachments[0].modules]
    assert widths == [256, 288, 288, 768, 768, 768, 768, 768, 1280, 2048, 2048]


def test_attach_to_an_unknown_timm_family_stands_after_each_stage():
    model = randomise_norms(timm.create_model("ese_vovnet19b_dw")).eval()
    x = images()
    with torch.no_grad():
        before = model(x)
        foveal.attach(model, "cbam")
        assert torch.equal(model(x), before)
    assert len(model.attachments[0].modules) == len(model.feature_info)


def test_attach_refuses_channels_last_maps():
    with torch.device("meta"):
        model = timm.create_model("swin_tiny_patch4_window7_224")
        with pytest.raises(ValueError, match=r"'layers.0': what flows there is \(2, 56, 56, 96\), not a map"):
            foveal.attach(model, "se")


@pytest.mark.parametrize("make", [lambda: timm.create_model("vit_tiny_patch16_224"), torchvision.models.vit_b_16])
def test_attach_to_a_transformer_has_no_default_place(make):
    with torch.device("meta"), pytest.raises(ValueError, match=r"has no known block|tokens have no default place"):
        foveal.attach(make(), "se")


def test_attach_and_detach_two_mechanisms_in_one_place():
    model = randomise_norms(torchvision.models.resnet18()).eval()
    x, names = images(), set(model.state_dict())
    with torch.no_grad():
        before = model(x)
        foveal.attach(model, "se")
        foveal.attach(model, "cbam")
        foveal.attach(model, "sk")
        assert torch.equal(model(x), before)
        switch_on(model)
        answer = model(x)
        other = torchvision.models.resnet18().eval()
        for mechanism in ("se", "cbam", "sk"):
            foveal.attach(other, mechanism)
        other.load_state_dict(plain_state_dict(model))
        assert torch.equal(other(x), answer)
        foveal.detach(model)
        assert torch.equal(model(x), before)
    assert set(model.state_dict()) == names


def test_attach_two_mechanisms_in_one_slot():
    model = randomise_norms(timm.create_model("resnet18")).eval()
    x, plain = images(), plain_weights(model)
    with torch.no_grad():
        before = model(x)
        foveal.attach(model, "se")
        foveal.attach(model, "cbam")
        switch_on(model)
        answer, saved = model(x), plain_state_dict(model)
        model.load_state_dict(saved)
        assert torch.equal(model(x), answer)
        model.load_state_dict(plain)
        foveal.detach(model)
        assert torch.equal(model(x), before)


@pytest.mark.parametrize("mechanism", ["se", "sk", "cbam"])
def test_attach_keeps_the_interface_of_timm(mechanism):
    model = randomise_norms(timm.create_model("resnet18", num_classes=7)).eval()
    foveal.attach(model, mechanism)
    x = images()
    with torch.no_grad():
        answer = model(x)
        assert torch.equal(model.forward_head(model.forward_features(x)), answer)
        assert len(model.forward_intermediates(x, intermediates_only=True)) == 5
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
            assert torch.equal(other(x), answer)
            other.load_state_dict(plain_state_dict(model))
        assert [info["module"] for info in model.feature_info][-1] == "layer4"
        model.reset_classifier(3)
        assert model(x).shape == (2, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mechanism", ["se", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("sk", "cbam"))]
)
def test_attach_keeps_models_compilable_and_exportable(mechanism):
    torch._dynamo.reset()
    model = randomise_norms(ResNet(BasicBlock, [1, 1, 1, 1])).eval()
    foveal.attach(model, mechanism)
    switch_on(model)
    x = images()
    with torch.no_grad():
        answer = model(x)
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), answer)
        exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        torch.testing.assert_close(exported.module()(x[:1]), answer[:1], rtol=1e-4, atol=1e-4)


def test_attach_survives_frozen_and_synchronised_norms():
    from timm.layers import freeze_batch_norm_2d

    for change in (freeze_batch_norm_2d, nn.SyncBatchNorm.convert_sync_batchnorm):
        model = torchvision.models.resnet18().eval()
        foveal.attach(model, "se")
        model = change(model)
        called = []
        for module in model.modules():
            if isinstance(module, SqueezeExcite):
                module.register_forward_hook(lambda *_, called=called: called.append(1))
        with torch.no_grad():
            model(images())
        assert len(called) == 8


def test_attach_transformer_inside_a_network_and_at_its_input():
    for at, path, channels in (("layer2", "layer2.stn", 64), ("input", "conv1.stn", 3)):
        model = randomise_norms(torchvision.models.resnet18()).eval()
        x = images()
        with torch.no_grad():
            before = model(x)
            foveal.attach(model, "stn", at=at)
            assert (model(x) - before).abs().max() <= 1e-5 * before.abs().max()
        assert model.get_submodule(path).localisation.features.in_channels == channels
        assert model.attachments[0].at == (at,)


def test_attach_accepts_a_custom_mechanism():
    class Half(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.channels = channels

        def forward(self, x):
            return x / 2

    model = foveal.attach(torchvision.models.resnet18(), Half, at="layer4.*")
    assert model.layer4[0].bn2.half_2.channels == 512  # `half` is a method of every module


def test_attach_accepts_a_custom_model():
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU())
            self.head = nn.Linear(6 * 10 * 10, 2)  # made for images of 12 pixels alone

        def forward(self, x):
            return self.head(self.body(x).flatten(1))

    model = Mine()
    x = torch.rand(2, 1, 12, 12)
    before = model(x)
    assert torch.equal(foveal.attach(model, "se", at="body")(x), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ses",), "unknown mechanism 'ses'; did you mean 'se'"),
        (("se", "layr4.*"), "did you mean 'layer4"),
        (("se", ["layer4.*", "layer4.0"]), "matched twice"),
        (("se", "fc"), "'fc': what flows there is (2, 1000), not a map (B, C, H, W)"),
        (("se", "forgotten"), "'forgotten': no forward pass reaches it"),
        (("stn",), "stn has no default place: at='input', or the path"),
        (("se", "input"), "at='input': se is attached after a module"),
        (
            ("sk", "layer1.0.bn1"),
            "sk replaces one convolution with its norm and activation, not a BatchNorm2d",
        ),
    ],
)
def test_attach_refuses_impossible_places_and_keeps_the_model(arguments, message):
    model = torchvision.models.resnet18()
    model.forgotten = nn.Conv2d(3, 3, 1)
    printed = repr(model)
    with pytest.raises(ValueError, match=re.escape(message)):
        foveal.attach(model, *arguments)
    assert repr(model) == printed
    assert not foveal.attachments(model)


def test_attach_refuses_channels_below_the_groups():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()))
    with pytest.raises(ValueError, match="sk at '0': groups=32 does not divide the channels, 3 in and 16 out"):
        foveal.attach(model, "sk", at="0")


def test_detach_refuses_a_plain_model():
    with pytest.raises(ValueError, match="nothing is attached to this ResNet"):
        foveal.detach(torchvision.models.resnet18())


class TestEdgeCases:
    """Regressions."""

    def test_attach_two_mechanisms_on_whole_modules(self):
        model = randomise_norms(timm.create_model("inception_v3")).eval()
        x = images(80)
        with torch.no_grad():
            before = model(x)
            foveal.attach(model, "se")
            foveal.attach(model, "cbam")
            assert torch.equal(model(x), before)
            model.load_state_dict(model.state_dict())
            assert [name for name, _ in model.Mixed_5b.named_children()] == ["host", "se", "cbam"]
            foveal.detach(model)
            assert torch.equal(model(x), before)

    def test_attach_a_place_within_a_place(self):
        model = randomise_norms(Nested()).eval()
        x = torch.randn(2, 3, 12, 12)
        before = model(x)
        plain = plain_weights(model)
        foveal.attach(model, "se", at=["block", "block.conv"])
        assert torch.equal(model(x), before)
        assert len(model.attachments[0].modules) == 2
        model.load_state_dict(plain_state_dict(model))
        model.load_state_dict(plain)
        assert torch.equal(foveal.detach(model)(x), before)
        with pytest.raises(ValueError, match=r"at: 'layer1.0.bn2', where 'layer1.0' ends, is matched twice"):
            foveal.attach(torchvision.models.resnet18(), "se", at=["layer1.0", "layer1.0.bn2"])
        inner = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        with pytest.raises(ValueError, match=r"'0.0' lies within '0'; sk can replace only one of them"):
            foveal.attach(nn.Sequential(nn.Sequential(inner)), "sk", at=["0", "0.0"], groups=3)

    def test_attach_input_is_where_the_image_goes(self):
        class Skip(nn.Module):
            def __init__(self):
                super().__init__()
                self.last = nn.Conv2d(8, 4, 1)
                self.first = nn.Conv2d(3, 8, 1)

            def forward(self, x):
                return self.last(self.first(x)).mean((2, 3))

        model = foveal.attach(Skip(), "stn", at="input")
        assert model.attachments[0].modules[0].path == "first.stn"
        foveal.attach(model, "stn", at="input")
        assert [name for name, _ in model.first.named_children()] == ["stn_2", "stn", "host"]

        class Fork(Skip):
            def forward(self, x):
                return self.last(self.first(x)) + nn.functional.pad(self.first(x), (0, 0)).mean() + self.other(x).mean()

        fork = Fork()
        fork.other = nn.Conv2d(3, 1, 1)
        with pytest.raises(ValueError, match="the image goes into first, other; give the path"):
            foveal.attach(fork, "stn", at="input")

    def test_attach_runs_a_model_that_fails_on_the_meta_device(self):
        class Plain(nn.Module):
            def __init__(self):
                super().__init__()
                self.mean = torch.zeros(1, 3, 1, 1)  # no buffer: it stays where it is
                self.conv = nn.Conv2d(3, 4, 3)

            def forward(self, x):
                return self.conv(x - self.mean)

        assert isinstance(foveal.attach(Plain(), "se", at="conv").conv.se, SqueezeExcite)

    def test_attach_accepts_half_precision(self):
        model = timm.create_model("resnet18").bfloat16().eval()
        foveal.attach(model, "stn", at="input")
        foveal.attach(model, "sk")
        assert model(images().bfloat16()).dtype == torch.bfloat16

    def test_attach_selective_kernel_copies_the_activation_of_the_host(self):
        conv = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.LeakyReLU(0.3))
        model = foveal.attach(nn.Sequential(conv), "sk", at="0", groups=3)
        assert [branch[2].negative_slope for branch in model[0].branches] == [0.3, 0.3]

    @pytest.mark.parametrize(
        ("more", "padding", "message"),
        [
            ([nn.Dropout(0.1)], 1, "not a Sequential of Conv2d, BatchNorm2d, ReLU, Dropout"),
            ([nn.Conv2d(6, 6, 1)], 1, "not a Sequential of Conv2d, BatchNorm2d, ReLU, Conv2d"),
            ([], 0, r"would give maps of \(7, 7\) and \(9, 9\)"),
        ],
    )
    def test_attach_selective_kernel_refuses_other_layers(self, more, padding, message):
        conv = nn.Sequential(nn.Conv2d(3, 6, 3, padding=padding), nn.BatchNorm2d(6), nn.ReLU(), *more)
        with pytest.raises(ValueError, match=message):
            foveal.attach(nn.Sequential(conv), "sk", at="0", groups=3)

    @pytest.mark.parametrize(("name", "at"), [("gc", "layer4.*"), ("nl", "layer4.*"), ("stn", "input")])
    def test_attach_with_and_without_identity_agree_where_the_paper_starts_at_it(self, name, at):
        model = randomise_norms(timm.create_model("resnet18")).eval()
        x = torch.rand(2, 3, 64, 64)
        plain, weights = model(x), plain_weights(model)
        foveal.attach(model, name, at, identity=False)
        torch.testing.assert_close(model(x), plain, rtol=0, atol=1e-5 * plain.abs().max().item())
        assert model.attachments[0].identity  # so that a plain checkpoint fits
        model.load_state_dict(weights)

    def test_attach_custom_class_without_identity_is_not_marked_identity(self):
        model = torchvision.models.resnet18()
        foveal.attach(model, timm.layers.SqueezeExcite, at="layer4.*")
        assert not model.attachments[0].identity
        foveal.attach(model, "stn", at="input")
        assert model.attachments[1].identity

    def test_attach_refuses_no_pattern(self):
        with pytest.raises(ValueError, match="an empty list of patterns"):
            foveal.attach(torchvision.models.resnet18(), "se", at=[])


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Inner()

    def forward(self, x):
        return self.block(x).mean((2, 3))


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)

    def forward(self, x):
        return self.norm(self.conv(x))
