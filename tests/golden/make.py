"""A sheet of every kind of Record, from weights and images that are written down here: `python tests/golden/make.py`.

It writes each as NAME.png beside this file. `test_golden.py` compares what is drawn today with them: look at what
changed before committing it.
"""

import io
import math
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from foveal.core.layout import Tokens, Windows
from foveal.core.record import Record
from foveal.inspection.drawing.draw import Picture, draw
from foveal.ops.warps import CONTROL

HERE = Path(__file__).parent
COLOURS = 256  # of a stored sheet, so that it is small
SIDE = 32  # pixels of an image
WORDS = ["seven", "five"]


def disc(x: float, y: float, radius: float, side: int = SIDE) -> Tensor:
    """A soft disc at a place in [-1, 1], from 0 to 1: (side, side)."""
    along = (2 * torch.arange(side) + 1) / side - 1
    return torch.sigmoid(12 * (radius - torch.hypot(along - x, along[:, None] - y)))


def photos() -> Tensor:
    """Two images of a coloured disc on grey."""
    first = torch.stack(
        [0.3 + 0.6 * disc(-0.3, -0.2, 0.5), 0.3 + 0.2 * disc(-0.3, -0.2, 0.5), torch.full((32, 32), 0.3)]
    )
    second = torch.stack([torch.full((32, 32), 0.5), 0.5 - 0.3 * disc(0.4, 0.3, 0.4), 0.5 + 0.4 * disc(0.4, 0.3, 0.4)])
    return torch.stack([first, second])


def record(kind: str, axes: str, values: Tensor, path: str, mechanism: str, **more) -> Record:
    facts = {"domain": "spatial", "value_range": (0.0, 1.0), **more}
    return Record(kind=kind, axes=axes, values=values, path=path, mechanism=mechanism, **facts)


def waves(*shape: int, phase: float = 0.0) -> Tensor:
    """Numbers from 0 to 1 without a pattern that the eye would find, the same on every machine."""
    count = torch.arange(math.prod(shape), dtype=torch.float64)
    return (0.5 + 0.5 * torch.sin(12.9898 * count + phase)).float().view(shape)


def gates() -> list[Record]:
    def gate(width: int, mean: float, spread: float, place: int) -> Tensor:
        return (mean + spread * (waves(2, width, phase=place) - 0.5)).clamp(0, 1)

    facts = (16, 0.5, 0.6), (32, 0.5, 0.9), (64, 0.6, 0.7), (64, 0.9, 0.1), (128, 0.3, 0.5)
    return [
        record("gate", "B C", gate(*fact, place), f"layer{1 + place // 2}.{place % 2}.se", "squeeze_excite")
        for place, fact in enumerate(facts)
    ]


def masks() -> list[Record]:
    maps = torch.stack([disc(-0.3, -0.2, 0.6, 8), disc(0.4, 0.3, 0.5, 8)])
    shares = maps.flatten(1).softmax(1).unflatten(1, (8, 8))
    return [
        record("mask", "B H W", maps, "layer1.0.cbam.spatial", "cbam"),
        record("mask", "B H W", 1 + maps, "layer2.0.residual_mask", "residual_mask", value_range=(1.0, 2.0)),
        record("mask", "B H W", shares, "layer3.0.gc.context", "global_context"),
    ]


def planes() -> list[Record]:
    rows, columns = waves(2, 4, 8), waves(2, 4, 8, phase=1)
    both = torch.stack([disc(-0.3, -0.2, 0.6, 8), disc(0.4, 0.3, 0.5, 8)])[:, None] * waves(2, 16, 1, 1)
    return [
        record("gate", "B C H", rows, "layer1.0.coord.height", "coordinate", domain="mixed"),
        record("gate", "B C W", columns, "layer1.0.coord.width", "coordinate", domain="mixed"),
        record("mask", "B C H W", both, "layer2.0.bam", "bam", domain="mixed"),
    ]


def selections() -> list[Record]:
    shares = [0.3 + 0.03 * place + 0.1 * (waves(2, 8, phase=place) - 0.5) for place in range(16)]
    return [
        record(
            "selection", "B K C", torch.stack([1 - share, share], 1), f"layer{1 + place // 4}.{place % 4}.conv2", "sk"
        )
        for place, share in enumerate(shares)
    ]


def transforms() -> list[Record]:
    theta = torch.tensor([[[0.6, 0.0, -0.3], [0.0, 0.6, -0.2]], [[0.4, -0.2, 0.4], [0.2, 0.4, 0.3]]])
    bent = torch.tensor(CONTROL).expand(2, -1, -1) * torch.tensor([0.7, 0.5]).view(2, 1, 1)
    bent = bent + 0.15 * torch.sin(3 * torch.tensor(CONTROL).flip(-1))
    endless = {"value_range": (-math.inf, math.inf)}
    return [
        record("transform", "B 2 3", theta, "stn", "spatial_transformer", size=(24, 24), **endless),
        record("transform", "B P 2", bent, "layer1.0.stn", "spatial_transformer", **endless),
    ]


def crops() -> list[Record]:
    places = torch.tensor([[[-0.3, -0.2], [0.4, 0.5], [0.6, -0.6]], [[0.4, 0.3], [-0.5, -0.5], [-0.2, 0.6]]])
    theta = torch.cat([0.35 * torch.eye(2).expand(2, 3, 2, 2), places[..., None]], -1)
    return [
        record("crop", "B K 2 3", theta, "hard_crop", "hard_crop", size=(12, 12), hard=True, value_range=(-1.0, 1.0))
    ]


def glimpses() -> list[Record]:
    path = torch.tensor([[[0.5, 0.6], [0.0, 0.2], [-0.3, -0.2]], [[-0.6, -0.6], [0.1, -0.2], [0.4, 0.3]]])
    return [record("glimpse", "B T 2", path, "glimpse", "glimpse", size=(8, 8), hard=True, value_range=(-1.0, 1.0))]


def affinities() -> list[Record]:
    logits = 3 * torch.stack([disc(-0.3, -0.2, 0.6, 8), disc(0.4, 0.3, 0.5, 8)]).view(2, 1, 1, 1, 8, 8)
    logits = logits + waves(2, 2, 8, 8, 1, 1) + waves(1, 1, 1, 1, 8, 8)
    weights = logits.flatten(-2).softmax(-1).unflatten(-1, (8, 8))
    return [
        record("affinity", "B H W Y X", weights[:, 0], "layer3.0.nl", "non_local"),
        record("affinity", "B G H W Y X", weights, "layer3.1.mhsa", "self_attention"),
    ]


def layer(place: int, tokens: int, before: int, strength: float) -> Record:
    """A layer of two heads whose keys at the object weigh more, the deeper it lies."""
    side = math.isqrt(tokens - before)
    on = torch.stack([disc(-0.3, -0.2, 0.6, side), disc(0.4, 0.3, 0.5, side)]).flatten(1)
    logits = strength * torch.cat([torch.zeros(2, before), on], 1)[:, None, None] + waves(
        2, 2, tokens, tokens, phase=place
    )
    return record("affinity", "B G Q K", logits.softmax(-1), f"blocks.{place}.attn", "self_attention")


def tokens() -> list[Record]:
    """No class token, registers, windows, one query of its own, and one that no picture shows."""
    windows = waves(2, 4, 2, 16, 16, phase=2)
    windows = (4 * windows + 3 * disc(0.5, 0.5, 0.4, 4).flatten()).softmax(-1)
    shifted = record("affinity", "B N G Q K", windows, "layers.0.blocks.1.attn", "self_attention")
    numbers = torch.arange(64).view(8, 8).roll((-2, -2), (0, 1))
    cut = Windows(8, 8, numbers.view(2, 4, 2, 4).transpose(1, 2).reshape(4, 16))
    pooled = layer(2, 37, 1, 2.0)
    return [
        layer(0, 36, 0, 1.0),
        layer(1, 40, 4, 2.0),
        replace(shifted, tokens=Tokens(cut, cut)),
        replace(pooled, values=pooled.values[:, :, :1], path="attn_pool"),
        replace(pooled, values=pooled.values[..., :23], path="text"),
    ]


def rollouts() -> list[Record]:
    return [layer(place, 50, 1, place / 2) for place in range(9)]


SHEETS = {
    "gate": gates,
    "mask": masks,
    "planes": planes,
    "selection": selections,
    "transform": transforms,
    "crop": crops,
    "glimpse": glimpses,
    "affinity": affinities,
    "tokens": tokens,
    "rollout": rollouts,
}


def sheet(name: str) -> Picture:
    return draw(SHEETS[name](), photos(), WORDS)


def main() -> None:
    for name in SHEETS:
        image = Image.open(io.BytesIO(sheet(name).png())).convert("RGB")
        path = HERE / f"{name}.png"
        image.quantize(COLOURS).save(path, optimize=True)
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
