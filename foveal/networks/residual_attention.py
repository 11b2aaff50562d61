"""Residual attention network (Wang et al., 2017): attention modules between residual units that downsample by 2.

An attention module is a residual unit, a trunk of two units weighted by the mask of
`foveal.mechanisms.residual_mask.ResidualMask`, and a unit (the paper's p = 1, t = 2, r = 1). The mask branches
downsample by 2 three times, twice and once in the three stages.

                         modules    parameters (paper)    multiplications with addition (paper)
    attention56          1, 1, 1    31.81 M (31.9 M)      6.27 G (6.2 G), 224 pixels
    attention92          1, 2, 3    52.47 M (51.3 M)      10.53 G (10.4 G), 224 pixels
    attention92_cifar    2, 2, 2    1.96 M (1.9 M)        0.21 G, 32 pixels

Widths, units and masks are those of the authors' network descriptions. Their Attention-92 has 1.2 M parameters more
than the paper's table reports; the reason is not documented.

For CIFAR, the paper describes no layers. Ours have the widths of the ResNet-164 that the paper compares with: 64, 128
and 256 channels at 32, 16 and 8 pixels; the last three units have the shape of the third stage. With the paper's p, t
and r this gives 1.96 M parameters in 92 layers and 5.20 M in 236 (paper: 5.1 M), but 10.07 M in 452 (paper: 8.6 M), so
the paper's 452-layer network must differ.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from foveal.mechanisms.residual_mask import ResidualMask, ResidualUnit
from foveal.networks.timm_classifier import TimmClassifier, check_stages

DEPTHS = (3, 2, 1)  # number of downsamplings of the mask branch, by stage


class AttentionModule(nn.Module):
    """Attention module: residual unit, trunk weighted by its mask, residual unit. Keeps the shape (B, C, H, W)."""

    def __init__(self, channels: int, depth: int):
        super().__init__()
        self.before = ResidualUnit(channels)
        self.trunk = nn.Sequential(ResidualUnit(channels), ResidualUnit(channels))
        self.mask = ResidualMask(channels, depth)
        self.after = ResidualUnit(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        return self.after(self.mask(x, self.trunk(x)))


class ResidualAttentionNetwork(TimmClassifier):
    """Residual attention network: images (B, C, H, W) of any size to logits (B, num_classes).

    Args:
        num_classes: Number of classes.
        in_chans: Channels C of the images.
        modules: Number of attention modules in each of the three stages, 1 or more.
        cifar: Use the variant for images of about 32 pixels.
        global_pool: "avg", "max", or "" for none.
        drop_rate: Dropout before the last layer.

    Raises:
        ValueError: If `modules` is not three whole numbers of 1 or more; another `global_pool`.
    """

    classifier = "head"
    trunk = ("stem", "stages")
    can_checkpoint = True

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        *,
        modules: tuple[int, int, int] = (1, 1, 1),
        cifar: bool = False,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ):
        super().__init__()
        check_stages("modules", modules)
        first, *widths, last = (16, 64, 128, 256, 256) if cifar else (64, 256, 512, 1024, 2048)
        self.stem = small_stem(in_chans, first) if cifar else stem(in_chans, first)
        self.stages = nn.Sequential()
        channels = first
        for width, stride, depth, count in zip(widths, (1, 2, 2), DEPTHS, modules, strict=True):
            rest = (AttentionModule(width, depth) for _ in range(count))
            self.stages.append(nn.Sequential(ResidualUnit(channels, width, stride), *rest))
            channels = width
        end = ResidualUnit(channels, last, stride=1 if last == channels else 2)
        self.stages.append(nn.Sequential(end, ResidualUnit(last), ResidualUnit(last)))
        self.norm: nn.Module = nn.BatchNorm2d(last)
        self.set_head(last, num_classes, in_chans, global_pool=global_pool, drop_rate=drop_rate)
        reductions = (1, 1, 2, 4, 4) if cifar else (2, 4, 8, 16, 32)
        names = ("stem.2", *(f"stages.{index}" for index in range(4)))
        self.feature_info = [
            {"num_chs": width, "reduction": reduction, "module": name}
            for width, reduction, name in zip((first, *widths, last), reductions, names, strict=True)
        ]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        blocks = r"^stages\.(\d+)" if coarse else [(r"^stages\.(\d+)\.(\d+)", None), (r"^norm", (99999,))]
        return {"stem": r"^stem", "blocks": blocks}

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.finish(self.run_stages([*self.stages], x) if self.grad_checkpointing else self.stages(x))

    def finish(self, x: Tensor) -> Tensor:
        return x if isinstance(self.norm, nn.Identity) else F.relu(self.norm(x))

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        taken = super().prune_intermediate_layers(indices, prune_norm, prune_head)
        if prune_norm or max(taken) < len(self.feature_info) - 1:  # the norm is that of the last stage
            self.norm = nn.Identity()
        return taken


def stem(in_chans: int, width: int) -> nn.Sequential:
    """Create the stem that downsamples an image by 4."""
    conv = nn.Conv2d(in_chans, width, 7, stride=2, padding=3, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1))


def small_stem(in_chans: int, width: int) -> nn.Sequential:
    """Create the stem that keeps the size of an image."""
    return nn.Sequential(nn.Conv2d(in_chans, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
