"""Co-localisation (Jaderberg et al., 2015, appendix): a transformer finds the common object of the images of a set.

    I^T = crop of an image I by a spatial transformer of fixed scale
    loss = mean over n, and m != n of its set: |e(I_n^T) - e(I_m^T)|^2 + 4 max(0, alpha - |e(I_n^T) - e(I_n^rand)|^2)

The crops of two images of a set become more alike, and a crop less like I^rand, one of the same image at a random
place. e is the encoding by a classifier that was trained beforehand and does not train here. No position is given, and
a label only states which images form a set. In evaluation mode the classifier answers for the crop.

Departures, each of which it needs to find the digits:

- The paper's loss is a triplet's, max(0, |e(I_n^T) - e(I_m^T)|^2 - |e(I_n^T) - e(I_n^rand)|^2 + alpha). Most places
  show background, so that crops are alike there, too: as long as few of them show a digit, this loss falls as they
  leave the digits, and many seeds end there, with under 6 % localized. With the factor 4 it rises there. Only
  distances below alpha count: otherwise crops settle beside their digits, still further from random ones.
- The classifier is trained on digits that are shifted and cut, so that its encoding changes step by step between a
  whole digit and none. The encoding is its features before the last layer, scaled to length 1.
- The crop's centre is the mean position under the softmax of a heat map, over places where the crop is inside the
  image, so that all images cannot move in one direction or to the edge, where no gradient leads back. In training it
  is moved by up to eight pixels at random: crops at whole pixels, as at the start, are sharper than all around them,
  and hold it there; and a crop beside its digit must cost, though the encoding hardly changes within six pixels.

Others: one transformer learns from all sets; the mean is over the pairs of a batch; the crop is inside the image.

The classifier is a `small_cnn`, trained by the first of

    foveal train --model small_cnn --data mnist/shifted --epochs 2 --batch-size 128 --smoothing 0 --output runs/encoder
    foveal train --model co_localizer:encoder=runs/encoder --data digits/cluttered84 --epochs 12 --batch-size 64
        --lr 1e-3 --warmup-epochs 0

A checkpoint of the second holds the classifier's weights, and needs no other file. The paper localizes 75 to 94 % of
these digits by class (IoU with the digit's frame above 0.5); `foveal reproduce` has what was obtained here.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.fx
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from foveal.core.names import first_line
from foveal.data.preprocessing import Preprocessing
from foveal.mechanisms.spatial_transformer import SpatialTransformer
from foveal.networks.key_layouts import load_matched, match_keys, read
from foveal.networks.small_cnn import SmallCNN
from foveal.ops.geometry import centres

for arithmetic_of_sizes in ("mean_position", "numbers"):
    torch.fx.wrap(arithmetic_of_sizes)  # one operation in a traced graph

WIDTH = 16  # maps of the localisation net
JITTER = 8.0  # pixels by which a crop is moved at most in training
APART = 4.0  # weight of the distance from random crops
HALF = 1.01  # half the distance of two values of a heat map, times their number; the rest is for rounding
FLAT = 1e-6  # least range of an image's pixels, by which they are divided


class Crops(NamedTuple):
    """Output of a forward pass in training mode, the input of the loss: encodings (B, D)."""

    learned: Tensor  # of the transformer's crops
    random: Tensor  # of crops at random places


class FixedScale(nn.Module):
    """Localisation net of crops of a fixed size inside an image: (B, C, H, W) to theta's numbers (B, 6).

    Convolutions compute a heat map at every fourth pixel, each value from 33x33 pixels. The crop's centre is the mean
    position under its softmax, where the crop is inside the image; initially all weights are equal: it is the image's.

    Args:
        channels: C, number of input channels.
        size: Side of the crop, in pixels of the image.
    """

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.size = size
        last = nn.Conv2d(WIDTH, 1, 3, padding=1)
        self.heat = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 9, stride=4, padding=4, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 5, padding=2, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            last,
        )
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.get_parameter("bias"), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        place = mean_position(self.heat(x), x, self.size)
        if self.training:
            place = moved(place, x)
        return numbers(place, x, self.size)


def mean_position(heat: Tensor, x: Tensor, size: int) -> Tensor:
    """Return the mean position under the softmax of heat maps (B, 1, H, W) of images x, normalised: (B, 2).

    Only those values of a map count where a crop of the size is inside the image, to half the distance of two values.
    """
    across, down = axes = [centres(side, heat) for side in (heat.shape[3], heat.shape[2])]
    reach = [1 - extent + HALF / len(axis) for extent, axis in zip(extents(x, size), axes, strict=True)]
    inside = (down.abs() <= reach[1])[:, None] & (across.abs() <= reach[0])
    weights = heat[:, 0].masked_fill(~inside, -torch.inf).flatten(1).softmax(1).unflatten(1, heat.shape[2:])
    return torch.stack([(weights.sum(1) * across).sum(1), (weights.sum(2) * down).sum(1)], dim=1)


def moved(place: Tensor, x: Tensor) -> Tensor:
    """Move places (B, 2) on images x by up to `JITTER` pixels each way at random."""
    pixel = torch.tensor([2 / x.shape[3], 2 / x.shape[2]], device=x.device)
    return place + JITTER * pixel * (2 * torch.rand_like(place) - 1)


def anywhere(x: Tensor, size: int) -> Tensor:
    """Draw theta's numbers (B, 6) of crops of a size at random places of images x."""
    room = torch.tensor([1 - extent for extent in extents(x, size)], device=x.device)
    return numbers(room * (2 * torch.rand(len(x), 2, device=x.device) - 1), x, size)


def numbers(place: Tensor, x: Tensor, size: int) -> Tensor:
    """Return theta's numbers (B, 6) of crops of a size around places (B, 2), moved inside the images x."""
    across, down = extents(x, size)
    u, v = place.unbind(1)
    zero = torch.zeros_like(u)
    rows = [zero + across, zero, u.clamp(across - 1, 1 - across), zero, zero + down, v.clamp(down - 1, 1 - down)]
    return torch.stack(rows, dim=1)


def extents(x: Tensor, size: int) -> tuple[float, float]:
    """Return width and height of a crop as shares of the images'.

    Raises:
        ValueError: The images are smaller than the crop.
    """
    height, width = x.shape[2:]
    if min(height, width) < size:
        raise ValueError(f"images of {height}x{width} pixels: a crop of {size}x{size} does not fit")
    return size / width, size / height


class OwnRange(nn.Module):
    """Scale each image to its own range of pixels, 0 to 1, then normalise as the encoder's images were: (B, C, H, W).

    Data sets differ in the mean and deviation by which a run normalises them; the ranges of their images do not.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
        return ((x - low) / (high - low).clamp(min=FLAT) - self.mean) / self.std


class CoLocalizer(SmallCNN):
    """Co-localizer: images (B, C, H, W) of at least `size` pixels a side to logits (B, num_classes) of a crop.

    In training mode, `forward` returns `Crops`, the input of `loss`.

    Args:
        num_classes: Number of classes of the encoder, and of sets.
        in_chans: Channels C of the images.
        size: Side of the crop, in pixels.
        margin: alpha, the squared distance from a random crop that suffices; encodings have length 1.
        encoder: Run folder or checkpoint of a `small_cnn` on images of `size` pixels; a trained co-localizer has it.

    Raises:
        ValueError: If `size` is below 8, `margin` is not positive, or `encoder` is not such a checkpoint.

    Examples:
        >>> import torch
        >>> from foveal.networks.co_localizer import CoLocalizer
        >>> CoLocalizer().eval()(torch.rand(5, 1, 60, 60)).shape
        torch.Size([5, 10])
    """

    trunk = ("scale", "crop", "stem", "features")

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 1,
        size: int = 28,
        margin: float = 0.5,
        *,
        encoder: str | None = None,
    ):
        super().__init__(num_classes, in_chans)
        if size < 8:
            raise ValueError(f"size={size}: must be 8 or more, for the encoder")
        if margin <= 0:
            raise ValueError(f"margin={margin}: must be above 0")
        self.margin = margin
        self.scale = OwnRange(in_chans)
        self.crop = SpatialTransformer(in_chans, size, localisation=FixedScale(in_chans, size))
        if encoder is not None:
            self.load_encoder(Path(encoder))
        for part in self.encoder():
            part.requires_grad_(False)
        self.train()  # this class's: the encoder's BatchNorm in evaluation mode

    @property
    def place(self) -> FixedScale:
        return cast(FixedScale, self.crop.localisation)

    def encoder(self) -> tuple[nn.Module, ...]:
        return self.stem, self.features, self.get_submodule("head")

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {"stem": r"^(?:crop|stem)", "blocks": r"^features\.(\d+)"}

    def train(self, mode: bool = True) -> "CoLocalizer":
        """Set the mode of the transformer; the encoder stays in evaluation mode."""
        super().train(mode)
        for part in self.encoder():
            part.eval()
        return self

    def load_encoder(self, path: Path) -> None:
        """Load weights and normalisation of the encoder from a run folder or a checkpoint.

        Raises:
            ValueError: It is no checkpoint of a `small_cnn` for as many classes, on images of the crop's size.
        """
        file = path / "best.safetensors" if path.is_dir() else path
        try:
            preprocessing = read_preprocessing(file, {"num_classes": self.num_classes, "in_chans": self.in_chans})
            expected = (self.in_chans, self.place.size, self.place.size)
            if preprocessing.shape != expected:
                raise ValueError(f"trained on images of shape {preprocessing.shape}; {expected} is needed")
            plain = SmallCNN(self.num_classes, self.in_chans)
            load_matched(plain, match_keys(plain, read(file), "plain"))
        except ValueError as error:
            raise ValueError(f"encoder={str(path)!r}: {error}") from error
        self.load_state_dict(plain.state_dict(), strict=False)
        for name in ("mean", "std"):
            value = torch.tensor(getattr(preprocessing, name)).view(-1, 1, 1)
            getattr(self.scale, name).copy_(value)

    def forward_features(self, x: Tensor) -> Tensor:
        return super().forward_features(self.crop(self.scale(x)))

    def forward(self, x: Tensor) -> Tensor | Crops:
        if not self.training:
            return self.forward_head(self.forward_features(x))
        norm = self.stem.get_submodule("1")
        if not norm.num_batches_tracked:
            raise ValueError("co_localizer has no trained encoder: name the run of a small_cnn, "
                             "co_localizer:encoder=RUN")  # fmt: skip
        scaled = self.scale(x)
        with torch.no_grad():
            theta = anywhere(scaled, self.place.size).unflatten(1, (2, 3))
            others = self.encode(self.crop.sampler(scaled, self.crop.grid(theta, self.place.size, self.place.size)))
        return Crops(self.encode(self.crop(scaled)), others)

    def encode(self, crops: Tensor) -> Tensor:
        """Encode crops (B, C, S, S): the features before the last layer, of length 1, (B, num_features)."""
        return F.normalize(self.forward_head(SmallCNN.forward_features(self, crops), pre_logits=True), dim=1)

    def loss(self, outputs: Crops, labels: Tensor, criterion: Callable[..., Tensor]) -> Tensor:
        """Compute the mean loss of all pairs of different images of one set; 0 without such a pair."""
        learned, random = outputs
        between = (learned[:, None] - learned).square().sum(2)  # (B, B)
        apart = (learned - random).square().sum(1)[:, None]
        pairs = (labels[:, None] == labels).fill_diagonal_(False)
        return ((between + APART * F.relu(self.margin - apart)) * pairs).sum() / pairs.sum().clamp(min=1)


def read_preprocessing(file: Path, options: dict[str, int]) -> Preprocessing:
    """Read how a run normalised its images from the checkpoint of a `small_cnn` of these options.

    Raises:
        ValueError: No such file, or it is no checkpoint of such a network.
    """
    if not file.is_file():
        raise ValueError("there is no such run or checkpoint")
    try:
        with safe_open(file, "pt") as opened:
            facts = json.loads((opened.metadata() or {})["foveal"])
        network, stated, attached = (facts[name] for name in ("backbone", "options", "attachments"))
        preprocessing = facts["preprocessing"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no checkpoint of a run of foveal ({first_line(error)})") from error
    if (network, stated, attached) != ("small_cnn", options, []):
        what = f"{network!r:.80} with {'attention' if attached else f'options {stated!r:.200}'}"
        raise ValueError(f"holds {what}; a small_cnn of {options} is needed")
    return Preprocessing.from_facts(preprocessing)
