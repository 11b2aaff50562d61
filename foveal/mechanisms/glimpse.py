"""Hard attention by glimpses: the retina and the location policy of the recurrent attention model (Mnih et al., 2014).

    rho(x, l) = K square patches around l, of sides g, 2g, 4g ..., each averaged down to g x g     retina (sec. 3, A)
    mu = tanh(W2 relu(W1 h))                                                                        policy's mean
    l ~ N(mu, std^2), kept inside the image                                                         the next location

Spatial domain, hard: a place is chosen, not weighed, and what the choice was worth comes back as a reward alone. The
policy learns by REINFORCE: `draw` gives the logarithm of the density of what it drew, whose gradient, times the
reward, is that of the expected reward. The location that is drawn carries no gradient itself.

This is no module to put after a layer: it needs a network that remembers what it saw and asks where to look next
(`foveal.networks.ram`). What it shows is not a weight but a path, told once a pass when it is complete.

Departures: the policy has a hidden layer of its own (the paper's is linear in h). It starts at the centre, by a zero
last layer, and learns at a third of the network's rate: as long as the network cannot read what it sees, rewards are
noise, and at the full rate the policy walked into a corner on noise and stayed there. A location that is drawn beyond
the image's edge is moved onto the edge, and keeps the density of what was drawn.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.core.record import Facts, Tap
from foveal.ops.geometry import centres, sample


class Retina(nn.Module):
    """Patches around a location, sharp in the middle: (B, C, H, W) and (B, 2) to (B, K C, g, g).

    A patch of side 2^k g is g x g means over 2^k x 2^k pixels. These means are taken once for all locations, with a
    stride of one pixel (`levels`), and read off between pixels by bilinear interpolation (`forward`): the same as to
    average what is read off between the pixels of the image.

    Args:
        size: g, in pixels.
        scales: K.
        padding: the value that lies outside the image.
    """

    def __init__(self, size: int, scales: int, padding: float = 0.0):
        super().__init__()
        self.size, self.scales, self.padding = size, scales, padding

    def levels(self, x: Tensor) -> list[Tensor]:
        """The image and its means over 2 x 2, 4 x 4 ... pixels: K maps, each s - 1 pixels larger than the image."""
        levels = [x]
        for k in range(self.scales - 1):
            s = 2**k
            level = F.pad(levels[-1], [s] * 4, value=self.padding)
            level = (level[..., s:] + level[..., :-s]) / 2
            levels.append((level[..., s:, :] + level[..., :-s, :]) / 2)
        return levels

    def forward(self, levels: list[Tensor], location: Tensor) -> Tensor:
        height, width = levels[0].shape[2:]
        patches = []
        for k, level in enumerate(levels):
            s = 2**k  # a level is s - 1 pixels larger than the image
            reach = s * self.size * centres(self.size, location)  # (g,), in half pixels
            x = (location[:, :1] * width + reach) / (width + s - 1)  # (B, g)
            y = (location[:, 1:] * height + reach) / (height + s - 1)
            grid = torch.stack([x[:, None].expand(-1, self.size, -1), y[:, :, None].expand(-1, -1, self.size)], dim=3)
            patches.append(sample(level, grid, self.padding))
        return torch.cat(patches, dim=1)

    def extra_repr(self) -> str:
        return f"size={self.size}, scales={self.scales}, padding={self.padding}"


class Glimpse(nn.Module):
    """Look at one place of an image, and say where to look next.

    `levels(x)` prepares the images, `forward` looks, `weigh` says the mean of the next location and `draw` draws
    around it; `tap` shows the path (B, T, 2). Locations are (x, y), from -1 to 1: see `foveal.ops.geometry`.

    Args:
        channels: of the state h, (B, channels), out of which the next location is said.
        size: g, the side of a patch in its own pixels.
        scales: K, how many patches; each shows a region twice as wide as the one before.
        std: of the policy, in normalised coordinates.
        hidden: width of the policy's hidden layer.
        padding: the value that lies outside the image.

    Raises:
        ValueError: `size` or `scales` below 1, `std` not above 0.

    >>> glimpse = Glimpse(256, size=8, scales=3)
    >>> glimpse(glimpse.levels(torch.rand(5, 1, 60, 60)), torch.zeros(5, 2)).shape
    torch.Size([5, 3, 8, 8])
    """

    attaches = "network"
    lr_scale = 0.3  # of the network's learning rate
    domain, hard, paper = "spatial", True, "Mnih et al., 2014"
    arxiv = "1406.6247"

    def __init__(
        self,
        channels: int,
        size: int = 8,
        scales: int = 1,
        *,
        std: float = 0.2,
        hidden: int = 128,
        padding: float = 0.0,
    ):
        super().__init__()
        for name, value in (("size", size), ("scales", scales)):
            if value < 1:
                raise ValueError(f"{name}={value}: at least 1 is needed")
        if std <= 0:
            raise ValueError(f"std={std}: above 0 is needed, for a policy that explores")
        self.std = std
        self.retina = Retina(size, scales, padding)
        self.fc1 = nn.Linear(channels, hidden)
        nn.init.kaiming_normal_(self.fc1.weight, nonlinearity="relu")
        self.fc2 = nn.Linear(hidden, 2)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)
        self.tap = Tap(
            Facts(
                mechanism="glimpse",
                kind="glimpse",
                domain="spatial",
                axes="B T 2",
                value_range=(-1, 1),
                hard=True,
                size=(size, size),
            )
        )

    def levels(self, x: Tensor) -> list[Tensor]:
        return self.retina.levels(x)

    def weigh(self, state: Tensor) -> Tensor:
        mean = self.fc2(F.relu(self.fc1(state)))
        return mean.to(torch.promote_types(mean.dtype, torch.float32)).tanh()  # (B, 2) in (-1, 1)

    def draw(self, mean: Tensor, stream: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """A location around the mean (B, 2), and the logarithm of its density, but for a constant, (B,)."""
        noise = torch.randn(mean.shape, generator=stream, device=mean.device, dtype=mean.dtype)
        drawn = mean.detach() + self.std * noise
        return drawn.clamp(-1, 1), -((drawn - mean) ** 2).sum(1) / (2 * self.std**2)

    def forward(self, levels: list[Tensor], location: Tensor) -> Tensor:
        return self.retina(levels, location)
