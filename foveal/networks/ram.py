"""Recurrent attention model (Mnih et al., 2014): a sequence of glimpses at an image, then a classification.

    g_t = relu(Ws relu(Wp rho(x, l_t)) + Wl relu(Wq l_t))        glimpse network, sec. 3: 128 + 128 to 256
    h_t = relu(Wr h_{t-1} + Wj g_t)                              core network, 256
    l_{t+1} ~ N(mu(h_t), std^2), b_t = Wb h_t                    next location, and the expected reward
    y = Wa h_T                                                   logits, after the last glimpse

The reward is 1 for a correct classification and 0 otherwise. The loss is the sum of three terms: the cross-entropy of
the classification; minus the sum over t of log p(l_{t+1} | h_t) (reward - b_t), which is REINFORCE; and the squared
error of the baseline b_t.

Locations are detached, so the policy learns only from the reward. The gradient of the reward continues through the
policy into core and glimpse network, which must encode where to look next (detached from them, the policy did not
find the object in an easy toy problem). The baseline's gradient changes only the baseline. In training, the first
location is uniform over the image, and the following locations are drawn from the policy. Evaluation is deterministic:
the first location is the centre, and the following locations are the policy's means; or `samples` paths are drawn as
in training, from a separate random generator, and their class probabilities are averaged.

Weights are initialized as in He et al. (2015). With PyTorch's default initialization, only a fifteenth of an image's
contribution to the state remains after three layers, and the policy can hardly distinguish images.

Measured on 3,000 cluttered digits of 60x60 pixels, in a minute and a half on one core:

    foveal train --model ram --data digits/cluttered --epochs 80 --lr 1e-3                   24.8, 24.3 % test error
    foveal train --model ram:policy=random --data digits/cluttered --epochs 80 --lr 1e-3     48.5, 47.5 %

for seeds 0 and 1, with six glimpses. (The paper generates an unlimited number of digits: 4.96 % with four glimpses,
14.4 % with eight random ones; `foveal reproduce ram-cluttered` draws 3.6 million.)
"""

from collections.abc import Callable
from math import log
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.mechanisms.glimpse import Glimpse
from foveal.networks.timm_classifier import TimmClassifier

WHAT, WHERE, STATE = 128, 128, 256  # widths of the patch's and of the location's hidden layer, and of g and h
POLICIES = ("learned", "random")
STREAM = 0  # seed of the locations that are drawn in evaluation


class Walk(NamedTuple):
    """Output of a forward pass in training mode, the input of the loss."""

    logits: Tensor  # (B, num_classes)
    path: Tensor  # (B, T, 2): l_t
    expected: Tensor  # (B, T - 1): b_t
    density: Tensor  # (B, T - 1): log p(l_{t+1} | h_t), up to a constant


class RAM(TimmClassifier):
    """Recurrent attention model: images (B, C, H, W) of any size to logits (B, num_classes).

    In training mode, `forward` returns a `Walk`, the input of `loss`.

    Args:
        num_classes: Number of classes.
        in_chans: Channels C of the images.
        glimpses: Number T of glimpses, two or more.
        size: Side g of a patch, in pixels of the patch.
        scales: Number K of patches in a glimpse, each of twice the extent of the previous one.
        std: Standard deviation of the policy, in normalised coordinates.
        policy: "learned", or "random" for the paper's control: every location is uniform over the image; in evaluation
            mode, the locations are the same at each call.
        samples: Number of paths to average over in evaluation mode; 0 uses the policy's mean.

    Raises:
        ValueError: If `glimpses` is below 2, the policy is unknown, `samples` is negative, or `Glimpse` raises one.

    Examples:
        >>> import torch
        >>> from foveal.networks.ram import RAM
        >>> RAM(glimpses=6).eval()(torch.rand(5, 1, 60, 60)).shape
        torch.Size([5, 10])
    """

    classifier = "head"
    pools = ("none",)

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 1,
        glimpses: int = 6,
        size: int = 12,
        scales: int = 3,
        *,
        std: float = 0.2,
        policy: str = "learned",
        samples: int = 0,
    ):
        super().__init__()
        if glimpses < 2:
            raise ValueError(f"glimpses={glimpses}: must be 2 or more, since the policy does not choose the first one")
        if policy not in POLICIES:
            raise ValueError(f"policy={policy!r}: must be {' or '.join(map(repr, POLICIES))}")
        if samples < 0:
            raise ValueError(f"samples={samples}: must be 0 or the number of paths to average over; 0 follows the mean")
        self.glimpses, self.policy, self.samples = glimpses, policy, samples
        self.glimpse = Glimpse(STATE, size, scales, std=std)
        self.patch = nn.Linear(in_chans * scales * size**2, WHAT)
        self.place = nn.Linear(2, WHERE)
        self.what = nn.Linear(WHAT, STATE)
        self.where = nn.Linear(WHERE, STATE)
        self.recall = nn.Linear(STATE, STATE)
        self.join = nn.Linear(STATE, STATE)
        self.baseline = nn.Linear(STATE, 1)
        self.head: nn.Module
        self.set_head(STATE, num_classes, in_chans, global_pool="none")
        for layer in (self.patch, self.place):
            start(layer, "relu")
        for layer in (self.what, self.where, self.recall, self.join):  # halves of a sum
            start(layer, "linear")

    def forward(self, x: Tensor) -> Tensor | Walk:
        drawn = self.training or self.policy == "random" or self.samples > 0
        several = self.samples > 1 and not self.training
        walk = self.walk(x, drawn, self.samples if several else 1)
        self.glimpse.tap(walk.path[: x.shape[0]])  # of several paths the first
        if self.training:
            return walk
        if several:
            each = walk.logits.unflatten(0, (self.samples, -1)).log_softmax(2)
            return each.logsumexp(0) - log(self.samples)
        return walk.logits

    def walk(self, x: Tensor, drawn: bool, paths: int = 1) -> Walk:
        """Take T glimpses at drawn locations (in evaluation from a separate generator) or at the policy's means.

        Of several paths over each image, the Walk has that of image b in the rows b, b + B and so on.
        """
        stream = torch.Generator(x.device).manual_seed(STREAM) if drawn and not self.training else None
        levels = self.glimpse.levels(x)
        count = paths * x.shape[0]
        centre = x.new_zeros(count, 2, dtype=torch.promote_types(x.dtype, torch.float32))
        location = uniform(centre, stream) if drawn else centre
        state = self.step(x.new_zeros(count, STATE), levels, location)
        path, expected, density = [location], [], []
        for _ in range(self.glimpses - 1):
            mean = self.glimpse.weigh(state)
            expected.append(self.baseline(state.detach())[:, 0])
            location, chance = self.glimpse.draw(mean, stream) if drawn else (mean, torch.zeros_like(mean[:, 0]))
            location = uniform(centre, stream) if self.policy == "random" else location
            state = self.step(state, levels, location)
            path.append(location)
            density.append(chance)
        return Walk(self.head(state), torch.stack(path, 1), torch.stack(expected, 1), torch.stack(density, 1))

    def step(self, state: Tensor, levels: list[Tensor], location: Tensor) -> Tensor:
        """Take a glimpse at a location (B, 2), and update the state from h_{t-1} to h_t, both (B, 256)."""
        what = F.relu(self.patch(self.glimpse(levels, location).flatten(1)))
        where = F.relu(self.place(location.to(state.dtype)))
        seen = F.relu(self.what(what) + self.where(where))
        return F.relu(self.recall(state) + self.join(seen))

    def loss(self, outputs: Walk, labels: Tensor, criterion: Callable[..., Tensor]) -> Tensor:
        """Compute the cross-entropy of the logits plus REINFORCE's loss plus the squared error of the baseline."""
        logits, _, expected, density = outputs
        classification = criterion(logits, labels)
        if self.policy == "random":
            return classification
        reward = (logits.argmax(1) == labels).to(expected.dtype)[:, None].expand_as(expected)
        surplus = reward - expected.detach()
        return classification - (density * surplus).sum(1).mean() + F.mse_loss(expected, reward)


def start(layer: nn.Linear, nonlinearity: Literal["relu", "linear"]) -> None:
    """Initialize a linear layer as in He et al. (2015), with bias 0."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity=nonlinearity)
    nn.init.zeros_(layer.bias)


def uniform(like: Tensor, stream: torch.Generator | None) -> Tensor:
    """Draw locations uniformly over images, in normalised coordinates, with the shape (B, 2) and type of `like`."""
    return 2 * torch.rand(like.shape, generator=stream, device=like.device, dtype=like.dtype) - 1
