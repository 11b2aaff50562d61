"""Digit network with spatial transformers: a transformer in front of two convolutions and two linear layers.

The architecture is that of the study note named in the README. The transformer's output has 28x28 pixels for every
input, so the network accepts images of any size. With several parallel transformers it is the paper's network for the
addition of two digits (Jaderberg et al., 2015, A.1).

Departures from the note: the output is logits, not their log-softmax; the localisation network is `Localisation`;
samples outside the image take the value of its border.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from foveal.mechanisms.spatial_transformer import SpatialTransformer
from foveal.networks.parallel_transformers import ParallelTransformers

SIDE = 28


class STNCNN(nn.Module):
    """Digit network with spatial transformers: images (B, C, H, W) of any size to logits (B, num_classes).

    Args:
        num_classes: Number of classes.
        in_chans: Channels C of the images.
        transformers: Number of transformers: one affine transformer, or several that each show a part of the image.
    """

    def __init__(self, num_classes: int = 10, in_chans: int = 1, transformers: int = 1):
        super().__init__()
        one = transformers == 1
        self.stn = SpatialTransformer(in_chans, SIDE) if one else ParallelTransformers(in_chans, transformers, SIDE)
        self.conv1 = nn.Conv2d(transformers * in_chans, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.drop = nn.Dropout2d()
        self.fc1 = nn.Linear(20 * 4 * 4, 50)
        self.fc2 = nn.Linear(50, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stn(x)  # (B, C, 28, 28); for N transformers (B, N C, 28, 28)
        x = F.relu(F.max_pool2d(self.conv1(x), 2))  # (B, 10, 12, 12)
        x = F.relu(F.max_pool2d(self.drop(self.conv2(x)), 2))  # (B, 20, 4, 4)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(F.dropout(x, training=self.training))
