"""Networks of distorted digits in front of which the spatial transformer was tried (Jaderberg et al., 2015, Table 1).

    jaderberg_cnn   9x9 convolution, 2x2 max pooling, 7x7 convolution, 2x2 max pooling, linear layer (the paper's CNN)
    jaderberg_fcn   two linear layers of equal width, linear layer; fully connected (the paper's FCN)

Convolutions have stride 1 and no padding; ReLU follows each layer but the last; there is no norm and no dropout. With
`+stn:localisation=convolutional` and `+stn:localisation=linear` they are the paper's ST-CNN and ST-FCN.

The paper's networks have about 400 thousand weights, and its text does not give the numbers of filters and units of
each. Ours are chosen for 400 thousand: 64 and 120 filters have 386 and 412 thousand for images of 28x28 and 42x42
pixels; the units follow from the image's size.

Departure: the paper halves the transformer's output of the larger images by average pooling, here nothing is pooled;
`stn:size=28` shows a part of as many pixels as the digits have. (Of a halved image of 42x42 pixels the convolutions
would leave nothing, unless pooling rounds up.)
"""

from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from foveal.networks.parallel_transformers import ParallelTransformers
from foveal.networks.timm_classifier import TimmClassifier

WEIGHTS = 400_000  # about as many as each network of the paper has
FILTERS = (64, 120)
KERNELS = (9, 7)
SMALLEST = 22  # pixels: 22, 14, 7, 1


def check_side(x: Tensor, side: int) -> Tensor:
    """Return images (B, C, S, S).

    Raises:
        ValueError: Their side is not S.
    """
    height, width = x.shape[2:]
    if (height, width) != (side, side):
        raise ValueError(
            f"images of {height}x{width} pixels, and the network has img_size={side}: name it with another"
        )
    return x


torch.fx.wrap("check_side")  # one operation in a traced graph


class ImageSide(nn.Module):
    """Check of the side of images (B, C, S, S), which it returns; a transformer is attached before it."""

    def __init__(self, side: int):
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        return check_side(x, self.side)

    def extra_repr(self) -> str:
        return str(self.side)


class JaderbergCNN(TimmClassifier):
    """Convolutional network of distorted digits: images (B, C, S, S) to logits (B, num_classes).

    Args:
        num_classes: Number of classes.
        in_chans: Channels C of the images.
        img_size: Side S of the images, 22 or more.
        drop_rate: Dropout before the last layer; none in the paper.

    Raises:
        ValueError: If `img_size` is too small; in `forward`, if the images have another size.
    """

    classifier = "fc"
    pools = ("flatten",)

    def __init__(self, num_classes: int = 10, in_chans: int = 1, img_size: int = 42, *, drop_rate: float = 0.0):
        super().__init__()
        if img_size < SMALLEST:
            raise ValueError(f"img_size={img_size}: must be {SMALLEST} or more")
        self.img_size = side = img_size
        for kernel in KERNELS:
            side = (side - kernel + 1) // 2
        first, second = KERNELS
        check = ImageSide(img_size)
        self.stem = nn.Sequential(check, nn.Conv2d(in_chans, FILTERS[0], first), nn.ReLU(), nn.MaxPool2d(2))
        self.features = nn.Sequential(nn.Conv2d(*FILTERS, second), nn.ReLU(), nn.MaxPool2d(2))
        self.fc: nn.Module
        self.set_head(FILTERS[1] * side**2, num_classes, in_chans, global_pool="flatten", drop_rate=drop_rate)
        self.num_features, self.pool_size = FILTERS[1], (side, side)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {"stem": r"^stem", "blocks": [(r"^features", None)]}

    def forward_features(self, x: Tensor) -> Tensor:
        return self.features(self.stem(x))  # (B, 120, S', S')

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return super().forward_head(x.flatten(1), pre_logits)


class JaderbergFCN(TimmClassifier):
    """Fully connected network of distorted digits: images (B, C, S, S) to logits (B, num_classes).

    With transformers it is the paper's network for the sum of two digits (A.1): each transformer shows its part of all
    channels, averaged to half the side, and the layers read the parts of all.

    Args:
        num_classes: Number of classes.
        in_chans: Channels C of the images.
        img_size: Side S of the images, even with transformers.
        transformers: Number of parallel affine transformers before the first layer.
        drop_rate: Dropout before the last layer; none in the paper.

    Raises:
        ValueError: If `img_size` or `transformers` is impossible; in `forward`, if the images have another size.
    """

    classifier = "fc"
    pools = ("flatten",)

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 1,
        img_size: int = 42,
        transformers: int = 0,
        *,
        drop_rate: float = 0.0,
    ):
        super().__init__()
        if img_size < 1 or (transformers and img_size % 2):
            raise ValueError(f"img_size={img_size}: must be 1 or more, and even with transformers")
        if transformers < 0:
            raise ValueError(f"transformers={transformers}: must be 0 or more")
        self.img_size = img_size
        parts: tuple[nn.Module, ...] = ()
        pixels = in_chans * img_size**2
        if transformers:
            parts = (ParallelTransformers(in_chans, transformers, family="affine"), nn.AvgPool2d(2))
            pixels = transformers * pixels // 4
        units = round((sqrt(pixels**2 + 4 * WEIGHTS) - pixels) / 2)  # the root of units (pixels + units) = WEIGHTS
        self.stem = nn.Sequential(ImageSide(img_size), *parts, nn.Flatten(), nn.Linear(pixels, units), nn.ReLU())
        self.features = nn.Sequential(nn.Linear(units, units), nn.ReLU())
        self.fc: nn.Module
        self.set_head(units, num_classes, in_chans, global_pool="flatten", drop_rate=drop_rate)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {"stem": r"^stem", "blocks": [(r"^features", None)]}

    def forward_features(self, x: Tensor) -> Tensor:
        return self.features(self.stem(x))  # (B, units)
