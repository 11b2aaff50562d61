"""Hard crop: differentiable patch selection (Cordonnier et al., 2021, sec. 3). Spatial domain, hard.

    s = scorer(image made small), brought to [0, 1]    a score for each candidate
    Y = top-k(s)                                       in evaluation: the k best candidates are cut
    Y = E[top-k(s + sigma Z)], Z normal                in training (Berthet et al., 2020)
    dY/ds = E[top-k(s + sigma Z) Z^T] / sigma          by the same samples of Z
    patch_k = sum_n Y_kn candidate_n

In training a patch is thus a mean over the candidates that noisy scores select: a blend at first, a single candidate
once the scores are far apart. In evaluation there is no noise.

Every pixel of the score map represents the patch around its centre, moved into the image where it would extend beyond
the edge; neighbours overlap by about half. Only the patches pass through the network, so a large image costs as much as
its patches and a small scorer: with four patches of 64 of 1,024 pixels, ResNet-18 saves 2.4 % of the bytes for its
backward pass, and takes 5 % of the time for training and for inference.

Departures: the k patches are placed side by side in one image (four: two by two), in the order of their positions, so
that any classifier accepts them and its own pooling combines them; the paper runs its network on each patch and pools
the outputs. Sigma is constant, whereas the paper decreases it to 0. The mean over the samples is subtracted from the
gradient, which reduces its variance.

Results to expect: `foveal train --model small_cnn+hard_crop:size=64 --data digits/scene` (256x256 pixels, a digit of 28
among 40 pieces of others, 3,000 training images) classifies 91.7 % of the test set correctly after 64 s on one
processor core; the crop contains the whole digit in 93.0 % of the images, a random candidate in 4.1 %. With
`size=32,patches=4`: 93.3 %, 84 s. The same network on random crops: 11.3 %; on the image at a quarter of its side: 39.9
%; on the whole image: 94.0 % after a run of six epochs, not eleven, and 331 s. (One run each.)
"""

from dataclasses import replace
from math import inf, isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.core.record import Facts, Tap
from foveal.ops.geometry import affine_grid, sample

SCORED = 16  # pixels to which the scorer reduces a patch's side; three halvings leave two scores
EVEN = 1e-5  # added to the range of an image's scores, which is zero where all scores are equal


class Scorer(nn.Module):
    """Scores of the candidates: images (B, C, H, W) to (B, H', W') from 0 to 1, two scores to a patch's side."""

    def __init__(self, channels: int, size: int, width: int = 16):
        super().__init__()
        self.pool = nn.AvgPool2d(size // SCORED)
        self.conv1 = nn.Conv2d(channels, width, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width, width, 4, stride=2, padding=1)
        self.conv3 = nn.Conv2d(width, width, 4, stride=2, padding=1)
        self.score = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu(conv(x))
        scores = self.score(x)[:, 0]
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        low, high = (bound((1, 2), keepdim=True) for bound in (scores.amin, scores.amax))
        return (scores - low) / (high - low + EVEN)


class HardCrop(nn.Module):
    """Hard crop: pass the k most relevant patches of an image to the network, and nothing else of it.

    The module cannot start as the identity: the network sees other pixels from the first step.

    Args:
        channels (int): C, number of channels of the images.
        size (int): side of a patch, in pixels: about twice that of the objects it should contain, since candidates
            overlap by half.
        patches (int): k.
        sigma (float): standard deviation of the noise on the scores.
        samples (int): number of samples of the noise, two or more.

    Shape:
        Input: (B, C, H, W).
        Output: (B, C, R size, k / R size), R the largest divisor of k up to its square root.

    Raises:
        ValueError: `size` below 16 pixels; `patches` or `sigma` not above 0; fewer than two `samples`; in the forward
            pass, an image smaller than a patch, or with fewer candidates than patches.

    >>> import torch
    >>> from foveal.mechanisms.hard_crop import HardCrop
    >>> HardCrop(3, size=64, patches=4)(torch.rand(2, 3, 500, 500)).shape
    torch.Size([2, 3, 128, 128])
    """

    attaches = "before"
    domain, hard, paper = "spatial", True, "Cordonnier et al., 2021"
    arxiv = "2104.03059"

    def __init__(self, channels: int, size: int = 64, patches: int = 1, *, sigma: float = 0.05, samples: int = 100):
        super().__init__()
        if size < SCORED:
            raise ValueError(f"size={size}: a patch of at least {SCORED} pixels is needed")
        if patches < 1 or not 0 < sigma < inf:
            raise ValueError(f"patches={patches}, sigma={sigma}: numbers above 0 are needed")
        if samples < 2:
            raise ValueError(f"samples={samples}: two or more are needed, since each is compared with their mean")
        self.size, self.patches, self.sigma, self.samples = size, patches, sigma, samples
        self.scorer = Scorer(channels, size)
        facts = Facts(mechanism="hard_crop", kind="mask", domain="spatial", axes="B H W", value_range=(0, 1), hard=True)
        self.scores = Tap(facts)
        self.crops = Tap(replace(facts, kind="crop", axes="B K 2 3", value_range=(-1, 1), size=(size, size)))

    def weigh(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the score of each candidate (B, H', W'), and the transforms of the k best (B, K, 2, 3)."""
        height, width = x.shape[2:]
        if min(height, width) < self.size:
            raise ValueError(f"hard crop: {height}x{width} pixels are less than a patch of size={self.size}")
        scores = self.scores(self.scorer(x))
        candidates = scores.shape[1] * scores.shape[2]
        if candidates < self.patches:
            raise ValueError(f"hard crop: {height}x{width} pixels hold {candidates} candidates, patches={self.patches}")
        chosen = self.origins(x, scores)[top_k(scores.flatten(1), self.patches)]  # (B, K, 2)
        return scores, self.crops(windows(chosen, self.size, height, width))

    def forward(self, x: Tensor) -> Tensor:
        scores, theta = self.weigh(x)
        return self.blend(x, scores) if self.training else self.cut(x, theta)

    def cut(self, x: Tensor, theta: Tensor) -> Tensor:
        """Cut the patches that the transforms show."""
        grids = affine_grid(theta.flatten(0, 1), self.size, self.size).unflatten(0, theta.shape[:2])
        return sample(x, side_by_side(grids))

    def blend(self, x: Tensor, scores: Tensor) -> Tensor:
        """Return the expected patches under noise on the scores."""
        shares = perturbed_top_k(scores.flatten(1), self.patches, self.sigma, self.samples).to(x.dtype)
        mixed = side_by_side(mix(x, shares, self.origins(x, scores), self.size)).permute(0, 3, 1, 2)
        layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
        return mixed.contiguous(memory_format=layout)

    def origins(self, x: Tensor, scores: Tensor) -> Tensor:
        """Return the upper left pixel (x, y) of each candidate: (N, 2)."""
        rows, columns = scores.shape[1:]
        top = starts(rows, x.shape[2], self.size, x.device)[:, None].expand(rows, columns)
        left = starts(columns, x.shape[3], self.size, x.device).expand(rows, columns)
        return torch.stack([left, top], dim=2).flatten(0, 1)


def starts(count: int, length: int, size: int, device: torch.device) -> Tensor:
    """Return the first pixels of `count` pieces of one size, centres spread evenly, clamped to the length."""
    centres = (2 * torch.arange(count, device=device) + 1) * length // (2 * count)
    return (centres - size // 2).clamp(0, length - size)


def top_k(scores: Tensor, k: int) -> Tensor:
    """Return the indices of the k largest values in the last dimension, in increasing order."""
    return scores.topk(k).indices.sort().values


def perturbed_top_k(scores: Tensor, k: int, sigma: float, samples: int) -> Tensor:
    """Return how often noisy scores (B, N) select each candidate as their first, second, ... k-th: (B, K, N).

    A sample counts 1, multiplied by 1 + l - l, where only the first l has a gradient: that of the log-density of its
    noise, z / sigma. Summed over samples this is the gradient of Berthet et al.
    """
    noise = torch.randn(len(scores), samples, scores.shape[1], device=scores.device, dtype=scores.dtype)
    chosen = top_k(scores.detach()[:, None] + sigma * noise, k)  # (B, M, K)
    pull = ((noise - noise.mean(1, keepdim=True)) * scores[:, None]).sum(2) / sigma  # (B, M)
    counts = ((1 + pull - pull.detach()) / samples)[:, None].expand(-1, k, -1)
    return scores.new_zeros(len(scores), k, scores.shape[1]).scatter_add(2, chosen.mT, counts)


def mix(x: Tensor, shares: Tensor, origins: Tensor, size: int) -> Tensor:
    """Sum the candidates of x (B, C, H, W), weighted by their shares (B, K, N): (B, K, size, size, C).

    Only candidates with a share are cut, for every image as many as the image with the most such candidates needs:
    usually a few.
    """
    share = shares.sum(1)
    chosen = share.topk(int((share > 0).sum(1).max())).indices  # (B, N') of N
    within = torch.arange(size, device=x.device)
    left, top = origins[chosen][..., None, None].unbind(2)  # (B, N', 1, 1) each
    image = torch.arange(len(x), device=x.device)[:, None, None, None]
    candidates = x.permute(0, 2, 3, 1)[image, top + within[:, None], left + within]  # (B, N', size, size, C)
    weights = shares.gather(2, chosen[:, None].expand(-1, shares.shape[1], -1))
    return (weights @ candidates.flatten(2)).unflatten(2, candidates.shape[2:])


def side_by_side(patches: Tensor) -> Tensor:
    """Tile patches (B, K, P, P, D) to one image (B, R P, K / R P, D), R the largest divisor of K up to its root."""
    count = patches.shape[1]
    rows = next(rows for rows in range(isqrt(count), 0, -1) if count % rows == 0)
    return patches.unflatten(1, (rows, -1)).transpose(2, 3).flatten(3, 4).flatten(1, 2)


def windows(origins: Tensor, size: int, height: int, width: int) -> Tensor:
    """Return the transforms (B, K, 2, 3) that show squares of an image with these upper left pixels (B, K, 2)."""
    left, top = origins.unbind(2)
    zero = torch.zeros_like(left, dtype=torch.float32)
    x, y = (2 * left + size) / width - 1, (2 * top + size) / height - 1
    return torch.stack([zero + size / width, zero, x, zero, zero + size / height, y], dim=-1).unflatten(-1, (2, 3))
