"""Trained networks by name, with the facts that their run stored: classes, preprocessing, groups, data.

`look`, `audit` and `score` load their networks and images here, so that the stored facts are checked against the data
in one place.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from foveal.core.answers import Answers, read_answers, run_model
from foveal.core.functions import Function, import_function, name_of, names_function
from foveal.core.names import slug
from foveal.data.load_data import load_data
from foveal.data.parts import Data, Part, listed, relabel
from foveal.data.preprocessing import Preprocessing
from foveal.networks.factory import create_model
from foveal.training.checkpoint import load_checkpoint
from foveal.training.stored_split import StoredSplit, stored_split

BATCH = 64
ORDER = 0  # seed of the order in which images are read: a folder is sorted by class
Source = str | Path | Function  # of a data set: name, path, or function of the caller
FACTS = ("classes", "preprocessing")  # of a checkpoint that `foveal.train` wrote
LONGEST = 80  # characters of a data set's name in a file's name


@dataclass(frozen=True)
class LoadedModel:
    """A network with the facts that its run stored."""

    network: nn.Module
    classes: Sequence[str]  # empty for a network by name
    preprocessing: Preprocessing
    groups: str | None = None  # of the folder that it was trained on
    data: str | None = None  # name of the data set that it was trained on
    split: StoredSplit | None = None  # that its run stored
    data_seed: int = 0  # of its data's split and distortion

    def load_data(self, spec: Source) -> Data:
        """Load a data set for this network: its size and channels checked, its labels as the network's outputs.

        Classes are matched by name with those of the run. A network by name stores no classes: its labels are those of
        the data.

        Raises:
            ValueError: a class that the run does not know; images of another size or other channels; more labels than
                outputs; test images that the run was trained on; and what `foveal.load_data` raises.
        """
        if isinstance(spec, str) and names_function(spec):
            spec = import_function(spec)
        own = self.is_own(spec)
        groups, seed = (self.groups, self.data_seed) if own else (None, 0)
        data = load_data(spec, groups=groups, seed=seed, preprocessing=self.preprocessing)
        try:
            self.preprocessing.match_channels(torch.zeros(1, *data.shape, dtype=torch.uint8))
        except ValueError as error:
            raise ValueError(f"data {text_of(spec)!r}: {error}") from error
        if not self.classes:
            self.check_outputs(data)
            return data
        data = self.check_images(data, own)
        if data.preprocessing.value_range and not self.preprocessing.value_range:
            raise ValueError(
                f"data {text_of(spec)!r}: 16-bit images, and the network was trained on 8-bit images, so that no range "
                "of values is stored; convert them to 8 bits"
            )
        if data.shape[1:] != self.preprocessing.shape[1:]:
            raise ValueError(
                f"data {text_of(spec)!r}: images of {by(data.shape)} pixels, and the network was trained on "
                f"{by(self.preprocessing.shape)}; name data of that size, or a folder of image files"
            )
        return relabel(data, self.classes)

    def check_images(self, data: Data, own: bool) -> Data:
        """Check that no test image is one that the network was trained on; note where its run's split is not known.

        Raises:
            ValueError: own data with other images or parts than in training; other data with images of the training.
        """
        if self.split is None:
            note = "not compared with the run's, as there is no split.json beside its weights"
            return replace(data, notes={**data.notes, "parts of the data": note})
        if own and self.data is not None:
            self.split.check_same(data, "name images of another folder")
        else:
            self.split.check_apart(data)
        return data

    def check_outputs(self, data: Data) -> None:
        """Check on one image that a network by name takes the data's images and has an output for each label.

        Raises:
            ValueError: it does not.
        """
        image, _ = data.test.__getitems__([0])
        with torch.random.fork_rng():
            answers = self.answers(image, f"data {data.name!r}")
        if answers.logits.shape[1] < len(data.classes):
            raise ValueError(
                f"data {data.name!r}: {len(data.classes)} classes, and the network has {answers.outputs} "
                f"output{'s' * (answers.outputs != 1)}; name a network trained on these classes"
            )

    @torch.no_grad()
    def answers(self, images: Tensor, name: str = "images") -> Answers:
        """Return the answers for images (B, C, H, W) uint8, in their own colours; `name` is for messages.

        Raises:
            ValueError: images that the network does not take; answers that are not one logit for each of its classes.
        """
        prepared = self.preprocessing.normalize(self.preprocessing.match_channels(images))
        answers = read_answers(run_model(self.network, prepared, name), len(images))
        return check_classes(answers, self.classes) if self.classes else answers

    def names_of(self, classes: Tensor) -> list[str]:
        """Return the names of classes; of a network by name their numbers."""
        return [self.classes[index] if self.classes else str(index) for index in classes.tolist()]

    def is_own(self, spec: Source) -> bool:
        """Return True if `spec` names the data set that the network was trained on, or if none is stored."""
        return self.data is None or path_of(spec) == path_of(self.data)

    def result_name(self, kind: str, spec: Source) -> str:
        """Name the file of a result: `audit.json` on the run's own data, `audit-<data>.json` on other data."""
        if self.is_own(spec):
            return f"{kind}.json"
        name = slug(text_of(spec).removeprefix("folder:")).strip("-.")[-LONGEST:]
        return f"{kind}-{name}.json"

    def batches(
        self, part: Part, on_batch: Callable[[int, int], None] = lambda done, of: None, most: int | None = None
    ) -> "Batches":
        """Iterate over a part of a data set in shuffled batches, preprocessed for this network.

        Args:
            part: a part of what `load_data` returned.
            on_batch: called with the numbers of images read and of all.
            most: read this number of images only.

        Raises:
            ValueError: a label beyond the run's classes.
        """
        largest = int(part.labels.max()) if len(part) else 0
        if self.classes and largest >= len(self.classes):
            raise ValueError(f"label {largest}: the network was trained on {len(self.classes)} classes, "
                             f"{listed(self.classes)}")  # fmt: skip
        return Batches(self, part, on_batch, most)


@dataclass(frozen=True)
class Batches:
    """Preprocessed images, labels and, where they are known, boxes; can be read several times."""

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
            preprocessing = self.model.preprocessing
            batch = preprocessing.normalize(preprocessing.match_channels(images)), labels
            yield batch if boxes is None or boxes.ndim > 2 else (*batch, boxes[chosen])  # of one object in each
            done += len(chosen)
            self.on_batch(done, len(order))


def load_model(model: str, backbone: str | Function | None = None) -> LoadedModel:
    """Load a network in evaluation mode from a run folder, a checkpoint, or a network's name.

    Args:
        model: the folder, file or name.
        backbone: the caller's function, or its name, which is then imported, where the run's backbone is a function.

    Raises:
        ValueError: no such network; a file that is no checkpoint, one that `foveal.train` did not write, or one with
            weights that are not finite; a run whose backbone is a function without `backbone`, or another one with it.
    """
    if isinstance(backbone, str):
        backbone = import_function(backbone)
    if Path(model).exists():
        network, checkpoint = load_checkpoint(model, backbone)
        check_finite(checkpoint.weights, model)
        facts = checkpoint.facts
        missing = [name for name in FACTS if name not in facts]
        if missing:
            raise ValueError(f"checkpoint {model!r} stores no {' and no '.join(missing)}; foveal.train writes them")
        preprocessing = Preprocessing.from_facts(facts["preprocessing"])
        place = Path(model) if Path(model).is_dir() else Path(model).parent
        return LoadedModel(
            network,
            facts["classes"],
            preprocessing,
            groups=facts.get("groups"),
            data=facts.get("data"),
            split=stored_split(place),
            data_seed=facts.get("data_seed", 0),
        )
    if backbone is not None or names_function(model):
        raise ValueError(f"{model!r}: no run; a function builds the network of a run, as RUN --backbone {model}")
    network = create_model(model).eval()
    return LoadedModel(network, (), preprocessing_of(network))


def check_classes(answers: Answers, classes: Sequence[str]) -> Answers:
    """Return answers for these classes; ValueError for answers for more or fewer."""
    count = answers.logits.shape[1]
    if count != len(classes):
        raise ValueError(f"the network answers for {count} classes; there are {len(classes)}: {listed(classes)}")
    return answers


def check_finite(weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        ValueError: the first tensor that holds such a number, by name.
    """
    for name, weight in weights.items():
        if weight.is_floating_point() and not weight.isfinite().all():
            count = int((~weight.isfinite()).sum())
            raise ValueError(
                f"checkpoint {str(path)!r}: the tensor {name!r} holds {count:,} of {weight.numel():,} numbers that are "
                "NaN or infinite; train again"
            )


def preprocessing_of(network: nn.Module) -> Preprocessing:
    """Return the preprocessing that a network of timm states; (3, 224, 224) scaled to [-1, 1] if it states none."""
    if not getattr(network, "pretrained_cfg", None):
        return Preprocessing((3, 224, 224), (0.5,) * 3, (0.5,) * 3)
    stated = resolve_model_data_config(network)
    return Preprocessing(
        stated["input_size"], stated["mean"], stated["std"], stated["crop_pct"], stated["interpolation"]
    )


def text_of(spec: Source) -> str:
    """Return the name of a data set, or its path."""
    return name_of(spec) if callable(spec) else str(spec)


def path_of(spec: Source) -> str:
    """Resolve the path of a data set that is a folder or a file, so that two spellings of it are equal."""
    text = text_of(spec)
    path = Path(text.removeprefix("folder:"))
    return str(path.resolve()) if text.startswith("folder:") or path.exists() else text


def by(shape: Sequence[int]) -> str:
    return f"{shape[1]} x {shape[2]}"
