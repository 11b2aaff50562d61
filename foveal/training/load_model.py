"""Opening: a network by what somebody calls it, and images as it wants them. What `look`, `audit` and `score` share."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from foveal.data.load_data import load_data
from foveal.data.parts import Data, Part
from foveal.data.preprocessing import Preprocessing
from foveal.networks.factory import create_model
from foveal.training.checkpoint import load_checkpoint

BATCH = 64
ORDER = 0  # seed of the order in which images are read: a folder's stand class by class


@dataclass(frozen=True)
class LoadedModel:
    """A network with the images that it wants."""

    network: nn.Module
    classes: Sequence[str]
    preprocessing: Preprocessing
    groups: str | None = None  # of the folder that it was trained on

    def load_data(self, spec: str) -> Data:
        """Load a data set, its files preprocessed as the network wants them."""
        size = self.preprocessing.shape[1]
        return load_data(spec, image_size=size, groups=self.groups, preprocessing=self.preprocessing)

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

    model: LoadedModel
    part: Part
    on_batch: Callable[[int, int], None]
    most: int | None = None

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        boxes = getattr(self.part, "boxes", None)
        order = torch.randperm(len(self.part), generator=torch.Generator().manual_seed(ORDER))[: self.most]
        done = 0
        for chosen in order.split(BATCH):
            images, labels = self.part.__getitems__(chosen.tolist())
            wanted = self.model.preprocessing
            batch = wanted.normalize(wanted.match_channels(images)), labels
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
        facts = checkpoint.facts
        return LoadedModel(network, facts["classes"], Preprocessing.from_facts(facts["preprocessing"]), facts["groups"])
    network = create_model(model).eval()
    return LoadedModel(network, (), preprocessing_of(network))


def preprocessing_of(network: nn.Module) -> Preprocessing:
    """The preprocessing that a network of timm states; (3, 224, 224) scaled to [-1, 1] for one that states none."""
    if not getattr(network, "pretrained_cfg", None):
        return Preprocessing((3, 224, 224), (0.5,) * 3, (0.5,) * 3)
    stated = resolve_model_data_config(network)
    return Preprocessing(
        stated["input_size"], stated["mean"], stated["std"], stated["crop_pct"], stated["interpolation"]
    )
