"""Digit network with spatial transformers: a transformer in front of two convolutions and two linear layers.

The architecture is that of the study note named in the README. The transformer's output has 28x28 pixels for every
input, so the network accepts images of any size. Several parallel transformers each show a part of the image
(Jaderberg et al., 2015, sec. 4.3).

Departures from the note: the output is logits, not their log-softmax; the localisation network is `Localisation`;
samples outside the image take the value of its border. `localisation="note", padding=0` has neither of the
last two: for images of 28x28 pixels it is the note's network, and `foveal.load_weights` reads its weights.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from foveal.core.names import lookup
from foveal.mechanisms.spatial_transformer import LOCALISATIONS, SpatialTransformer, constant
from foveal.networks.parallel_transformers import ParallelTransformers
from foveal.networks.timm_classifier import TimmClassifier
from foveal.ops.warps import FAMILIES

SIDE = 28


class NoteLocalisation(nn.Module):
    """The note's localisation net: (B, C, H, W) to a family's numbers (B, N).

    Two convolutions, each with max pooling, and two linear layers, for images of 28x28 pixels. An image of another size
    is interpolated to it first (a departure: the note's net accepts no other size).

    Args:
        channels: C, number of input channels.
        start: the N numbers returned at initialization for every input; by default theta's identity.
    """

    def __init__(self, channels: int, start: tuple[float, ...] = FAMILIES["affine"].identity):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 8, kernel_size=7),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(8, 10, kernel_size=5),
            nn.MaxPool2d(2),
            nn.ReLU(),
        )
        self.regression = nn.Sequential(nn.Linear(10 * 3 * 3, 32), nn.ReLU(), constant(32, start))

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, (SIDE, SIDE), mode="bilinear")  # at 28x28 the same values
        return self.regression(self.features(x).flatten(1))


NETS = {**LOCALISATIONS, "note": NoteLocalisation}


class STNCNN(TimmClassifier):
    """Digit network with spatial transformers: images (B, C, H, W) of any size to logits (B, num_classes).

    Args:
        num_classes: Number of classes.
        in_chans: Channels C of the images.
        transformers: Number of transformers: one affine transformer, or several that each show a part of the image.
        localisation: Localisation net, "note" (`NoteLocalisation`), or one of those of a `SpatialTransformer`.
        padding: "border", or the value outside the image; 0 in the note.
        drop_rate: Dropout before the last layer.

    Raises:
        ValueError: Another `localisation` or `padding`; `transformers` below 1.
    """

    classifier = "fc2"
    pools = ("flatten",)

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 1,
        transformers: int = 1,
        *,
        localisation: str = "moments",
        padding: str | float = "border",
        drop_rate: float = 0.5,
    ):
        super().__init__()
        net = lookup("localisation", localisation, NETS)
        self.stn: nn.Module
        if transformers == 1:
            self.stn = SpatialTransformer(
                in_chans, SIDE, padding=padding, localisation=net(in_chans, FAMILIES["affine"].identity)
            )
        else:
            self.stn = ParallelTransformers(in_chans, transformers, SIDE, padding=padding, localisation=net)
        self.conv1 = nn.Conv2d(transformers * in_chans, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.drop = nn.Dropout2d()
        self.fc1 = nn.Linear(20 * 4 * 4, 50)
        self.fc2: nn.Module
        self.set_head(50, num_classes, in_chans, global_pool="flatten", drop_rate=drop_rate)
        self.num_features = 20

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {"stem": r"^stn", "blocks": [(r"^conv(\d+)", None), (r"^fc1", (99999,))]}

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stn(x)  # (B, C, 28, 28); for N transformers (B, N C, 28, 28)
        x = F.relu(F.max_pool2d(self.conv1(x), 2))  # (B, 10, 12, 12)
        return F.relu(F.max_pool2d(self.drop(self.conv2(x)), 2))  # (B, 20, 4, 4)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = F.dropout(F.relu(self.fc1(x.flatten(1))), self.drop_rate, self.training)
        return x if pre_logits else self.fc2(x)
