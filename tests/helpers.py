"""Functions that tests of several rooms share."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.models import resnet
from torch import nn

import foveal


def randomise_norms(model: nn.Module) -> nn.Module:
    """Give every BatchNorm weights and statistics of its own; a fresh timm ResNet has zeros that hide every change."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return model


def plain_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copy the state dict."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def fill(module: nn.Module, **values: float) -> None:
    """Fill parameters with constants; `norm__bias=1.0` fills `norm.bias`."""
    for name, value in values.items():
        nn.init.constant_(module.get_parameter(name.replace("__", ".")), value)


def zero_norm_eps(module: nn.Module) -> nn.Module:
    """Make fresh norms the identity in evaluation."""
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.eps = 0.0
    return module.eval()


def vary_weights(module: nn.Module) -> nn.Module:
    """Move weights away from zero, so that gates differ from channel to channel."""
    for weight in module.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    return randomise_norms(module).eval()


def watch_once(module: nn.Module, *inputs: torch.Tensor, **options):
    """Run a module under `foveal.watch`: the recording and the output."""
    with foveal.watch(module, **options) as seen, torch.no_grad():
        out = module(*inputs)
    return seen, out


def count_hooks(model: nn.Module) -> int:
    return sum(len(table) for module in model.modules() for name, table in vars(module).items() if "_hooks" in name)


def operators(run) -> list[str]:
    """Names of the operators that a function runs."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run()
    return [event.key for event in profile.key_averages()]


class GatedBlock(nn.Module):
    """A bottleneck with squeeze-and-excitation, in training, for maps of 16 channels."""

    def __init__(self):
        super().__init__()
        self.block = resnet.Bottleneck(16, 4)
        foveal.attach(self, "se", at="block", identity=False)
        randomise_norms(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x)


def block_input(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 16, 9, 9)


def norm_inputs(affine: bool = True):
    """Two maps, a BatchNorm and a square matrix, in float64 with gradients."""
    c, r = (torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    norm = nn.BatchNorm2d(3, affine=affine).double()
    if affine:
        randomise_norms(norm)
    return c, r, norm, torch.randn(3, 3, dtype=torch.float64, requires_grad=True)


def write_idx(folder: Path, names=("train", "t10k"), gzipped=False, first_label=0) -> Path:
    """Write 120 training and 20 test images of ten classes in the four files of MNIST."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pack, ending = (gzip.compress, ".gz") if gzipped else (bytes, "")
    for part, count in zip(names, (120, 20), strict=True):
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        head = np.array([2051, count, 28, 28], dtype=">i4").tobytes()
        (folder / f"{part}-images-idx3-ubyte{ending}").write_bytes(pack(head + pixels.tobytes()))
        head = np.array([2049, count], dtype=">i4").tobytes()
        labels = np.arange(count, dtype=np.uint8) % 10 + first_label
        (folder / f"{part}-labels-idx1-ubyte{ending}").write_bytes(pack(head + labels.tobytes()))
    return folder


def write_halves(folder: Path, count: int) -> Path:
    """Write `count` noisy 28x28 images of each of two classes: the brighter half is the class."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("left", "right")):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 120, (28, 28), dtype=np.uint8)
            pixels[:, 14 * label : 14 * label + 14] += 100
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


def contents(root: object) -> dict[str, object]:
    """Everything that a model holds, by path: tensors, attributes, modes, hooks, types, the order of names."""
    found: dict[str, object] = {}
    seen: dict[int, object] = {}

    def walk(path: str, value: object) -> None:
        if isinstance(value, torch.Tensor):
            flat = value.detach().contiguous().view(-1)
            numbers = None if value.is_meta else zlib.crc32(flat.view(torch.uint8).numpy())
            found[path] = (id(value), str(value.device), value.dtype, tuple(value.shape), value.requires_grad, numbers)
        elif isinstance(value, str | int | float | bool | None | torch.dtype | torch.device):
            found[path] = value
        elif id(value) not in seen:
            seen[id(value)] = value
            found[path] = type(value)
            inside = dict(enumerate(value)) if isinstance(value, list | tuple) else value
            if isinstance(inside, dict):
                found[f"{path} names"] = [str(key) for key in inside]
            for key, each in (inside if isinstance(inside, dict) else getattr(value, "__dict__", {})).items():
                walk(f"{path}.{key}", each)

    walk("", root)
    return found


def check_nothing_is_left(model: nn.Module, at: str | None = None) -> None:
    """Check that a model holds after `detach` what it held before `attach`, and that no hook ran."""
    hooked = next(module for module in model.modules() if not [*module.children()])
    hooked.register_forward_hook(lambda *_: pytest.fail("the trial ran the user's hooks"))
    before = contents(model)
    for mechanism in ("se", "cbam"):
        foveal.attach(model, mechanism, at=at)
    assert len(foveal.attachments(model)) == 2
    assert all(attachment.modules for attachment in foveal.attachments(model))
    foveal.detach(model)
    assert contents(model) == before
