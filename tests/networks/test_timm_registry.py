"""timm's contract for its classifiers, kept by every network of ours: the cases of timm's own `tests/test_models.py`.

Shapes are checked on the meta device, without values; values on one network of each class. `EXCEPTIONS` holds the cases
that a network does not keep, with the reason; such a case must fail. timm's case of TorchScript by scripting is kept by
networks without attention alone: each mechanism asks whether it is watched, which a script cannot (`test_fx.py`); an
option that a network does not have is a ValueError that names the network, where timm raises TypeError.
"""

import math
from fnmatch import fnmatch
from typing import Any

import pytest
import timm
import torch
from helpers import randomise_norms
from timm.models import FeatureInfo, group_parameters

import foveal
from foveal.networks.factory import PREFIX
from foveal.networks.timm_registry import REGISTERED

GLIMPSES = "a sequence of glimpses: no map of the image from which the logits follow"
FLATTENED = "two linear layers read the flattened map, as in the note: there is no pooling to remove"
FUNCTIONAL = "two convolutions, each pooled by a function: no stage whose map a feature pyramid could use"
CONNECTED = "fully connected layers: no map of the image"
FLAT = "a linear layer reads all pixels of the map: there is no pooling to remove"
TWO_LAYERS = "two layers before the last one: less than the three stages of a feature pyramid"
TRAINING_LOSS = (
    "in training the output is a walk, of which its loss computes the reward; timm's scripts have no such loss"
)
EXCEPTIONS = {  # (case, pattern of names): reason
    ("features", "ram"): GLIMPSES,
    ("unpooled", "ram"): GLIMPSES,
    ("stages", "ram"): GLIMPSES,
    ("stages", "*stn_cnn"): FUNCTIONAL,
    ("unpooled", "*stn_cnn"): FLATTENED,
    ("features", "jaderberg_fcn"): CONNECTED,
    ("stages", "jaderberg_*"): TWO_LAYERS,
    ("unpooled", "jaderberg_*"): FLAT,
    ("backward", "ram"): TRAINING_LOSS,
    ("backward", "co_localizer"): "in training the output are encodings of crops; the encoder does not train",
    ("unpooled", "co_localizer"): "the pooling is that of the encoder's run, and no option",
    ("group", "ram"): "its layers form no sequence along which a learning rate could decay",
    ("trace", "ram"): "a loop over glimpses whose places are drawn: control flow that no graph of operators has",
}
FAST = (  # of most classes one network
    *(
        "co_localizer",
        "jaderberg_cnn",
        "jaderberg_fcn",
        "ram",
        "resnet20",
        "se_mobilenetv2_100",
        "seresnet18",
        "sknet26",
        "small_cnn",
        "stn_cnn",
        "two_stn_cnn",
    ),
)
OURS = ("attention92_cifar", "resnet20", "sk_shufflenet_v2_x1_0", "small_cnn", "seresnet20")  # classes with `trunk`


def cases(case: str) -> pytest.MarkDecorator:
    """Parametrize a test over all names; an exception is expected to fail."""
    parameters = []
    for name in REGISTERED:
        marks = [] if name in FAST else [pytest.mark.slow, pytest.mark.exhaustive]
        reasons = [why for (kind, pattern), why in EXCEPTIONS.items() if kind == case and fnmatch(name, pattern)]
        marks += [pytest.mark.xfail(strict=True, reason=why) for why in reasons]
        parameters.append(pytest.param(name, marks=marks))
    return pytest.mark.parametrize("name", parameters)


def outline(name: str, **options: Any) -> Any:
    """Create a network by timm, without values, in evaluation mode."""
    with torch.device("meta"):
        return timm.create_model(PREFIX + name, **options).eval()


def image_of(model: Any, batch: int = 1) -> torch.Tensor:
    return torch.empty(batch, *model.default_cfg["input_size"], device="meta")


def test_every_network_of_ours_is_registered():
    names = {name.removeprefix(PREFIX) for name in timm.list_models(f"{PREFIX}*")}
    assert names == set(REGISTERED) >= set(foveal.list_models())
    assert not timm.list_models(f"{PREFIX}*", pretrained=True)


def test_exceptions_name_networks():
    assert all(any(fnmatch(name, pattern) for name in REGISTERED) for _, pattern in EXCEPTIONS)


@cases("forward")
def test_forward_returns_logits_and_the_config_names_layers(name):
    model = outline(name)
    config, names = model.default_cfg, model.state_dict()
    assert config["architecture"] == PREFIX + name
    assert model.num_classes == config["num_classes"]
    assert model(image_of(model)).shape == (1, model.num_classes)
    first = config["first_conv"] or ()
    for layer in (config["classifier"], *([first] if isinstance(first, str) else first)):
        assert f"{layer}.weight" in names
    assert model.get_classifier() is model.get_submodule(config["classifier"])


@cases("classifier")
def test_reset_classifier_returns_other_classes_or_features(name):
    model = outline(name)
    model.reset_classifier(7)
    assert (model.num_classes, model(image_of(model)).shape) == (7, (1, 7))
    model.reset_classifier(0)
    assert (model.num_classes, model(image_of(model)).shape) == (0, (1, model.head_hidden_size))
    assert outline(name, num_classes=0)(image_of(model)).shape == (1, model.head_hidden_size)


@cases("features")
def test_forward_features_and_head_have_the_configs_sizes(name):
    model = outline(name)
    features = model.forward_features(image_of(model))
    assert features.shape == (1, model.num_features, *model.default_cfg["pool_size"])
    assert model.forward_head(features, pre_logits=True).shape == (1, model.head_hidden_size)
    assert model.forward_head(features).shape == (1, model.num_classes)


@cases("unpooled")
def test_without_pooling_the_last_map_is_returned(name):
    model = outline(name)
    size = model.default_cfg["pool_size"]
    model.reset_classifier(0, "")
    for each in (model, outline(name, num_classes=0, global_pool="")):
        assert each(image_of(each)).shape[2:] == tuple(size)


@cases("stages")
@pytest.mark.parametrize("chosen", [None, (1, 2)])
def test_features_only_returns_the_maps_that_its_info_lists(name, chosen):
    options = {} if chosen is None else {"out_indices": chosen}
    model = outline(name, features_only=True, **options)
    channels, reductions = model.feature_info.channels(), model.feature_info.reduction()
    assert len(channels) >= 3 if chosen is None else len(channels) == 2
    image = image_of(model)
    maps = model(image)
    assert [each.shape[1] for each in maps] == channels
    for each, reduction in zip(maps, reductions, strict=True):
        sides = zip(each.shape[2:], image.shape[2:], strict=True)
        assert all(side <= math.ceil(whole / reduction) + 1 for side, whole in sides)


@cases("stages")
def test_forward_intermediates_ends_with_the_features(name):
    model = outline(name)
    info = FeatureInfo(model.feature_info, len(model.feature_info))
    image = image_of(model)
    features, maps = model.forward_intermediates(image)
    assert [each.shape[1] for each in maps] == info.channels()
    assert features.shape == model.forward_features(image).shape


@cases("backward")
def test_backward_reaches_every_weight(name):
    model = outline(name, num_classes=42).train()
    out = model(image_of(model, batch=2))
    out = torch.cat(out) if isinstance(out, tuple) else out
    assert out.shape[-1] == 42
    out.mean().backward()
    assert not [weight for weight, value in model.named_parameters() if value.grad is None]


@cases("trace")
def test_fx_traces_a_graph_that_returns_logits(name):
    model = outline(name)
    with torch.device("meta"):
        graph = torch.fx.symbolic_trace(model)
        assert graph(image_of(model)).shape == (1, model.num_classes)


@cases("group")
def test_layer_wise_groups_begin_at_the_stem_and_end_at_the_classifier(name):
    model = outline(name)
    groups = group_parameters(model, model.group_matcher())
    layer_of = {weight: layer for layer, weights in groups.items() for weight in weights}
    assert set(layer_of) == {weight for weight, _ in model.named_parameters()}
    assert layer_of[f"{model.default_cfg['classifier']}.weight"] == max(groups)
    assert len(groups) >= 3
    assert min(layer_of.values()) == 0


@torch.no_grad()
@pytest.mark.parametrize("name", OURS)
def test_our_networks_return_the_same_maps_by_every_way(name):
    model = randomise_norms(timm.create_model(PREFIX + name)).eval()
    channels = model.default_cfg["input_size"][0]
    x = torch.randn(2, channels, 64, 64)
    features, maps = model.forward_intermediates(x)
    assert torch.equal(features, model.forward_features(x))
    assert torch.equal(model.forward_head(features), model(x))
    seen = {}
    for info in model.feature_info:
        model.get_submodule(info["module"]).register_forward_hook(
            lambda _, __, out, at=info["module"]: seen.update({at: out})
        )
    model(x)
    assert all(torch.equal(each, seen[info["module"]]) for each, info in zip(maps, model.feature_info, strict=True))
    few = model.forward_intermediates(x, indices=[-2], stop_early=True, intermediates_only=True)
    assert len(few) == 1
    assert torch.equal(few[0], maps[-2])
    with pytest.raises(ValueError, match=f"indices=9: the network has {len(maps)} ends of stages"):
        model.forward_intermediates(x, indices=9)


@pytest.mark.parametrize("name", OURS)
def test_gradient_checkpointing_keeps_outputs_and_gradients(name):
    model = randomise_norms(timm.create_model(PREFIX + name, num_classes=3)).eval()
    if name == "small_cnn":
        with pytest.raises(ValueError, match="SmallCNN has no stages of several blocks to checkpoint"):
            model.set_grad_checkpointing()
        return
    x = torch.randn(2, 3, 32, 32)
    model(x).sum().backward()
    plain = {weight: value.grad for weight, value in model.named_parameters()}
    expected = model(x)
    model.zero_grad()
    model.set_grad_checkpointing()
    out = model(x)
    assert torch.equal(out, expected)
    out.sum().backward()
    assert all(torch.equal(value.grad, plain[weight]) for weight, value in model.named_parameters())


def test_registered_networks_take_the_options_of_timms_training_script():
    model = timm.create_model(
        "foveal_seresnet20", num_classes=5, in_chans=1, drop_rate=0.2, global_pool="max", reduction=8
    )
    assert (model.num_classes, model.in_chans, model.drop_rate, model.global_pool) == (5, 1, 0.2, "max")
    assert model.layer3[0].se.fc1.out_features == 8
    torch.manual_seed(0)
    ours = foveal.create_model("seresnet20", num_classes=5)
    torch.manual_seed(0)
    theirs = timm.create_model("foveal_seresnet20", num_classes=5)
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"global_pool": "catavgmax"}, "global_pool='catavgmax': CifarResNet has 'avg', 'max', ''"),
        ({"global_pool": ""}, "num_classes=10, global_pool='': a pooling, or 0 classes, is needed"),
        ({"num_classes": -1}, "num_classes=-1"),
    ],
)
def test_own_networks_refuse_impossible_heads(options, message):
    with pytest.raises(ValueError, match=message):
        timm.create_model("foveal_resnet20", **options)


def test_features_only_of_a_network_without_stages_says_so():
    with pytest.raises(ValueError, match="foveal_stn_cnn: features_only=True: the network has no stages"):
        timm.create_model("foveal_stn_cnn", features_only=True)


def test_create_model_refuses_the_registrys_names():
    """Through timm such a network would be attached twice when its checkpoint is loaded."""
    with pytest.raises(ValueError, match=r"network 'foveal_sknet50': a name for timm.create_model; write 'sknet50'"):
        foveal.create_model("foveal_sknet50")


def test_a_unet_of_segmentation_models_takes_our_encoders():
    smp = pytest.importorskip("segmentation_models_pytorch")
    model = smp.Unet("tu-foveal_seresnet18", encoder_weights=None, in_channels=2, classes=3)
    model(torch.randn(2, 2, 64, 64)).sum().backward()
    assert all(weight.grad is not None for weight in model.encoder.parameters())


def test_features_only_takes_other_image_channels():
    model = outline("seresnet18", in_chans=2, features_only=True, out_indices=tuple(range(5)))
    assert [each.shape[-1] for each in model(torch.empty(1, 2, 64, 64, device="meta"))] == [32, 16, 8, 4, 2]


@torch.no_grad()
@pytest.mark.parametrize("name", ["attention92_cifar", "resnet20", "small_cnn"])
def test_pruned_networks_return_the_map_of_their_last_stage(name):
    model = randomise_norms(timm.create_model(f"foveal_{name}")).eval()
    x = torch.randn(2, model.in_chans, 32, 32)
    maps = model.forward_intermediates(x, intermediates_only=True)
    last = len(maps) - 1
    for index, options in ((last, {"prune_norm": True}), (2, {}), (1, {"prune_norm": True})):
        assert model.prune_intermediate_layers([0, index], **options) == [0, index]
        assert torch.equal(model.forward_features(x), maps[index])
        assert torch.equal(model(x), maps[index])
        assert model.num_features == maps[index].shape[1]
        assert not [key for key in model.state_dict() if key.startswith("norm.")]


@torch.no_grad()
def test_pruning_after_the_last_stage_keeps_its_norm_unless_told():
    model = randomise_norms(timm.create_model("foveal_attention92_cifar")).eval()
    x = torch.randn(2, 3, 32, 32)
    expected = model.forward_features(x)
    assert model.prune_intermediate_layers([-1]) == [4]
    assert torch.equal(model(x), expected)
