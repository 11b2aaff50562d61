"""Hard attention by glimpses: the retina and the location policy of the recurrent attention model (Mnih et al., 2014).

    rho(x, l) = K square patches around l, of sides g, 2g, 4g ..., each averaged down to g x g     retina (sec. 3, A)
    mu = tanh(W2 relu(W1 h))                                                                        policy's mean
    l ~ N(mu, std^2), kept inside the image                                                         the next location

Spatial domain, hard: a location is sampled, not weighted, and the only feedback on the choice is a reward. The policy
is trained by REINFORCE: `draw` returns the log-density of its sample, whose gradient, times the reward, is an estimate
of the gradient of the expected reward. The sampled location itself carries no gradient.

The module cannot be attached after a layer: it needs a recurrent network that requests the next location
(`foveal.networks.ram`). It records no weights but a path, once for each forward pass, when the path is complete.

Departures: the policy has a hidden layer of its own (the paper's is linear in h). Its last layer is initialized to
zero, so it starts at the centre, and it learns at a third of the network's rate: as long as the network cannot classify
what it sees, rewards are noise, and at the full rate the policy moved to a corner on noise and did not return. A
sampled location outside the image is moved onto the edge, and keeps the density of the original sample.
"""

from math import inf

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.core.record import Facts, Tap
from foveal.ops.geometry import centres, sample


class Retina(nn.Module):
    """Patches around a location, with decreasing resolution: (B, C, H, W) and (B, 2) to (B, K C, g, g).

    Of several locations in each image, (S B, 2) where row s B + b belongs to image b, the result has S B rows too.

    A patch of side 2^k g is g x g means over 2^k x 2^k pixels. These means are computed once for all locations, with a
    stride of one pixel (`levels`), and sampled between pixels by bilinear interpolation (`forward`). The result equals
    the mean of samples taken between the pixels of the image.

    Args:
        size: g, in pixels.
        scales: K.
        padding: value outside the image.
    """

    def __init__(self, size: int, scales: int, padding: float = 0.0):
        super().__init__()
        self.size, self.scales, self.padding = size, scales, padding

    def levels(self, x: Tensor) -> list[Tensor]:
        """Return the image and its means over 2 x 2, 4 x 4 ... pixels: K maps, each s - 1 pixels larger."""
        levels = [x]
        for k in range(self.scales - 1):
            s = 2**k
            level = F.pad(levels[-1], [s] * 4, value=self.padding)
            level = (level[..., s:] + level[..., :-s]) / 2
            levels.append((level[..., s:, :] + level[..., :-s, :]) / 2)
        return levels

    def forward(self, levels: list[Tensor], location: Tensor) -> Tensor:
        batch, channels, height, width = levels[0].shape
        patches = []
        for k, level in enumerate(levels):
            s = 2**k  # a level is s - 1 pixels larger than the image
            reach = s * self.size * centres(self.size, location)  # (g,), in half pixels
            x = (location[:, :1] * width + reach) / (width + s - 1)  # (B, g)
            y = (location[:, 1:] * height + reach) / (height + s - 1)
            grid = torch.stack([x[:, None].expand(-1, self.size, -1), y[:, :, None].expand(-1, -1, self.size)], dim=3)
            rows = grid.view(-1, batch, self.size, self.size, 2).transpose(0, 1).flatten(1, 2)  # (B, S g, g, 2)
            patch = sample(level, rows, self.padding).view(batch, channels, -1, self.size, self.size)
            patches.append(patch.permute(2, 0, 1, 3, 4).flatten(0, 1))  # (S B, C, g, g)
        return torch.cat(patches, dim=1)

    def extra_repr(self) -> str:
        return f"size={self.size}, scales={self.scales}, padding={self.padding}"


class Glimpse(nn.Module):
    """Glimpse sensor and location policy: look at one location of an image, and choose the next one.

    `levels(x)` prepares the images, `forward` extracts the patches, `weigh` returns the mean of the next location and
    `draw` samples around it; `tap` records the path (B, T, 2). Locations are (x, y), from -1 to 1: see
    `foveal.ops.geometry`.

    Args:
        channels (int): number of channels of the state h, (B, channels), from which the next location is computed.
        size (int): g, side of a patch in its own pixels.
        scales (int): K, number of patches; each shows a region twice as wide as the one before.
        std (float): standard deviation of the policy, in normalised coordinates.
        hidden (int): width of the policy's hidden layer.
        padding (float): value outside the image.

    Shape:
        Input: `levels(x)` for x (B, C, H, W), and locations (B, 2); or (S B, 2), S of each image, as of S copies of x.
        Output: (B, K C, g, g); or (S B, K C, g, g).

    Raises:
        ValueError: `size` or `scales` below 1; `std` not above 0.

    >>> import torch
    >>> from foveal.mechanisms.glimpse import Glimpse
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
        for name, value in (("size", size), ("scales", scales), ("hidden", hidden)):
            if value < 1:
                raise ValueError(f"{name}={value}: at least 1 is needed")
        if not 0 < std < inf:
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
        """Return the maps from which `forward` samples, for x (B, C, H, W)."""
        return self.retina.levels(x)

    def weigh(self, state: Tensor) -> Tensor:
        """Return the mean of the next location (B, 2), in (-1, 1), for a state (B, channels)."""
        mean = self.fc2(F.relu(self.fc1(state)))
        return mean.to(torch.promote_types(mean.dtype, torch.float32)).tanh()  # (B, 2) in (-1, 1)

    def draw(self, mean: Tensor, stream: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Sample a location around the mean (B, 2); return it and its log-density up to a constant, (B,)."""
        noise = torch.randn(mean.shape, generator=stream, device=mean.device, dtype=mean.dtype)
        drawn = mean.detach() + self.std * noise
        return drawn.clamp(-1, 1), -((drawn - mean) ** 2).sum(1) / (2 * self.std**2)

    def forward(self, levels: list[Tensor], location: Tensor) -> Tensor:
        return self.retina(levels, location)
