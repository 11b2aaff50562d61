"""The recurrent attention model (Mnih et al., 2014): a few glimpses at an image, one after the other, then an answer.

    g_t = relu(Ws relu(Wp rho(x, l_t)) + Wl relu(Wq l_t))        glimpse network, sec. 3: 128 + 128 to 256
    h_t = relu(Wr h_{t-1} + Wj g_t)                              core network, 256
    l_{t+1} ~ N(mu(h_t), std^2), b_t = Wb h_t                    where to look next, and the reward to expect
    y = Wa h_T                                                   the answer, after the last glimpse

The reward is 1 for a right answer and 0 for a wrong one. What is minimised is the cross-entropy of the answer; minus
the sum over t of log p(l_{t+1} | h_t) (reward - b_t), which is REINFORCE; and the squared error of the baseline b_t.

Locations are detached, so that the policy learns from the reward alone; the reward's gradient goes on, through the
policy, into core and glimpse network, which must keep what tells where to look next (detached from them, the policy
did not find the object of an easy toy). The baseline teaches nobody but itself. In training the first location is
uniform over the image and those that follow are drawn from the policy. In evaluation all is deterministic: it begins
in the centre and follows the policy's mean; or `samples` paths are drawn as in training, from a stream of their own,
and the probabilities that they end in are averaged.

Weights start as He et al. (2015) say. Under PyTorch's own start three layers leave a fifteenth of what an image adds
to the state, and the policy can hardly tell images apart.

Measured, on 3,000 cluttered digits of 60x60 pixels, in a minute and a half of one core:

    foveal train --model ram --data digits/cluttered --epochs 80 --lr 1e-3                   24.8, 24.3 % test error
    foveal train --model ram:policy=random --data digits/cluttered --epochs 80 --lr 1e-3     48.5, 47.5 %

for seeds 0 and 1, with six glimpses. (The paper has endless digits: 4.96 % with four glimpses, 14.4 % with eight random
ones.)
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.mechanisms.glimpse import Glimpse

WHAT, WHERE, STATE = 128, 128, 256  # widths, of the patch's and of the place's hidden layer, and of g and h
POLICIES = ("learned", "random")
STREAM = 0  # seed of what is drawn in evaluation


class Walk(NamedTuple):
    """What a training pass hands to the loss."""

    logits: Tensor  # (B, num_classes)
    path: Tensor  # (B, T, 2): l_t
    expected: Tensor  # (B, T - 1): b_t
    density: Tensor  # (B, T - 1): log p(l_{t+1} | h_t), but for a constant


class RAM(nn.Module):
    """Images (B, C, H, W) of any size to logits (B, num_classes); in training to a `Walk`, which `loss` takes.

    Args:
        num_classes: of the answer.
        in_chans: C, of the images.
        glimpses: T.
        size: g, side of a patch in its own pixels.
        scales: K, patches a glimpse, each of twice the extent of the one before.
        std: of the policy, in normalised coordinates.
        policy: "learned", or "random" for the paper's control: every location uniform over the image, in evaluation
            the same ones at each call.
        samples: paths to average over in evaluation; 0 follows the policy's mean.

    Raises:
        ValueError: fewer than two glimpses, another policy, negative `samples`, and what `Glimpse` raises.

    >>> RAM(glimpses=6).eval()(torch.rand(5, 1, 60, 60)).shape
    torch.Size([5, 10])
    """

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
            raise ValueError(f"glimpses={glimpses}: two or more; the first place is not chosen")
        if policy not in POLICIES:
            raise ValueError(f"policy={policy!r}: {' or '.join(POLICIES)}")
        if samples < 0:
            raise ValueError(f"samples={samples}: 0 for the policy's mean, or how many paths to average over")
        self.glimpses, self.policy, self.samples = glimpses, policy, samples
        self.glimpse = Glimpse(STATE, size, scales, std=std)
        self.patch = nn.Linear(in_chans * scales * size**2, WHAT)
        self.place = nn.Linear(2, WHERE)
        self.what = nn.Linear(WHAT, STATE)
        self.where = nn.Linear(WHERE, STATE)
        self.recall = nn.Linear(STATE, STATE)
        self.join = nn.Linear(STATE, STATE)
        self.baseline = nn.Linear(STATE, 1)
        self.head = nn.Linear(STATE, num_classes)
        for layer in (self.patch, self.place):
            start(layer, "relu")
        for layer in (self.what, self.where, self.recall, self.join):  # halves of a sum
            start(layer, "linear")

    def forward(self, x: Tensor) -> Tensor | Walk:
        drawn = self.training or self.policy == "random" or self.samples > 0
        several = self.samples > 1 and not self.training
        walk = self.walk(x.repeat(self.samples, 1, 1, 1) if several else x, drawn)
        self.glimpse.tap(walk.path[: x.shape[0]])  # of several paths the first
        if self.training:
            return walk
        if several:
            return walk.logits.unflatten(0, (self.samples, -1)).softmax(2).mean(0).log()
        return walk.logits

    def walk(self, x: Tensor, drawn: bool) -> Walk:
        """Look T times: at places that are drawn, in evaluation from a stream of their own, or at the means."""
        stream = torch.Generator(x.device).manual_seed(STREAM) if drawn and not self.training else None
        levels = self.glimpse.levels(x)
        location = uniform(x, stream) if drawn else x.new_zeros(x.shape[0], 2)
        state = self.step(x.new_zeros(x.shape[0], STATE), levels, location)
        path, expected, density = [location], [], []
        for _ in range(self.glimpses - 1):
            mean = self.glimpse.weigh(state)
            expected.append(self.baseline(state.detach())[:, 0])
            location, chance = self.glimpse.draw(mean, stream) if drawn else (mean, torch.zeros_like(mean[:, 0]))
            location = uniform(x, stream) if self.policy == "random" else location
            state = self.step(state, levels, location)
            path.append(location)
            density.append(chance)
        return Walk(self.head(state), torch.stack(path, 1), torch.stack(expected, 1), torch.stack(density, 1))

    def step(self, state: Tensor, levels: list[Tensor], location: Tensor) -> Tensor:
        """Look at a location (B, 2): from h_{t-1} to h_t, both (B, 256)."""
        what = F.relu(self.patch(self.glimpse(levels, location).flatten(1)))
        where = F.relu(self.place(location))
        seen = F.relu(self.what(what) + self.where(where))
        return F.relu(self.recall(state) + self.join(seen))

    def loss(self, outputs: Walk, labels: Tensor, criterion: Callable[..., Tensor]) -> Tensor:
        """Cross-entropy of the answer, REINFORCE for the policy, squared error of the baseline."""
        logits, _, expected, density = outputs
        answer = criterion(logits, labels)
        if self.policy == "random":
            return answer
        reward = (logits.argmax(1) == labels).to(expected.dtype)[:, None].expand_as(expected)
        surplus = reward - expected.detach()
        return answer - (density * surplus).sum(1).mean() + F.mse_loss(expected, reward)


def start(layer: nn.Linear, nonlinearity: Literal["relu", "linear"]) -> None:
    nn.init.kaiming_normal_(layer.weight, nonlinearity=nonlinearity)
    nn.init.zeros_(layer.bias)


def uniform(x: Tensor, stream: torch.Generator | None) -> Tensor:
    """A location for each image, anywhere in it: (B, 2)."""
    return 2 * torch.rand(x.shape[0], 2, generator=stream, device=x.device) - 1
