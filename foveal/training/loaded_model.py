"""A trained network with the facts that its run stored: classes, preprocessing, groups, data.

`look`, `audit`, `score` and `predict` read their images here, so that the stored facts are checked against the data in
one place.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foveal.core.answers import Answers, read_answers, run_model
from foveal.core.functions import Function, import_function, name_of, names_function
from foveal.core.names import slug
from foveal.core.validation import device_of, iter_images
from foveal.data.image_source import ImageSource, check_pixels, image_source
from foveal.data.labels import were_read
from foveal.data.load_data import load_data
from foveal.data.parts import Data, Part, listed, relabel
from foveal.data.preprocessing import Preprocessing
from foveal.training.batches import FAILING, UnreadImages
from foveal.training.predict import Answer, PredictedBatch, PredictResult, join, predict_batches, predict_part
from foveal.training.predictions import predicted_classes
from foveal.training.run_facts import InferenceSettings
from foveal.training.stored_split import StoredSplit

BATCH = 64
ORDER = 0  # seed of the order in which images are read: a folder is sorted by class
Source = str | Path | Function  # of a data set: name, path, or function of the caller
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
    inference: InferenceSettings = field(default_factory=InferenceSettings)  # of its run
    multi_label: bool = False  # an image has any number of classes

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
        data.check_kind(self.multi_label)
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
        """Return the answers for images (B, C, H, W): uint8 in their own colours, or normalized floats.

        Args:
            images: on any device.
            name: of the images, for messages.

        Raises:
            ValueError: images that the network does not take; answers that are not one logit for each of its classes.
        """
        images = images.to(device_of(self.network))
        floats = images.is_floating_point()
        prepared = images if floats else self.preprocessing.normalize(self.preprocessing.match_channels(images))
        if self.inference.channels_last:
            prepared = prepared.contiguous(memory_format=torch.channels_last)
        answers = read_answers(run_model(self.network, prepared, name), len(images))
        answers = replace(answers, multi_label=self.multi_label)
        return check_classes(answers, self.classes) if self.classes else answers

    def predict(self, images: Any, *, workers: int = 0) -> PredictResult:
        """Predict the classes of images, as the run predicted its test part.

        Args:
            images: paths of image files or of folders with such files; images of Pillow; uint8 pixels (B, C, H, W) of
                the network's size; a part of a data set, as `load_data(...).test`; or normalized floats, (B, C, H, W)
                or a loader of such batches, alone or with labels, which are not read.
            workers: number of processes that read image files.

        Returns:
            Names, predicted classes and probabilities; files that cannot be read are in `skipped`.

        Raises:
            ValueError: no image that can be read; pixels of another size; images that the network does not take.
            TypeError: another kind of images.
        """
        predictions = self.predictions(images, workers=workers)
        return join(predictions, self.classes, predictions.skipped)

    def predictions(self, images: Any, *, workers: int = 0, answer: Answer | None = None) -> "Predictions":
        """Predict as `predict` does, batch by batch, so that memory does not grow with the number of images.

        Args:
            images: as for `predict`.
            workers: number of processes that read image files.
            answer: function that is called with each batch of images instead of `answers`.
        """
        return Predictions(self, images, workers, answer or self.answers)

    def names_of(self, answers: Answers) -> list[str]:
        """Return the name of each image's class, or of its classes; of a network by name the number."""
        return predicted_classes(answers, self.classes or [*map(str, range(answers.logits.shape[1]))])

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
        largest = int(part.labels.max()) if len(part) and not self.multi_label else 0
        if self.classes and largest >= len(self.classes):
            raise ValueError(f"label {largest}: the network was trained on {len(self.classes)} classes, "
                             f"{listed(self.classes)}")  # fmt: skip
        return Batches(self, part, on_batch, most)


@dataclass(frozen=True)
class Batches:
    """Preprocessed images, labels and, where they are known, objects; can be read several times.

    Images that cannot be read are left out, and noted in `unread`.
    """

    model: LoadedModel
    part: Part
    on_batch: Callable[[int, int], None]
    most: int | None = None
    unread: UnreadImages = field(default_factory=lambda: UnreadImages("images", FAILING))

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        boxes = getattr(self.part, "boxes", None)
        order = torch.randperm(len(self.part), generator=torch.Generator().manual_seed(ORDER))[: self.most]
        done = 0
        for chosen in order.split(BATCH):
            images, labels = self.part.__getitems__(chosen.tolist())
            done += len(chosen)
            whole = were_read(labels)
            if not whole.all():
                self.unread.add(self.part, chosen[~whole].tolist())
                chosen, images, labels = chosen[whole], images[whole], labels[whole]
            if not len(chosen):
                continue
            preprocessing = self.model.preprocessing
            batch = preprocessing.normalize(preprocessing.match_channels(images)), labels
            yield batch if boxes is None else (*batch, boxes[chosen])
            self.on_batch(done, len(order))


class Predictions:
    """Predictions of a network, batch by batch.

    Attributes:
        skipped: images that could not be read, with the reason; complete after the last batch.
    """

    def __init__(self, model: LoadedModel, images: Any, workers: int, answer: Answer):
        self._model, self._images, self._workers, self._answer = model, images, workers, answer
        is_part = hasattr(images, "__getitems__") and hasattr(images, "names")
        source = ImageSource(images) if is_part else image_source(images, model.preprocessing)
        self._labelled, self._part = is_part, None if source is None else source.part
        self._unread = UnreadImages("images", reasons={} if source is None else source.skipped)

    @property
    def skipped(self) -> dict[str, str]:
        return self._unread.reasons

    def __len__(self) -> int:
        """Return the number of images that were handed over; TypeError for a loader."""
        if self._part is None:
            raise TypeError("the number of images of a loader is not known")
        return len(self._part)

    def __iter__(self) -> Iterator[PredictedBatch]:
        model = self._model
        if model.inference.channels_last:
            model.network.to(memory_format=torch.channels_last)
        if self._part is None:
            loader = [self._images] if isinstance(self._images, Tensor | np.ndarray) else self._images
            yield from predict_batches(iter_images(loader, model.network, "images"), self._evaluate)
        elif len(self._part):
            size, workers = model.inference.batch_size, self._workers
            yield from predict_part(self._part, self._labelled, self._evaluate, self._unread, size, workers)

    def _evaluate(self, images: Tensor) -> Answers:
        """Answer in the precision of the run; float32 logits on the CPU."""
        model = self._model
        check_pixels(images, model.preprocessing)
        with model.inference.autocast(device_of(model.network)):
            answers = self._answer(images)
        return replace(answers, logits=answers.logits.float().cpu())


def check_classes(answers: Answers, classes: Sequence[str]) -> Answers:
    """Return answers for these classes; ValueError for answers for more or fewer."""
    count = answers.logits.shape[1]
    if count != len(classes):
        raise ValueError(f"the network answers for {count} classes; there are {len(classes)}: {listed(classes)}")
    return answers


def text_of(spec: Source) -> str:
    """Return the name of a data set, or its path."""
    return name_of(spec) if callable(spec) else str(spec)


def path_of(spec: Source) -> str:
    """Resolve the path of a data set that is a folder or a file, so that two spellings of it are equal."""
    text = text_of(spec)
    prefix = next((each for each in ("folder:", "wds/", "hfds/") if text.startswith(each)), "")
    path = Path(text.removeprefix(prefix))
    resolved = prefix.replace("folder:", "") + str(path.resolve())
    return resolved if prefix == "folder:" or path.exists() else text


def by(shape: Sequence[int]) -> str:
    return f"{shape[1]} x {shape[2]}"
