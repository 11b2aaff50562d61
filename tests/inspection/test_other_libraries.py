"""Attention of other libraries' networks, at random weights from their configurations, without a download."""

import pytest
import torch
from helpers import watch_once

import foveal
from foveal.core.layout import Layout

transformers = pytest.importorskip("transformers", reason="the extra third-party is not installed")

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
PLAIN = {**SMALL, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
SEGFORMER = {
    "num_encoder_blocks": 2, "hidden_sizes": [16, 32], "depths": [1, 1], "num_attention_heads": [1, 2],
    "sr_ratios": [2, 1], "patch_sizes": [7, 3], "strides": [4, 2], "mlp_ratios": [2, 2],
}  # fmt: skip
CLASS = ("class token",)
FOUR = tuple(f"register {turn}" for turn in (1, 2, 3, 4))
MODELS = {  # name of the classes: configuration; layout of the first keys, None for windows
    "ViT": (PLAIN, Layout(1, 4, 4, CLASS)),
    "DeiT": (PLAIN, Layout(2, 4, 4, (*CLASS, "distillation token"))),
    "Beit": ({**PLAIN, "use_relative_position_bias": True}, Layout(1, 4, 4, CLASS)),
    "CLIPVision": (PLAIN, Layout(1, 4, 4, CLASS)),
    "SiglipVision": (PLAIN, Layout(0, 4, 4, ())),
    "Dinov2": ({**SMALL, "image_size": 32, "patch_size": 8}, Layout(1, 4, 4, CLASS)),
    "Dinov2WithRegisters": ({**SMALL, "image_size": 28, "patch_size": 14}, Layout(5, 2, 2, (*CLASS, *FOUR))),
    "Segformer": (SEGFORMER, Layout(0, 4, 4, ())),
    "Swin": (SWIN, None),
    "Swinv2": (SWIN, None),
}


def made(name, attention):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**MODELS[name][0], attn_implementation=attention)
    return getattr(transformers, f"{name}Model")(config).eval()


@pytest.mark.parametrize(
    ("name", "attention"),
    [(name, kind) for name in MODELS for kind in ("eager", "sdpa") if (name, kind) != ("Swinv2", "sdpa")],
)
def test_watch_of_hugging_face_equals_its_own_output_of_attention(name, attention):
    model, side = made(name, attention), 28 if name == "Dinov2WithRegisters" else 32
    images = torch.rand(2, 3, side, side)
    with torch.no_grad():
        plain = model(images)[0]
        expected = made(name, "eager")(images, output_attentions=True).attentions
    seen, out = watch_once(model, images)
    assert torch.equal(out[0], plain)
    assert not seen.unseen
    records = [record for record in seen if record.path != "head.attention"]  # SigLIP's pooling, which it does not show
    assert {seen.found[record.path] for record in records} == {"in a trial pass"}
    if "Swin" in name:  # which shows the last block of each stage
        records = records[1::2]
    assert len(records) == len(expected) == 2
    for record, weights in zip(records, expected, strict=True):
        values = record.values.flatten(0, 1) if record.axes == "B N G Q K" else record.values
        torch.testing.assert_close(values, weights, atol=1e-6, rtol=0)
    if MODELS[name][1] is not None:
        assert records[0].tokens.keys == MODELS[name][1]
    foveal.draw(seen, images)


@pytest.mark.parametrize("name", ["Swin", "Swinv2"])
def test_watch_of_hugging_face_shows_shifted_windows(name):
    """Positions against a map of numbers that the library's own function cuts."""
    library = getattr(transformers.models, name.lower())
    partition = getattr(library, f"modeling_{name.lower()}").window_partition
    seen, _ = watch_once(made(name, "eager"), torch.rand(2, 3, 32, 32))
    numbers = torch.arange(64).view(1, 8, 8, 1)
    for record, shift in zip(list(seen)[:2], (0, 2), strict=True):
        expected = partition(numbers.roll((-shift, -shift), (1, 2)), 4).reshape(4, 16)
        for tokens in (record.tokens.queries, record.tokens.keys):
            assert (tokens.rows, tokens.columns) == (8, 8)
            assert torch.equal(tokens.positions, expected)


def test_watch_of_hugging_face_refuses_heads_and_windows_in_one_dimension():
    options = {**SMALL, "image_size": 64, "patch_size": 8, "window_block_indices": [0], "window_size": 3}
    config = transformers.VitDetConfig(**options, use_relative_position_embeddings=True)
    seen, _ = watch_once(transformers.VitDetModel(config).eval(), torch.rand(2, 3, 64, 64))
    assert seen.paths() == ["encoder.layer.1.attention"]
    assert seen[0].tokens.keys == Layout(0, 8, 8, ())
    assert "heads and windows share a dimension" in seen.unseen["encoder.layer.0.attention"]


def test_replace_of_hugging_face_attention_changes_the_answer():
    model, images = made("ViT", "sdpa"), torch.rand(2, 3, 32, 32)
    seen, out = watch_once(model, images)
    path = seen.paths()[0]
    with torch.no_grad(), foveal.replace(model, {path: seen[path].values}):
        torch.testing.assert_close(model(images)[0], out[0])
    with torch.no_grad(), foveal.replace(model, {path: 0.0}):
        assert not torch.allclose(model(images)[0], out[0])


def pytorchcv(name):
    return pytest.importorskip("pytorchcv.model_provider").get_model(name).eval()


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("cbam_resnet18", {("gate", "B C"): 8, ("mask", "B H W"): 8}),
        ("bam_resnet18", {("gate", "B C H W"): 3}),
        ("resnesta18", {("selection", "B K C"): 8}),
        ("seresnet10", {("gate", "B C"): 4}),
        ("resnet10", {}),
    ],
)
def test_find_places_of_pytorchcv(name, kinds):
    assert counted(pytorchcv(name)) == kinds


@pytest.mark.parametrize(
    ("name", "options", "kinds"),
    [
        ("Unet", {}, {}),
        ("Unet", {"decoder_attention_type": "scse"}, {("gate", "B C"): 9, ("mask", "B H W"): 9}),
        ("MAnet", {}, {("affinity", "B G Q K"): 1, ("gate", "B C"): 8}),
        ("PAN", {}, {("gate", "B C"): 3}),
    ],
)
def test_find_places_of_segmentation_models(name, options, kinds):
    library = pytest.importorskip("segmentation_models_pytorch")
    assert counted(getattr(library, name)("resnet18", encoder_weights=None, **options).eval()) == kinds


def test_find_places_of_monai():
    nets = pytest.importorskip("monai.networks.nets")
    small = {"feature_size": 8, "hidden_size": 32, "mlp_dim": 64, "num_heads": 4, "spatial_dims": 2}
    assert counted(nets.UNETR(1, 2, (32, 32), **small)) == {("affinity", "B G Q K"): 12}
    channels = {"channels": (8, 16, 32), "strides": (2, 2)}
    assert counted(nets.AttentionUnet(2, 1, 2, **channels)) == {("mask", "B H W"): 2}
    assert counted(nets.UNet(2, 1, 2, **channels)) == {}


def test_watch_of_vit_pytorch_has_the_grid_of_its_patches():
    library = pytest.importorskip("vit_pytorch")
    model = library.ViT(image_size=(32, 48), patch_size=8, num_classes=3, dim=16, depth=2, heads=2, mlp_dim=16).eval()
    images = torch.rand(2, 3, 32, 48)
    seen, _ = watch_once(model, images)
    assert [record.tokens.keys for record in seen] == [Layout(1, 4, 6, CLASS)] * 2
    foveal.draw(seen, images)


def test_find_places_of_kornia():
    vit = pytest.importorskip("kornia.models.vit").VisionTransformer(
        image_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4
    )
    assert counted(vit) == {("affinity", "B G Q K"): 2}


def counted(model):
    """How many places of each kind and axes are found; none of another reason."""
    from collections import Counter

    from foveal.inspection.finding.find import find_places

    found = find_places(model)
    assert set(found.reasons.values()) <= {"Attention looks like attention; it was never called"}
    return Counter((place.facts.kind, place.facts.axes) for place in found.places.values())
