"""Networks of other libraries hold after `detach` what they held before `attach`; with random weights, no download."""

from importlib import import_module

import pytest
from helpers import check_nothing_is_left

SIZES = {"depths": [1, 1, 1, 2], "hidden_sizes": [8, 16, 24, 32]}
SEGFORMER = {
    "num_encoder_blocks": 2, "hidden_sizes": [16, 32], "depths": [1, 1], "num_attention_heads": [1, 2],
    "sr_ratios": [2, 1], "patch_sizes": [7, 3], "strides": [4, 2], "mlp_ratios": [2, 2],
}  # fmt: skip
PLANE = {"spatial_dims": 2, "in_channels": 1}
CLIP = {"layers": (1, 1, 1, 1), "output_dim": 32, "heads": 4, "image_size": 64, "width": 16}
CCT = {"img_size": 32, "embedding_dim": 32, "n_conv_layers": 2, "num_layers": 1, "num_heads": 2, "num_classes": 3}
MOBILE_VIT = (64, 64), (16, 24, 32), (16, 16, 24, 24, 32, 32, 32, 32, 32, 32, 64), 3
NETWORKS = {  # module of a library and a name in it, configuration and place
    "transformers ResNet": ({**SIZES, "layer_type": "basic"}, None),
    "transformers ConvNext": (SIZES, None),
    "transformers ConvNextV2": (SIZES, None),
    "transformers MobileNetV2": ({"depth_multiplier": 0.35}, "residual"),
    "transformers Segformer": (SEGFORMER, "**.proj"),
    "segmentation_models_pytorch Unet": ({"encoder_name": "resnet18"}, None),
    "segmentation_models_pytorch FPN": ({"encoder_name": "mobilenet_v2"}, None),
    "segmentation_models_pytorch DeepLabV3Plus": ({"encoder_name": "efficientnet-b0"}, None),
    "segmentation_models_pytorch MAnet": ({"encoder_name": "timm-regnetx_002"}, None),
    "segmentation_models_pytorch PSPNet": ({"encoder_name": "resnet18"}, None),
    "pytorchcv.model_provider seresnet10": ({}, "residual"),
    "pytorchcv.model_provider cbam_resnet18": ({}, "residual"),
    "pytorchcv.model_provider shufflenet_g1_wd4": ({}, "features.stage*.unit*"),
    "pytorchcv.model_provider diracnet18v2": ({}, "features.stage*"),
    "monai.networks.nets UNet": (
        {**PLANE, "out_channels": 2, "channels": (8, 16, 32), "strides": (2, 2), "num_res_units": 1}, "residual",
    ),
    "monai.networks.nets AttentionUnet": (
        {**PLANE, "out_channels": 2, "channels": (8, 16, 32), "strides": (2, 2)}, "model.0",
    ),
    "monai.networks.nets BasicUNet": ({**PLANE, "out_channels": 2, "features": (8, 8, 16, 32, 32, 8)}, "down_*"),
    "monai.networks.nets SegResNet": ({**PLANE, "init_filters": 8, "out_channels": 2}, "residual"),
    "kornia.feature HardNet": ({"pretrained": False}, "features.0"),
    "kornia.feature TFeat": ({"pretrained": False}, "features.0"),
    "kornia.feature SOSNet": ({"pretrained": False}, "layers.0"),
    "open_clip.modified_resnet ModifiedResNet": (CLIP, "residual"),
    "vit_pytorch.cct CCT": ({**CCT, "mlp_ratio": 2.0}, "tokenizer.conv_layers.*"),
    "vit_pytorch.mobile_vit MobileViT": (
        dict(zip(("image_size", "dims", "channels", "num_classes"), MOBILE_VIT, strict=True)), "residual",
    ),
}  # fmt: skip


def made(name, options):
    module, kind = name.split()
    library = pytest.importorskip(module.partition(".")[0], reason="the extra third-party is not installed")
    if module == "transformers":
        return getattr(library, f"{kind}Model")(getattr(library, f"{kind}Config")(**options))
    if module == "segmentation_models_pytorch":
        options = {**options, "encoder_weights": None}
    return getattr(import_module(module), kind)(**options) if "provider" not in module else provided(module, kind)


def provided(module, name):
    return import_module(module).get_model(name)


@pytest.mark.parametrize("name", NETWORKS)
def test_detach_leaves_nothing_of_attach_to_another_librarys_network(name):
    options, at = NETWORKS[name]
    check_nothing_is_left(made(name, options), at)
