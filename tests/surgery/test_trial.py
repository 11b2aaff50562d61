"""Trial passes of attach: what they leave behind, and what they take."""

import re

import pytest
import timm
import torch
import torchvision
from helpers import check_nothing_is_left, contents, randomise_norms
from torch import nn
from torchvision.models import detection

import foveal

SMALL = {"weights": None, "weights_backbone": None, "num_classes": 3}
SIZES = {"min_size": 64, "max_size": 64}


def detector(name, **options):
    torch.manual_seed(0)
    return randomise_norms(getattr(detection, name)(**SMALL, **options)).eval()


DETECTORS = {
    "RetinaNet": lambda: detector("retinanet_resnet50_fpn", **SIZES, score_thresh=0.0),
    "FCOS": lambda: detector("fcos_resnet50_fpn", **SIZES, score_thresh=0.0),
    "Faster R-CNN": lambda: detector("fasterrcnn_resnet50_fpn", **SIZES, box_score_thresh=0.0),
    "Faster R-CNN v2": lambda: detector("fasterrcnn_resnet50_fpn_v2", **SIZES, box_score_thresh=0.0),
    "Faster R-CNN MobileNet": lambda: detector("fasterrcnn_mobilenet_v3_large_fpn", **SIZES, box_score_thresh=0.0),
    "SSD": lambda: detector("ssd300_vgg16", score_thresh=0.0),
    "SSDlite": lambda: detector("ssdlite320_mobilenet_v3_large", score_thresh=0.0),
}


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", DETECTORS)
def test_attach_to_a_detector_keeps_its_detections_and_detach_restores_it(name):
    model = DETECTORS[name]()
    images = [torch.rand(3, 64, 64), torch.rand(3, 48, 64)]
    boxes = torch.tensor([[4.0, 4.0, 40.0, 40.0]])
    targets = [{"boxes": boxes, "labels": torch.tensor([1])}, {"boxes": boxes, "labels": torch.tensor([2])}]
    held = contents(model)
    foveal.attach(model, "se")
    assert foveal.attachments(model)[0].modules
    foveal.detach(model)
    assert contents(model) == held

    with torch.no_grad():
        plain = model(images)
        foveal.attach(model, "se")
        assert_same(model(images), plain)
    buffers = [weight.clone() for weight in model.buffers()]
    trained = [weight for path, weight in model.named_parameters() if path.endswith("strength.s")]
    optimizer = torch.optim.SGD(trained, 0.1)
    sum(model.train()(images, targets).values()).backward()
    optimizer.step()
    assert all(weight.item() for weight in trained)
    foveal.detach(model.eval())
    for weight in model.buffers():  # what training itself changed
        weight.copy_(buffers.pop(0))
    with torch.no_grad():
        assert_same(model(images), plain)


def assert_same(one, other):
    assert any(len(each["boxes"]) for each in one)
    for ours, theirs in zip(one, other, strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


NETWORKS = {
    "timm": [
        "resnet18", "resnet18d", "resnetv2_18", "regnety_002", "rexnet_100", "mobilenetv3_small_050", "ghostnet_100",
        "convnext_atto", "darknet17", "dla46_c", "densenet121", "vgg11_bn", "inception_v3", "efficientnet_b0",
        "skresnet18", "test_nfnet", "repghostnet_050",
    ],
    "torchvision": [
        "resnet18", "regnet_y_400mf", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2_x0_5",
        "convnext_tiny", "densenet121", "vgg11", "inception_v3",
    ],
    "foveal": ["small_cnn"],
    "detection": ["RetinaNet", "FCOS", "SSDlite"],
}  # fmt: skip


def made(library, name):
    if library == "detection":
        return DETECTORS[name]()
    with torch.device("cpu" if name == "regnet_y_400mf" else "meta"):  # whose construction computes its widths
        if library == "torchvision":
            return getattr(torchvision.models, name)(**({"init_weights": False} if name == "inception_v3" else {}))
        return timm.create_model(name) if library == "timm" else foveal.create_model(name)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize(("library", "name"), [(library, name) for library in NETWORKS for name in NETWORKS[library]])
def test_detach_leaves_nothing_of_attach(library, name):
    check_nothing_is_left(made(library, name))


class Two(nn.Module):
    """A network with two inputs of its own."""

    def __init__(self):
        super().__init__()
        self.conv, self.act, self.mask = nn.Conv2d(5, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(1, 8, 1)

    def forward(self, image, mask):
        return self.act(self.conv(image)) * self.mask(mask)


class Images(nn.Module):
    """A network on a list of images of several sizes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.act = nn.ReLU()

    def forward(self, images):
        if not isinstance(images, list):
            raise TypeError("a list of images is needed")
        return [self.act(self.conv(image[None])) for image in images]


IMAGE, MASK = torch.rand(2, 5, 12, 20), torch.rand(2, 1, 12, 20)


@pytest.mark.parametrize("inputs", [(IMAGE, MASK), {"image": IMAGE, "mask": MASK}, {"mask": MASK, "image": IMAGE}])
def test_attach_takes_several_inputs(inputs):
    model = Two()
    plain = model(IMAGE, MASK)
    foveal.attach(model, "se", at="act", inputs=inputs, reduction=2)
    assert torch.equal(model(IMAGE, MASK), plain)


def test_attach_takes_a_list_of_images():
    images = [torch.rand(3, 9, 9), torch.rand(3, 12, 7)]
    model = Images()
    plain = model(images)
    foveal.attach(model, "se", at="act", inputs=images, reduction=2)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(model(images), plain, strict=True))


def test_attach_needs_no_pass_where_a_module_declares_its_channels():
    model = foveal.attach(Two(), "se", at="conv", reduction=2)
    assert model.attachments[0].modules[0].path == "conv.se"
    with pytest.raises(ValueError, match=r"'act': no forward pass reaches it \(the trial pass stopped: .*give inputs="):
        foveal.attach(Two(), "se", at="act")


@pytest.mark.parametrize("inputs", ["image.png", [], {}, {1: IMAGE}])
def test_attach_refuses_other_inputs(inputs):
    with pytest.raises(TypeError, match=r"inputs=.*: a tensor, a list of images, a tuple of arguments or a dict"):
        foveal.attach(Two(), "se", at="act", inputs=inputs)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.Conv1d(2, 4, 3, padding=1), (2, 4, 224)), (nn.Conv3d(1, 4, 3, padding=1), (2, 4, 16, 224, 224))],
)
def test_attach_refuses_signals_and_volumes(layer, shape):
    with pytest.raises(ValueError, match=re.escape(f"'1': what flows there is {shape}, not a map (B, C, H, W)")):
        foveal.attach(nn.Sequential(layer, nn.ReLU()), "se", at="1")


class Last(nn.Module):
    def forward(self, x):
        return x.movedim(1, 3)


@pytest.mark.parametrize(("channels", "size"), [(10, (12, 12)), (12, (12, 20)), (20, (12, 20))])
def test_attach_tells_maps_from_channels_last_by_the_sides_of_the_image(channels, size):
    image = torch.rand(2, 3, *size)
    model = nn.Sequential(nn.Conv2d(3, channels, 1), Last())
    foveal.attach(model, "se", at="0", inputs=image, reduction=2)
    with pytest.raises(ValueError, match=r"'1': what flows there is .*, not a map"):
        foveal.attach(model, "se", at="1", inputs=image)


def test_attach_before_a_stopped_pass_places_by_what_was_seen():
    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 6, 3), nn.ReLU()
            self.cache = {}

        def forward(self, x):
            self.cache["side"] = torch.arange(x.shape[-1])
            return self.act(self.conv(x)).nonzero()[:1]  # not on the meta device

    model = Small()
    foveal.attach(model, "se", at="act", reduction=2)
    assert model.cache == {}


class TakesThree(nn.Module):
    """The convolution that is registered first is not the image's, and takes five channels."""

    def __init__(self):
        super().__init__()
        self.late, self.front, self.stem = nn.Conv2d(5, 8, 1), nn.Identity(), nn.Conv2d(3, 5, 3)

    def forward(self, x):
        return self.late(self.stem(self.front(x)))


def test_attach_does_not_mix_what_two_trial_passes_saw():
    model = foveal.attach(TakesThree(), "se", at=["front", "stem"], reduction=1)
    assert [model.front.fc1.in_features, model.stem.se.fc1.in_features] == [3, 5]
    assert model(torch.rand(1, 3, 12, 12)).shape == (1, 8, 10, 10)


@pytest.mark.parametrize("head", [nn.Identity(), nn.Sequential(nn.Flatten(), nn.Linear(8 * 10 * 10, 2))])
@pytest.mark.parametrize(("mechanism", "at"), [("se", "0.front"), ("stn", "0.front"), ("stn", "input")])
def test_attach_takes_the_channels_of_the_image_that_the_model_takes(head, mechanism, at):
    """Also where no pass ends, because the head is for another image size."""
    model, x = nn.Sequential(TakesThree(), head), torch.rand(1, 3, 12, 12)
    plain = model(x)
    foveal.attach(model, mechanism, at=at, **({"reduction": 1} if mechanism == "se" else {}))
    torch.testing.assert_close(model(x), plain, atol=1e-5, rtol=0)


def test_attach_refuses_a_place_of_an_image_whose_channels_no_pass_finds():
    model = nn.Sequential(TakesThree())
    model[0].stem = nn.Conv2d(7, 5, 3)
    with pytest.raises(
        ValueError, match=r"'0.front': no forward pass reaches it \(the trial pass stopped: .*give inputs="
    ):
        foveal.attach(model, "se", at="0.front")
    foveal.attach(model, "se", at="0.front", inputs=torch.rand(1, 7, 12, 12), reduction=1)
    assert model(torch.rand(1, 7, 12, 12)).shape == (1, 8, 10, 10)


class Shallow(nn.Module):
    """A network that does not run the last two stages of its encoder."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = torchvision.models.resnet18(), nn.Conv2d(128, 2, 1)

    def forward(self, x):
        x = self.encoder.maxpool(self.encoder.bn1(self.encoder.conv1(x)))
        return self.head(self.encoder.layer2(self.encoder.layer1(x)))


@pytest.mark.parametrize(("mechanism", "end"), [("se", "bn2.se"), ("sk", "conv1")])
def test_attach_leaves_blocks_that_the_model_does_not_run_out_of_the_default_places(mechanism, end):
    with torch.device("meta"):
        model = Shallow()
    foveal.attach(model, mechanism)
    [attachment] = foveal.attachments(model)
    blocks = [f"encoder.layer{stage}.{block}" for stage in (1, 2) for block in (0, 1)]
    assert list(attachment.at) == blocks
    assert {module.path for module in attachment.modules} == {f"{block}.{end}" for block in blocks}
    foveal.detach(model)
    with pytest.raises(
        ValueError, match=r"'encoder.layer3.0.\w+': no forward pass reaches it; attention there would be"
    ):
        foveal.attach(model, mechanism, at="encoder.layer3.0")
    model.forward = lambda x: model.head(model.encoder.conv1(x).repeat(1, 2, 1, 1))
    with pytest.raises(ValueError, match=r"no forward pass reaches it; attention there would be dead"):
        foveal.attach(model, mechanism)
