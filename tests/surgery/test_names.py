"""What goes by names and paths in timm means the same with attention attached: decay, layers, features, first layer."""

import copy
import pickle

import pytest
import timm
import torch
import torchvision
from helpers import randomise_norms
from timm.models import group_modules, group_parameters
from timm.models._features import FeatureGetterNet, FeatureHookNet, FeatureListNet
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.func import functional_call

import foveal
from foveal.mechanisms.registry import MECHANISMS

FAMILIES = [
    "resnet18", "resnetv2_18", "regnety_002", "rexnet_100", "convnext_atto", "densenet121", "vgg11_bn", "dla46_c",
    "efficientnet_b0", "mobilenetv3_small_050", "ghostnet_100", "darknet17", "inception_v3", "inception_resnet_v2",
    "skresnet18", "repghostnet_050", "ese_vovnet19b_dw", "hgnetv2_b0", "test_nfnet", "test_byobnet",
]  # fmt: skip
QUICK = [("regnety_002", "bam"), ("vgg11_bn", "se"), ("resnet18", "stn"), ("convnext_atto", "bam"), ("resnet18", "sk")]
WITHOUT_PLACE = {"sk", "bam"}  # where no convolution with norm and activation is known; where there are no stages
USABLE = [name for name, mechanism in MECHANISMS.items() if mechanism.attaches != "network"]


def meant_by_names(model):
    """What timm finds by names: scales of weights by layer, lists, paths. Weights by identity, as they may move."""
    skipped = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()
    scales = {
        id(weight): (group["lr_scale"], group["weight_decay"])
        for group in param_groups_layer_decay(model, no_weight_decay_list=skipped, layer_decay=0.75)
        for weight in group["params"]
    }
    names = model.state_dict()
    first = model.pretrained_cfg["first_conv"]
    first = [first] if isinstance(first, str) else first
    features = {info["module"]: type(model.get_submodule(info["module"])) for info in model.feature_info}
    return scales, skipped, [f"{path}.weight" in names for path in first], [*features]


@pytest.mark.parametrize(("family", "mechanism"), QUICK)
def test_attach_keeps_what_names_mean(family, mechanism):
    with torch.device("meta"):
        model = timm.create_model(family)
    check_names(model, mechanism)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
def test_attach_of_every_mechanism_keeps_what_names_mean(family):
    with torch.device("meta"):
        model = timm.create_model(family)
    attached = [mechanism for mechanism in USABLE if check_names(model, mechanism)]
    assert set(USABLE) - set(attached) <= WITHOUT_PLACE


def check_names(model, mechanism):
    plain = meant_by_names(model)
    names, weights = [*model.state_dict()], {id(weight) for weight in model.parameters()}
    deepest = max(group_parameters(model, model.group_matcher(), reverse=True).values())
    modules = group_modules(model, model.group_matcher(coarse=True), reverse=True)
    try:
        at = "input" if MECHANISMS[mechanism].attaches == "before" else None
        foveal.attach(model, mechanism, at=at, **small(mechanism))
    except ValueError as error:
        assert mechanism in WITHOUT_PLACE, error  # noqa: PT017
        return False
    scales, *others = meant_by_names(model)
    assert scales.keys() > weights == plain[0].keys()
    assert {key: scales[key] for key in weights} == plain[0]
    assert others == [*plain[1:]]
    assert max(group_parameters(model, model.group_matcher(), reverse=True).values()) == deepest
    now = group_modules(model, model.group_matcher(coarse=True), reverse=True)
    assert mechanism == "sk" or {key: now[key] for key in modules if key in now}.items() <= modules.items()
    if mechanism != "sk":
        assert [name for name in model.state_dict() if name in set(names)] == names
    assert {*model.state_dict()} == {name for name, _ in [*model.named_parameters(), *model.named_buffers()]} - lost(
        model
    )
    foveal.detach(model)
    assert [*model.state_dict()] == names
    assert meant_by_names(model) == plain
    return True


def lost(model):
    """Names of buffers that no state dict has."""
    return {
        f"{path}.{name}".lstrip(".")
        for path, module in model.named_modules()
        for name in module._non_persistent_buffers_set
    }


def small(mechanism):
    return {"groups": 1} if mechanism == "sk" else {}


FEATURES = ["resnet18", "efficientnet_b0", "convnext_atto", "vgg11_bn", "densenet121"]
FLAT = {"vgg11_bn", "densenet121", "efficientnet_b0", "convnext_atto"}


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("mechanism", ["se", "bam", "stn"])
@pytest.mark.parametrize("wrap", [FeatureListNet, FeatureHookNet, FeatureGetterNet])
def test_attach_keeps_features(name, mechanism, wrap):
    if mechanism == "bam" and name == "vgg11_bn":
        pytest.skip("vgg11_bn has no stages")
    x = torch.rand(2, 3, 64, 64)
    model = randomise_norms(timm.create_model(name)).eval()
    options = {"flatten_sequential": name in FLAT} if wrap is not FeatureGetterNet else {}
    with torch.no_grad():
        for path, weight in model.named_parameters():
            if path.endswith("gamma"):  # of 1e-6, which would hide the branch
                weight.fill_(1.0)
        plain = features(wrap, model, options, x)
        foveal.attach(model, mechanism, at="input" if mechanism == "stn" else None)
        same = features(wrap, model, options, x)
        for one, other in zip(same, plain, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=(mechanism == "stn") * 1e-4 * other.abs().max().item())
        for path, weight in model.named_parameters():
            if path.endswith("strength.s"):
                weight.fill_(1.0)
        changed = features(wrap, model, options, x)
        assert mechanism == "stn" or not torch.allclose(changed[-1], plain[-1], rtol=1e-3)


def features(wrap, model, options, x):
    # the copy, because a FeatureHookNet leaves its hooks and a FeatureGetterNet prunes
    return wrap(copy.deepcopy(model), out_indices=(1, 2, 3), **options).eval()(x)


@pytest.mark.parametrize("feature_cls", ["list", "getter"])
def test_attach_to_a_network_of_features_only(feature_cls):
    x = torch.rand(2, 3, 64, 64)
    model = randomise_norms(timm.create_model("resnet18", features_only=True, feature_cls=feature_cls)).eval()
    with torch.no_grad():
        plain = model(x)
        foveal.attach(model, "se")
        assert len(model.attachments[0].modules) == 8
        assert all(torch.equal(one, other) for one, other in zip(model(x), plain, strict=True))


@pytest.fixture
def wrapped():
    """ResNet whose norms, stages and first layer are wrapped."""
    model = randomise_norms(torchvision.models.resnet18()).eval()
    foveal.attach(model, "se")
    foveal.attach(model, "cbam", at="layer*.1", position="post")
    foveal.attach(model, "stn", at="input")
    return model


def test_names_of_a_wrapped_network_are_plain_everywhere(wrapped):
    plain = torchvision.models.resnet18()
    for names in (
        lambda model: [name for name, _ in model.named_parameters()],
        lambda model: [name for name, _ in model.named_parameters(remove_duplicate=False)],
        lambda model: [name for name, _ in model.named_buffers()],
        lambda model: [*model.state_dict()],
        lambda model: [name for name, _ in model.named_modules()],
    ):
        found = names(wrapped)
        assert len(found) == len(set(found))
        assert [name for name in found if name in set(names(plain))] == names(plain)
    versions, expected = wrapped.state_dict()._metadata, plain.state_dict()._metadata
    assert all(versions[path] == expected[path] for path in expected)
    assert {id(each) for each in wrapped.modules()} > {
        id(each.host) for each in wrapped.modules() if "host" in each._modules
    }


def test_state_dict_of_a_wrapped_network_loads_both_ways(wrapped):
    x, plain = torch.rand(2, 3, 64, 64), torchvision.models.resnet18().eval()
    with torch.no_grad():
        expected = wrapped(x)
        other = copy.deepcopy(wrapped)
        for weight in other.parameters():
            weight.mul_(1.1)
        assert not torch.equal(other(x), expected)
        for assign in (False, True):
            assert not any(other.load_state_dict(wrapped.state_dict(), assign=assign))
            assert torch.equal(other(x), expected)
        assert torch.equal(pickle.loads(pickle.dumps(wrapped))(x), expected)  # noqa: S301
        keys = plain.load_state_dict(wrapped.state_dict(), strict=False)
        assert not keys.missing_keys
        assert torch.allclose(plain(x), expected, atol=1e-4)  # the transformer starts near the identity

        state = plain.state_dict()
        del state["layer1.0.bn2.weight"]
        state["layer1.0.bn2.wait"] = torch.zeros(1)
        keys = wrapped.load_state_dict(state, strict=False)
        assert keys.missing_keys == ["layer1.0.bn2.weight"]
        assert keys.unexpected_keys == ["layer1.0.bn2.wait"]


def test_functional_call_and_conversions_reach_the_host_of_a_wrapper(wrapped):
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = wrapped(x)
        before = dict(wrapped.named_parameters())
        other = {name: weight * 1.1 for name, weight in before.items()}
        assert not torch.equal(functional_call(wrapped, other, (x,)), expected)
        assert all(weight is before[name] for name, weight in wrapped.named_parameters())
        assert torch.equal(wrapped(x), expected)
        assert wrapped.double()(x.double()).dtype == torch.float64
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(wrapped)
    assert isinstance(converted.layer1[0].bn2.host, nn.SyncBatchNorm)
    assert converted.layer1[0].bn2.running_mean is converted.layer1[0].bn2.host.running_mean
