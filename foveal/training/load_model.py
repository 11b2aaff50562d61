"""Opening: a network by what somebody calls it, and images as it wants them. What `look`, `audit` and `score` share."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from foveal.data.load_data import load_data
from foveal.data.parts import Data, Part
from foveal.networks.factory import create_model
from foveal.training.checkpoint import load_checkpoint

BATCH = 64
ORDER = 0  # seed of the order in which images are read: a folder's stand class by class


@dataclass(frozen=True)
class LoadedModel:
    """A network and the images that it wants."""

    network: nn.Module
    classes: Sequence[str]
    mean: Sequence[float]
    std: Sequence[float]
    shape: Sequence[int]
    groups: str | None = None  # of the folder that it was trained on

    def load(self, data: str) -> Data:
        """A data set, at the size of the network's images."""
        return load_data(data, image_size=self.shape[1], groups=self.groups)

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 images as the network wants them."""
        mean, std = (torch.tensor(each).view(1, -1, 1, 1) for each in (self.mean, self.std))
        return (images.float() / 255 - mean) / std

    def match_channels(self, images: Tensor) -> Tensor:
        """uint8 images in grey or in colours, as the network wants them."""
        if images.shape[1] == self.shape[0]:
            return images
        grey = images.float().mean(1, keepdim=True).to(torch.uint8)
        return grey if self.shape[0] == 1 else grey.expand(-1, self.shape[0], -1, -1)

    def batches(
        self, part: Part, on_batch: Callable[[int, int], None] = lambda done, of: None, most: int | None = None
    ) -> "Batches":
        """A part of a data set as the network wants it, or `most` of its images; `on_batch` is told how many were given
        and of how many.
        """
        return Batches(self, part, on_batch, most)


@dataclass(frozen=True)
class Batches:
    """Images as a network wants them, labels and, where they are known, boxes; to be read as often as one likes."""

    opened: LoadedModel
    part: Part
    on_batch: Callable[[int, int], None]
    most: int | None = None

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        boxes = getattr(self.part, "boxes", None)
        order = torch.randperm(len(self.part), generator=torch.Generator().manual_seed(ORDER))[: self.most]
        done = 0
        for chosen in order.split(BATCH):
            images, labels = self.part.__getitems__(chosen.tolist())
            batch = self.opened.normalize(self.opened.match_channels(images)), labels
            yield batch if boxes is None or boxes.ndim > 2 else (*batch, boxes[chosen])  # of one object in each
            done += len(chosen)
            self.on_batch(done, len(order))


def load_model(model: str) -> LoadedModel:
    """A run folder, a checkpoint, or a network's name; in evaluation mode.

    Raises:
        ValueError: no such network, or a file that is no checkpoint.
    """
    if Path(model).exists():
        network, checkpoint = load_checkpoint(model)
        facts, says = checkpoint.facts, checkpoint.facts["preprocessing"]
        return LoadedModel(network, facts["classes"], says["mean"], says["std"], says["shape"], facts["groups"])
    network = create_model(model).eval()
    says = getattr(network, "pretrained_cfg", None) or {
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        "input_size": (3, 224, 224),
    }
    return LoadedModel(network, (), says["mean"], says["std"], says["input_size"])
