"""Bottleneck attention module (Park et al., 2018, eq. 1-5). Mixed domain: channels and positions at once. Soft.

    Mc = norm(W1 relu(W0 mean over H W))                           channels, through C / r (4)
    Ms = norm(f1x1(relu(f3x3(relu(f3x3(relu(f1x1 x)))))))          positions, 3x3 of dilation d (5)
    M = sigmoid(Mc + Ms)                                           (2)
    out = x + M x = (1 + M) x                                      (1)

The module is attached between the stages of a network. The equations show no ReLU; the ReLUs between the layers are
those of the authors' code, without which a branch would be one linear map. A layer before a norm has no bias, since the
norm has one.

The networks released by the authors have another form, `released`: the norms follow the hidden layers instead of the
last layer, and M = sigmoid(Mc Ms).

Departure: a hidden width below 1 is set to 1.
"""

from torch import Tensor, nn

from foveal.core.record import Facts, Tap
from foveal.mechanisms.zero_init_gate import ZeroInitGate
from foveal.ops.pooling import holds_one_image, map_means


class BAM(nn.Module):
    """Bottleneck attention module: scale each channel and position by 1 + M, from 1 to 2.

    Args:
        channels (int): C, number of channels of the map.
        reduction (int): r; the hidden width is C / r.
        dilation (int): d, dilation of the 3x3 convolutions.
        released (bool): use the form of the networks released by the authors.
        identity (bool): start as the identity (see `foveal.mechanisms.zero_init_gate`).

    Shape:
        Input and output: (B, C, H, W).

    Raises:
        ValueError: `channels`, `reduction` or `dilation` below 1; in the forward pass, a training batch of one image,
            over which the norm of the channel branch has no variance.

    >>> import torch
    >>> from foveal.mechanisms.bam import BAM
    >>> BAM(256)(torch.rand(8, 256, 14, 14)).shape
    torch.Size([8, 256, 14, 14])
    """

    attaches = "between"
    domain, hard, paper = "mixed", False, "Park et al., 2018"
    arxiv = "1807.06514"

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        dilation: int = 4,
        *,
        released: bool = False,
        identity: bool = False,
    ):
        super().__init__()
        if min(channels, reduction, dilation) < 1:
            raise ValueError(f"channels={channels}, reduction={reduction}, dilation={dilation}: at least 1 is needed")
        hidden = max(1, channels // reduction)
        self.released = released
        self.channel = branch([nn.Linear(channels, hidden), nn.Linear(hidden, channels)], released)
        self.spatial = branch(
            [
                nn.Conv2d(channels, hidden, 1),
                nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation),
                nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation),
                nn.Conv2d(hidden, 1, 1),
            ],
            released,
        )
        self.strength = ZeroInitGate(identity)
        self.tap = Tap(Facts(mechanism="bam", kind="mask", domain="mixed", axes="B C H W", value_range=(1, 2)))

    def weigh(self, x: Tensor) -> Tensor:
        """Return 1 + M (B, C, H, W) for x (B, C, H, W)."""
        if any(part.training for part in self.channel if isinstance(part, nn.BatchNorm1d)) and holds_one_image(x):
            raise ValueError("bam: a training batch of 1 image; the norm of its channel branch needs two or more")
        channels, positions = self.channel(map_means(x))[:, :, None, None], self.spatial(x)
        logits = channels * positions if self.released else channels + positions
        return self.tap(self.strength(1 + logits.sigmoid()))  # (B, C, H, W) in (1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weigh(x)


def branch(layers: list[nn.Linear] | list[nn.Conv2d], released: bool) -> nn.Sequential:
    """Return the layers with a ReLU between them and norms.

    A norm follows the last layer, or in the released form every layer but the last.
    """
    parts: list[nn.Module] = []
    for layer in layers:
        last = layer is layers[-1]
        parts.append(layer)
        if last != released:
            if not released:
                layer.register_parameter("bias", None)
            parts.append(norm_after(layer))
        if not last:
            parts.append(nn.ReLU())
    return nn.Sequential(*parts)


def norm_after(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    """Return the BatchNorm that fits the output of a layer."""
    return nn.BatchNorm1d(layer.out_features) if isinstance(layer, nn.Linear) else nn.BatchNorm2d(layer.out_channels)
