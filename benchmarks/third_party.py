"""Attention that `foveal.watch` finds in networks of nine libraries, against a literal list of what each holds.

The list gives for each network the number of its affinities (a), gates (g), masks (m) and selections (s), from its
architecture. A place that is recorded counts as found; one beyond the list of its kind as false; one of the list that
is neither recorded nor named with a reason as missed. Then the network answers one image, of the first size that it
takes, with and without `foveal.watch`. Networks have random weights; nothing is downloaded.

    python benchmarks/third_party.py > benchmarks/third_party.md
"""

import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import nn

import foveal
from foveal.core.trial_pass import image_shapes
from foveal.inspection.finding.find import find_places
from foveal.inspection.finding.trace import tensors_of

LETTERS = {"a": "affinity", "g": "gate", "m": "mask", "s": "selection"}
TIMM = {
    "legacy_seresnet18": "8g", "seresnet50": "16g", "seresnext26d_32x4d": "8g", "skresnet18": "8s", "resnest14d": "4s",
    "mobilenetv3_small_050": "9g", "efficientnet_b0": "16g", "regnety_002": "13g", "vit_tiny_patch16_224": "12a",
    "deit_tiny_patch16_224": "12a", "cait_xxs24_224": "26a", "swin_tiny_patch4_window7_224": "12a",
    "pvt_v2_b0": "8a", "xcit_nano_12_p16_224": "14a", "twins_svt_small": "18a", "davit_tiny": "12a",
    "levit_128s": "11a",
    "beit_base_patch16_224": "12a", "tnt_s_patch16_224": "24a",
    "resnet18": "", "resnet50": "", "densenet121": "", "vgg11": "", "mobilenetv2_100": "", "inception_v3": "",
    "xception41": "", "dla34": "", "darknet53": "", "cspresnet50": "", "hrnet_w18_small": "", "regnetx_002": "",
    "repvgg_a0": "", "resnext50_32x4d": "", "mixer_s32_224": "", "resmlp_12_224": "", "poolformer_s12": "",
    "efficientnet_lite0": "", "mnasnet_100": "", "fbnetc_100": "", "convnext_atto": "", "selecsls42": "",
}  # fmt: skip
TORCHVISION = {
    "mobilenet_v3_small": "9g", "efficientnet_b0": "16g", "regnet_y_400mf": "16g", "swin_t": "12a", "swin_v2_t": "12a",
    "vit_b_16": "12a", "maxvit_t": "22a 11g", "alexnet": "", "squeezenet1_0": "", "shufflenet_v2_x0_5": "",
    "googlenet": "", "resnet18": "", "densenet121": "", "mobilenet_v2": "", "convnext_tiny": "",
}  # fmt: skip
PYTORCHCV = {
    "seresnet10": "4g", "seresnet18": "8g", "seresnet50": "16g", "cbam_resnet18": "8g 8m", "cbam_resnet50": "16g 16m",
    "bam_resnet18": "3g", "bam_resnet50": "3g", "sknet50": "16s", "resattnet56": "3g", "resattnet92": "6g",
    "resnesta18": "8s", "efficientnet_b0": "16g", "mobilenetv3_small_w7d20": "9g", "seresnext50_32x4d": "16g",
    "resnet10": "", "preresnet10": "", "mobilenet_wd4": "", "squeezenet_v1_0": "", "shufflenet_g1_wd4": "",
    "igcv3_wd4": "", "diracnet18v2": "", "ibn_resnet50": "", "darknet_tiny": "",
}  # fmt: skip
SMP: dict[str, tuple[str, dict[str, Any]]] = {
    "MAnet": ("1a 8g", {}), "PAN": ("3g", {}), "Unet": ("", {}), "FPN": ("", {}), "Linknet": ("", {}),
    "PSPNet": ("", {}), "DeepLabV3Plus": ("", {}), "Unet scse": ("9g 9m", {"decoder_attention_type": "scse"}),
    "Unet mit_b0": ("8a", {"encoder_name": "mit_b0"}), "Unet se_resnet50": ("16g", {"encoder_name": "se_resnet50"}),
    "UnetPlusPlus": ("", {}),
}  # fmt: skip
SMALL: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
PLAIN: dict[str, Any] = {**SMALL, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
WINDOWS: dict[str, Any] = {
    "image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4,
}  # fmt: skip
HUGGING_FACE: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("2a", PLAIN), "DeiT": ("2a", PLAIN), "Beit": ("2a", PLAIN), "CLIPVision": ("2a", PLAIN),
    "SiglipVision": ("3a", PLAIN), "Dinov2": ("2a", {**SMALL, "image_size": 32, "patch_size": 8}),
    "Dinov2WithRegisters": ("2a", {**SMALL, "image_size": 28, "patch_size": 14}), "ViTMSN": ("2a", PLAIN),
    "Data2VecVision": ("2a", PLAIN), "Swin": ("4a", WINDOWS), "Swinv2": ("4a", WINDOWS),
    "Segformer": ("8a", {}), "MobileViT": ("9a", {}), "Pvt": ("8a", {}), "ViTMAE": ("2a", PLAIN),
    "Yolos": ("2a", {**PLAIN, "image_size": [32, 32], "num_detection_tokens": 5}), "DPT": ("12a", {}),
    "EfficientNet": ("55g", {}), "RegNet": ("", {"layer_type": "x"}), "RegNet y": ("22g", {"layer_type": "y"}),
    "ResNet": ("", {}), "ConvNext": ("", {}), "MobileNetV1": ("", {}), "MobileNetV2": ("", {}), "PoolFormer": ("", {}),
    "Bit": ("", {}), "ConvNextV2": ("", {}), "DINOv3ViT": ("2a", PLAIN),
}  # fmt: skip
UNET: dict[str, Any] = {
    "spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": (8, 16, 32), "strides": (2, 2),
}  # fmt: skip
NARROW: dict[str, Any] = {"hidden_size": 32, "mlp_dim": 64, "num_heads": 4, "spatial_dims": 2}
MONAI: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("2a", {"in_channels": 1, "img_size": (32, 32), "patch_size": (8, 8), "num_layers": 2, **NARROW}),
    "UNETR": ("12a", {"in_channels": 1, "out_channels": 2, "img_size": (32, 32), "feature_size": 8, **NARROW}),
    "SEResNet50": ("16g", {"spatial_dims": 2, "in_channels": 3, "num_classes": 3}),
    "SEResNext50": ("16g", {"spatial_dims": 2, "in_channels": 3, "num_classes": 3}),
    "AttentionUnet": ("2m", UNET),
    "UNet": ("", UNET),
    "SwinUNETR": ("8a", {"in_channels": 1, "out_channels": 2, "feature_size": 12, "spatial_dims": 2}),
    "BasicUNet": ("", {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}),
    "SegResNet": ("", {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}),
    "DenseNet121": ("", {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}),
}
BASE: dict[str, Any] = {
    "image_size": 64, "patch_size": 16, "num_classes": 5, "dim": 64, "depth": 2, "heads": 4, "mlp_dim": 64,
}  # fmt: skip
FOUR: dict[str, Any] = {"num_classes": 5, "dim": (32, 64, 128, 256), "depth": (1, 1, 1, 1)}
VIT_PYTORCH: dict[str, tuple[str, dict[str, Any]]] = {
    "vit.ViT": ("2a", BASE),
    "simple_vit.SimpleViT": ("2a", BASE),
    "deepvit.DeepViT": ("2a", BASE),
    "cait.CaiT": ("3a", {**BASE, "cls_depth": 1}),
    "cvt.CvT": ("13a", {"num_classes": 5}),
    "crossformer.CrossFormer": ("8a", FOUR),
    "regionvit.RegionViT": ("4a", FOUR),
    "max_vit.MaxViT": ("4a 2g", {"num_classes": 5, "dim": 32, "depth": (1, 1), "dim_conv_stem": 16, "window_size": 7}),
    "xcit.XCiT": ("3a", {**BASE, "cls_depth": 1, "local_patch_kernel_size": 3}),
    "pit.PiT": ("2a", {**BASE, "patch_size": 8, "depth": (1, 1)}),
    "simple_vit_with_register_tokens.SimpleViT": ("2a", BASE),
    "vit_with_patch_dropout.ViT": ("2a", BASE),
    "parallel_vit.ViT": ("4a", BASE),
    "rvt.RvT": ("2a", {**BASE, "use_rotary": True}),
    "learnable_memory_vit.ViT": ("2a", BASE),
}
CLIP: dict[str, Any] = {
    "image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "heads": 4, "mlp_ratio": 2, "output_dim": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A network: its library and name, how it is made, and the attention that it holds."""

    library: str
    name: str
    make: Callable[[], nn.Module]
    holds: Counter[str]


def held(text: str) -> Counter[str]:
    """Read the number of each kind, as in "12a 2g"."""
    return Counter({LETTERS[each[-1]]: int(each[:-1]) for each in text.split()})


def networks() -> Iterator[Network]:
    """Yield the networks of the list."""
    from open_clip import transformer
    from open_clip.modified_resnet import ModifiedResNet

    timm, vision, cv = (import_module(name) for name in ("timm", "torchvision.models", "pytorchcv.model_provider"))
    smp, hf = (import_module(name) for name in ("segmentation_models_pytorch", "transformers"))
    nets = import_module("monai.networks.nets")
    kornia = import_module("kornia.models.vit")
    for name, text in TIMM.items():
        yield Network("timm", name, lambda name=name: timm.create_model(name), held(text))
    for name, text in TORCHVISION.items():
        yield Network("torchvision", name, lambda name=name: getattr(vision, name)(weights=None), held(text))
    for name, text in PYTORCHCV.items():
        yield Network("pytorchcv", name, lambda name=name: cv.get_model(name), held(text))
    for name, (text, options) in SMP.items():
        given = {"encoder_name": "resnet18", "encoder_weights": None, **options}
        make = lambda name=name, given=given: getattr(smp, name.split()[0])(**given)  # noqa: E731
        yield Network("segmentation_models_pytorch", name, make, held(text))
    for name, (text, options) in HUGGING_FACE.items():
        make = lambda name=name, options=options: hugging_face(hf, name, options)  # noqa: E731
        yield Network("transformers", name, make, held(text))
    for name, (text, options) in MONAI.items():
        yield Network("monai", name, lambda name=name, options=options: getattr(nets, name)(**options), held(text))
    for name, (text, options) in VIT_PYTORCH.items():
        yield Network("vit-pytorch", name, lambda name=name, options=options: vit(name, options), held(text))
    small = {"image_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4}
    yield Network("kornia", "VisionTransformer", lambda: kornia.VisionTransformer(**small), held("2a"))
    yield Network("open_clip", "VisionTransformer", lambda: transformer.VisionTransformer(**CLIP), held("2a"))
    resnet = lambda: ModifiedResNet([1, 1, 1, 1], 8, 8, image_size=64, width=8)  # noqa: E731
    yield Network("open_clip", "ModifiedResNet", resnet, held("1a"))


def hugging_face(library: Any, name: str, options: dict[str, Any]) -> nn.Module:
    kind = name.split()[0]
    return getattr(library, f"{kind}Model")(getattr(library, f"{kind}Config")(**options))


def vit(name: str, options: dict[str, Any]) -> nn.Module:
    file, _, cls = name.partition(".")
    return getattr(import_module(f"vit_pytorch.{file}"), cls)(**options)


@dataclass(frozen=True)
class Outcome:
    """What was found of a network: right, false and missed places, and the reasons for others."""

    right: int
    false: int
    missed: int
    seconds: float
    answer: str
    remarks: str


def outcome(network: Network) -> Outcome:
    """Compare what is found in a network with its list."""
    torch.manual_seed(0)
    model = network.make().eval()
    start = time.process_time()
    found = find_places(model)
    seconds = time.process_time() - start
    kinds = Counter(place.facts.kind for place in found.places.values())
    right = sum((kinds & network.holds).values())
    false, absent = sum((kinds - network.holds).values()), sum((network.holds - kinds).values())
    named = min(absent, len(found.reasons))
    remarks = [f"stopped: {found.stopped}"] if found.stopped else []
    remarks += [f"{path}: {why}" for path, why in list(found.reasons.items())[:1]]
    answer = watched(model) if found.places else "-"
    return Outcome(right, false, absent - named, seconds, answer, "; ".join(remarks)[:160])


@torch.no_grad()
def watched(model: nn.Module) -> str:
    """Compare the answers of a model to one image with and without `watch`: "equal", or the largest difference."""
    for shape in image_shapes(model):
        images = torch.rand(1, *shape)
        try:
            expected = seeded(model, images)
        except Exception:  # noqa: S112 (an image that the model does not take)
            continue
        with foveal.watch(model):
            found = seeded(model, images)
        pairs = list(zip(tensors_of(expected), tensors_of(found), strict=True))
        if pairs and all(torch.equal(one, other) for one, other in pairs):
            return "equal"
        return f"{max((one - other).abs().max().item() for one, other in pairs):.1e}" if pairs else "no tensors"
    return "takes no image"


def seeded(model: nn.Module, images: torch.Tensor) -> Any:
    """Run a model, which may draw random numbers."""
    torch.manual_seed(0)
    out = model(images)
    return list(out.values()) if hasattr(out, "values") and not isinstance(out, torch.Tensor) else out


def main() -> None:
    """Print the table, and the totals."""
    warnings.filterwarnings("ignore")
    lines, outcomes, plain, denied = [], [], [], 0
    for network in networks():
        try:
            each = outcome(network)
        except Exception as error:  # a network that cannot be made here is printed and left out
            why = f"not made: {type(error).__name__}: {str(error)[:100]}"
            lines.append(f"| {network.library} | {network.name} | {why} | | | | | |")
            continue
        outcomes.append(each)
        plain += [each] if not network.holds else []
        denied += bool(network.holds) and not each.right
        lines.append(
            f"| {network.library} | {network.name} | {sum(network.holds.values())} | {each.right} | {each.false} | "
            f"{each.missed} | {each.answer} | {each.remarks} |"
        )
    right, false, missed = (sum(getattr(each, name) for each in outcomes) for name in ("right", "false", "missed"))
    print("# Attention found in other libraries' networks\n")
    print(f"{len(outcomes)} networks, {len(plain)} of them without attention. {right} places found, {false} false,")
    print(f"{missed} missed: precision {right / (right + false):.4f}, recall {right / (right + missed):.4f}.")
    print(f"In the networks without attention {sum(each.false for each in plain)} finds; networks with attention in")
    print(f"which none was found: {denied}.")
    answers = Counter(each.answer for each in outcomes if each.answer != "-")
    print(f"Answers with and without watch: {answers.pop('equal', 0)} equal, bit for bit; others: {dict(answers)}.")
    times = sorted(each.seconds for each in outcomes)
    print(f"The search took {times[len(times) // 2]:.2f} s in the median, {times[-1]:.1f} s at most, of one core.\n")
    print("| library | network | holds | found | false | missed | answers | remarks |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
