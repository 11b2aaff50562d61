"""Non-local block (Wang et al., 2018, eq. 1-6). Mixed domain, soft: each position reads all others.

    a_ij = softmax over j of theta(x_i)^T phi(x_j)        embedded Gaussian (4); the sum of each row is 1
    y_i = sum_j a_ij g(x_j)                               (1)
    z_i = W_z y_i + x_i                                   (6), W_z with a BatchNorm that starts at zero: the identity

theta, phi and g are 1x1 convolutions to half the channels. All convolutions are initialized with a standard deviation
of 0.01, as in the authors' code: the logits are not scaled, and with larger weights the softmax of a wide map would be
saturated at initialization.

The paper's other affinities (Gaussian, dot product, concatenation) are left out: the paper finds the four about equally
good.

Departures: keys are pooled before phi and g, as in the paper's equation for subsampling, not after them. Unless the
weights are watched, softmax and sum are one fused operation, which never stores the affinity, as large as the map
squared.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from foveal.core.record import Facts, Tap


class NonLocal(nn.Module):
    """Non-local block: add to each position a mean over all positions, weighted by their similarity.

    Time grows with the square of the number of positions, H W; so does memory while the module is watched (a map of
    56x56 pixels has an affinity of 39 MB for each image).

    Args:
        channels (int): C, number of channels of the map.
        reduction (int): the width of theta, phi and g is C / reduction; 2 in the paper.
        subsample (bool): take the keys from the map after 2x2 max-pooling, a quarter of the work (the paper's
            subsampling trick).

    Shape:
        Input and output: (B, C, H, W).

    Raises:
        ValueError: `channels` or `reduction` below 1.

    >>> import torch
    >>> from foveal.mechanisms.non_local import NonLocal
    >>> NonLocal(256)(torch.rand(8, 256, 14, 14)).shape
    torch.Size([8, 256, 14, 14])
    """

    attaches = "after"
    starts_as_identity = True
    domain, hard, paper = "mixed", False, "Wang et al., 2018"
    arxiv = "1711.07971"

    def __init__(self, channels: int, reduction: int = 2, *, subsample: bool = False):
        super().__init__()
        if channels < 1 or reduction < 1:
            raise ValueError(f"channels={channels}, reduction={reduction}: at least 1 is needed")
        width = max(1, channels // reduction)
        self.theta = nn.Conv2d(channels, width, 1)
        self.phi = nn.Conv2d(channels, width, 1)
        self.g = nn.Conv2d(channels, width, 1)
        self.out = nn.Conv2d(width, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        edge = nn.ConstantPad2d((0, 1, 0, 1), -float("inf"))  # so that an odd last row or column is pooled too
        self.pool = nn.Sequential(edge, nn.MaxPool2d(2)) if subsample else nn.Identity()
        for conv in (self.theta, self.phi, self.g, self.out):
            nn.init.normal_(conv.weight, std=0.01)
        nn.init.zeros_(self.norm.weight)
        facts = Facts(mechanism="non_local", kind="affinity", domain="spatial", axes="B H W Y X", value_range=(0, 1))
        self.tap = Tap(facts)

    def weigh(self, query: Tensor, key: Tensor) -> Tensor:
        """Return the affinity (B, H, W, Y, X) of queries (B, D, H, W) and keys (B, D, Y, X)."""
        weights = (query.flatten(2).mT @ key.flatten(2)).softmax(2)  # sum 1 over the keys
        return self.tap(weights.unflatten(2, key.shape[2:]).unflatten(1, query.shape[2:]))  # (B, H, W, Y, X) in (0, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pool(x)
        query, key, value = self.theta(x), self.phi(pooled), self.g(pooled)
        if self.tap.watched:
            y = self.weigh(query, key).flatten(3).flatten(1, 2) @ value.flatten(2).mT
        else:
            query, key, value = (each.flatten(2).mT.contiguous()[:, None] for each in (query, key, value))
            y = F.scaled_dot_product_attention(query, key, value, scale=1.0)[:, 0]
        return x + self.norm(self.out(y.mT.unflatten(2, x.shape[2:])))
