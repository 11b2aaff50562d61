"""Squeeze-and-Excitation (Hu et al., 2018, eq. 2-4). Channel domain, soft.

    z = mean of x over H and W            squeeze (2)
    g = sigmoid(W2 relu(W1 z))            excitation (3)
    out = g x                             scale (4)

Departures: a hidden width below 1 is set to 1 (8 channels at a reduction of 16 would leave a width of 0 and a constant
gate).
"""

from torch import Tensor, nn
from torch.nn import functional as F

from foveal.core.record import Facts, Tap
from foveal.mechanisms.zero_init_gate import ZeroInitGate
from foveal.ops.pooling import map_means


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation: scale each channel by a gate in (0, 1) that depends on the means of all channels.

    Args:
        channels (int): C, number of channels of the map.
        reduction (int): r; the hidden width is C / r, as in the paper.
        bias (bool): True as in the paper's Table 2 and its released networks; False as in its Tables 10 to 16.
        divisor (int, optional): round the hidden width to a multiple of this, at least once this, as timm does with 8.
        identity (bool): start as the identity (see `foveal.mechanisms.zero_init_gate`).

    Shape:
        Input and output: (B, C, H, W).

    Raises:
        ValueError: `channels`, `reduction` or `divisor` below 1.

    >>> import torch
    >>> from foveal.mechanisms.squeeze_excite import SqueezeExcite
    >>> SqueezeExcite(256)(torch.rand(8, 256, 14, 14)).shape
    torch.Size([8, 256, 14, 14])
    """

    attaches = "after"
    domain, hard, paper = "channel", False, "Hu et al., 2018"
    arxiv = "1709.01507"

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        *,
        bias: bool = True,
        divisor: int | None = None,
        identity: bool = False,
    ):
        super().__init__()
        hidden = hidden_width(channels, reduction, divisor)
        self.fc1 = nn.Linear(channels, hidden, bias=bias)
        self.fc2 = nn.Linear(hidden, channels, bias=bias)
        self.strength = ZeroInitGate(identity)
        self.tap = Tap(Facts(mechanism="squeeze_excite", kind="gate", domain="channel", axes="B C", value_range=(0, 1)))

    def weigh(self, x: Tensor) -> Tensor:
        """Return the gates (B, C) in (0, 1) for x (B, C, H, W)."""
        z = map_means(x)  # (B, C)
        gate = self.fc2(F.relu(self.fc1(z))).sigmoid()
        return self.tap(self.strength(gate))  # (B, C) in (0, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weigh(x)[:, :, None, None]

    def forward_(self, x: Tensor) -> Tensor:
        """In-place forward; the caller must own `x`."""
        return x.mul_(self.weigh(x)[:, :, None, None])


def hidden_width(channels: int, reduction: int, divisor: int | None = None) -> int:
    """Return C / r, at least 1; with a `divisor`, rounded to its nearest multiple, at least once the divisor.

    Raises:
        ValueError: `channels`, `reduction` or `divisor` below 1.
    """
    for name, value in (("channels", channels), ("reduction", reduction)):
        if value < 1:
            raise ValueError(f"{name}={value}: at least 1 is needed")
    if divisor is not None and divisor < 1:
        raise ValueError(f"divisor={divisor}: at least 1 is needed")
    if divisor is None:
        return max(1, channels // reduction)
    return max(divisor, int(channels / reduction + divisor / 2) // divisor * divisor)
