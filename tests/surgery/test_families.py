"""Mechanisms of every kind on families of timm that the table of blocks does not name.

The 25 were drawn from timm's model files by `random.Random(0).shuffle` of the sorted names, without the files below
and without those whose smallest network has more than 50 million weights; of each file its smallest network.
"""

import re

import pytest
import timm
import torch
from helpers import randomise_norms
from torch import nn

import foveal
from foveal.mechanisms.registry import MECHANISMS
from foveal.surgery.attachments import plain_name

KNOWN = {  # while writing the table, the tracing and their tests
    "resnet", "resnetv2", "regnet", "rexnet", "efficientnet", "mobilenetv3", "ghostnet", "convnext", "cspnet", "dla",
    "densenet", "vgg", "inception_v3", "inception_resnet_v2", "vovnet", "metaformer", "fasternet",
    "vision_transformer", "swin_transformer",
}  # fmt: skip


FAMILIES = {  # a network of each, and the options that make it small: fewer blocks of every kind, smaller images
    "repghost": ("repghostnet_050", {}),
    "convit": ("convit_tiny", {"img_size": 64, "depth": 4, "local_up_to_layer": 3}),
    "inception_v4": ("inception_v4", {}),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224", {"img_size": 64, "depths": (1, 1, 2, 1)}),
    "starnet": ("starnet_s050", {}),
    "maxxvit": ("test_coatnet", {"img_size": 64}),
    "sknet": ("skresnet18", {"layers": (1, 1, 1, 1)}),
    "nest": ("nest_tiny", {"img_size": 64}),
    "hgnet": ("hgnetv2_b0", {}),
    "swin_transformer_v2": ("swinv2_tiny_window8_256", {"img_size": 64, "window_size": 4, "depths": (1, 1, 2, 1)}),
    "efficientformer_v2": ("efficientformerv2_s0", {"img_size": 64, "depths": (1, 1, 2, 2)}),
    "lowformer": ("lowformer_b0", {"depth_list": (0, 1, 1, 1, 1)}),
    "tiny_vit": ("tiny_vit_5m_224", {"depths": (1, 1, 2, 1)}),
    "mlp_mixer": ("gmlp_ti16_224", {"img_size": 64}),
    "vision_transformer_relpos": ("test_vit_relpos", {"img_size": 64, "depth": 4}),
    "efficientformer": ("efficientformer_l1", {"depths": (1, 1, 2, 2)}),
    "senet": ("legacy_seresnet18", {"layers": (1, 1, 1, 1)}),
    "lcnetv2": ("lcnetv2_small", {}),
    "twins": ("twins_svt_small", {"img_size": 64, "depths": (1, 1, 2, 1)}),
    "visformer": ("visformer_tiny", {"img_size": 64, "depth": (2, 1, 1)}),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", {"img_size": 64, "depth": 2}),
    "csatv2": ("csatv2", {}),
    "efficientvit_mit": ("efficientvit_b0", {}),
    "convmixer": ("convmixer_768_32", {}),
    "nextvit": ("nextvit_small", {"depths": (1, 2, 5, 2)}),
}
SIDES = {"inception_v4": 96}  # pixels, where 64 are too few
SHORTENED = {"convmixer", "mlp_mixer"}  # to four of thirty blocks that are the same; no option does it


def network(family: str) -> nn.Module:
    """Random network without zero weights, which would hide every change."""
    name, options = FAMILIES[family]
    model = randomise_norms(timm.create_model(name, **options)).eval()
    if family in SHORTENED:
        model.blocks = model.blocks[:4]
    for weight in model.parameters():
        if not weight.any():
            weight.normal_(0, 0.02)
    return model


def side_of(model: nn.Module, family: str) -> int:
    """Side of a small image that the network accepts."""
    config = model.pretrained_cfg
    fixed = FAMILIES[family][1].get("img_size") or (config["input_size"][1] if config.get("fixed_input_size") else 0)
    return fixed or max(SIDES.get(family, 64), config.get("min_input_size", (3, 0))[1])


KINDS = {  # mechanisms by the place that they are attached to by default
    kind: [name for name, each in MECHANISMS.items() if each.attaches == kind]
    for kind in dict.fromkeys(each.attaches for each in MECHANISMS.values())
}
EVERY = 3  # of the mechanisms of one kind, which differ in what they compute alone, a family is given every third


def mechanisms_of(family: str) -> list[str]:
    """Mechanisms for a family: some of each kind, others for the next family."""
    number = [*FAMILIES].index(family)
    return [
        name
        for names in KINDS.values()
        for at, name in enumerate(names)
        if len(names) < EVERY or at % EVERY == number % EVERY
    ]


PLACES = {"before": ["input"], "after": [None, "residual"]}  # elsewhere by default


def refusals(model: nn.Module, name: str, side: int) -> list[str]:
    """Attach a mechanism at its default place or one valid in any network; return the errors, or nothing."""
    options = {"size": side} if name == "hard_crop" else {}  # a network may take one size alone
    reasons = []
    for at in PLACES.get(MECHANISMS[name].attaches, [None]):
        try:
            foveal.attach(model, name, at=at, **options)
        except ValueError as error:
            reasons.append(str(error))
        else:
            return []
    return reasons


def test_every_mechanism_meets_families():
    given = [name for family in FAMILIES for name in mechanisms_of(family)]
    assert min(given.count(name) for name in MECHANISMS) >= len(FAMILIES) // EVERY
    assert all(MECHANISMS[name].attaches in KINDS for name in given)


def test_families_are_new():
    assert not KNOWN & set(FAMILIES)
    assert len(FAMILIES) == 25


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_attach_mechanisms_to_a_new_family_or_refuses(family):
    model = network(family)
    x = torch.randn(1, 3, *2 * [side_of(model, family)])
    before, printed = model(x), repr(model)
    assert before.isfinite().all()
    for name in mechanisms_of(family):
        reasons = refusals(model, name, x.shape[2])
        for reason in reasons:
            assert len(reason) > 20, name
            assert "\n" not in reason, name
            assert repr(model) == printed, name
        if reasons:
            continue
        check_at_birth(model, x, before)
        if foveal.attachments(model)[0].identity:
            switch_on(model)
            assert not torch.equal(model(x), before), name
        assert repr(foveal.detach(model)) == printed, name


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_attach_residual_to_a_new_family_or_refuses(family):
    model = network(family)
    x = torch.randn(1, 3, *2 * [side_of(model, family)])
    before = model(x)
    try:
        foveal.attach(model, "se", at="residual")
    except ValueError as error:
        reason = str(error)
        assert re.fullmatch(
            r"at='residual': .*(adds no map of a branch|in '.*' the branch ends in no module).*", reason
        )
    else:
        check_at_birth(model, x, before)
        with foveal.watch(model) as seen:
            model(x)
        for each in foveal.attachments(model)[0].modules:
            assert any(f"{record.path}.".startswith(f"{each.path}.") for record in seen), each.path


def check_at_birth(model: nn.Module, x: torch.Tensor, before: torch.Tensor) -> None:
    """Check that the output is as before and that every attention is called."""
    (attachment,) = foveal.attachments(model)
    paths, called = {each.path for each in attachment.modules}, set()
    handles = [model.get_submodule(path).register_forward_hook(lambda *_, p=path: called.add(p)) for path in paths]
    answer = model(x)
    assert called == paths, attachment.mechanism
    for handle in handles:
        handle.remove()
    if attachment.identity and MECHANISMS[attachment.mechanism].attaches == "before":  # it samples the image
        assert (answer - before).abs().max() <= 1e-5 * before.abs().max(), attachment.mechanism
    elif attachment.identity:
        assert torch.equal(answer, before), attachment.mechanism


def switch_on(model: nn.Module) -> None:
    """Make every attention active: fill what starts at zero, a strength or a last layer."""
    own = {name for each in foveal.attachments(model)[0].modules for name in each.own}
    for name, weight in model.named_parameters():
        if plain_name(model, name) in own and not weight.any():
            weight.fill_(0.5)
