"""Records of `foveal.watch` for the smallest network of every file of timm, and torchvision's networks with attention.

The table shows for each network: the recorded places by kind; the unseen places with the reason; whether the logits
under `watch` are bit-identical; and the errors of its Records (wrong number of images, weights outside the stated
range, affinities that do not sum to one over the keys, or other logits when the weights are written back).

    python benchmarks/foreign_sweep.py > benchmarks/foreign_sweep.md

Weights and images are random; there are two images of the network's input size. Above 60 million parameters,
transformers are made narrower, and other networks are skipped. The sweep takes about a quarter of an hour on one CPU
core, a third of it to find the smallest networks.
"""

import sys
import warnings
from collections import Counter
from collections.abc import Iterator

import timm
import torch
import torchvision
from timm.models._registry import _module_to_models
from torch import Tensor, nn

import foveal
from foveal.core.names import class_names
from foveal.core.record import Record
from foveal.inspection.third_party import TABLE

LARGEST = 60e6
THIN = {"embed_dim": 96, "depth": 2, "num_heads": 3}
NARROW: dict[str, dict[str, object]] = {
    "beit": THIN,
    "deepseek_vit": THIN,
    "gemma4_vit": THIN,
    "naflexvit": THIN,
    "qwen3_vit": THIN,
    "vision_transformer_sam": {**THIN, "global_attn_indexes": (1,)},
}
MORE = (  # networks with classes that are not in the smallest network of any file
    "eca_resnext26ts", "gcresnext26ts", "eca_botnext26ts_256", "lambda_resnet26t", "hgnet_tiny", "fastvit_sa12",
    "caformer_s18", "maxvit_rmlp_pico_rw_256", "resnet50_clip", "test_vit4", "vit_pe_core_tiny_patch16_384",
)  # fmt: skip
TORCHVISION = ("mobilenet_v3_small", "efficientnet_b0", "regnet_y_400mf", "swin_t", "swin_v2_t", "maxvit_t")


def smallest(file: str) -> tuple[str, int]:
    """Return the network with the fewest parameters in a file of timm, and their number."""
    sizes = {}
    for name in sorted(_module_to_models[file]):
        try:
            with torch.device("meta"):
                sizes[name] = parameters(timm.create_model(name))
        except Exception as error:  # a network that cannot be created without its data is printed and skipped
            print(f"{name}: {error}", file=sys.stderr)
    name = min(sizes, key=lambda name: sizes[name])
    return name, sizes[name]


def parameters(model: nn.Module) -> int:
    """Count the parameters of a model."""
    return sum(weight.numel() for weight in model.parameters())


def networks() -> Iterator[tuple[str, str, nn.Module | None, tuple[int, ...]]]:
    """Yield file, name, network and image shape of each network; the network is None if it is too large."""
    for file in sorted(_module_to_models):
        name, size = smallest(file)
        narrow = NARROW.get(file, {})
        model = timm.create_model(name, **narrow) if narrow or size <= LARGEST else None
        yield f"timm {file}", name + narrow_text(narrow), model, model.pretrained_cfg["input_size"] if model else ()
    for name in MORE:
        model = timm.create_model(name)
        yield "timm", name, model, model.pretrained_cfg["input_size"]
    for name in TORCHVISION:
        yield "torchvision", name, torchvision.models.get_model(name), (3, 224, 224)


def narrow_text(options: dict[str, object]) -> str:
    """Format the options of a narrower network."""
    return "".join(f", {name}={value}" for name, value in options.items())


def wrong(record: Record, images: int) -> Iterator[str]:
    """Yield the errors of a Record."""
    low, high = record.value_range
    if len(record.values) != images:
        yield f"{len(record.values)} images"
    if record.values.min() < low or record.values.max() > high:
        yield f"outside {record.value_range}"
    if record.kind == "affinity" and record.value_range == (0, 1):
        sums = record.values.float().sum(-1)
        if not torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
            yield "sum is not one"


@torch.no_grad()
def row(model: nn.Module, images: Tensor) -> tuple[str, str, str, str]:
    """Return the recorded places, the unseen places, whether the logits are the same, and the errors."""
    plain = model(images)
    try:
        with foveal.watch(model) as seen:
            watched = model(images)
    except ValueError as error:
        return ("no attention" if "no attention" in str(error) else f"**{error}**"), "", "", ""
    kinds = Counter(f"{record.kind} {record.axes}" for record in seen)
    reasons = Counter(seen.unseen.values())
    faults = {f"{record.path}: {fault}" for record in seen for fault in wrong(record, len(images))}
    once = {path: seen[path].values for path in seen.paths() if "#" not in path}
    try:
        with foveal.replace(model, once):
            if not torch.allclose(model(images), plain, rtol=1e-3, atol=1e-4):
                faults.add("other logits when written back")
    except ValueError as error:
        faults.add(str(error))
    return (
        ", ".join(f"{count} {kind}" for kind, count in kinds.items()),
        "; ".join(f"{count}: {reason}" for reason, count in reasons.items()),
        "yes" if torch.equal(plain, watched) else "**no**",
        "; ".join(sorted(faults)[:3]),
    )


def main() -> None:
    torch.manual_seed(0)
    print("# Records of foveal.watch in timm and torchvision\n")
    print(f"timm {timm.__version__}, torchvision {torchvision.__version__}, by `python benchmarks/foreign_sweep.py`.\n")
    print("| file | network | recorded | unseen | same logits | errors |\n| --- | --- | --- | --- | --- | --- |")
    met: set[str] = set()
    for file, name, model, shape in networks():
        met |= {name for module in model.modules() for name in class_names(module)[:1]} if model else set()
        cells = row(model.eval(), torch.rand(2, *shape)) if model else ("too large", "", "", "")
        print("|", " | ".join((file, name, *cells)), "|", flush=True)
    print("\nSupported classes that are in none of these networks:", ", ".join(sorted(TABLE.keys() - met)) + ".")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
