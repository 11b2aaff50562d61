"""A picture of each predicted image with what the network attended to, written while images are predicted."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from foveal.core.answers import Answers
from foveal.core.folders import check_folder_is_ours, locked_folder
from foveal.core.names import slug
from foveal.core.record import Record
from foveal.inspection.drawing.draw import draw
from foveal.inspection.watch import watch
from foveal.reports.look import captions, find_grad_cam
from foveal.training.loaded_model import LoadedModel
from foveal.training.predict import PredictedBatch

LONGEST = 80  # characters of an image's name in that of its picture


class PredictionPictures:
    """Pictures of predictions in a folder: a file for each image, by its number and name.

    Raises:
        ValueError: the folder holds files that foveal did not write, and `overwrite` is False.
    """

    def __init__(self, model: LoadedModel, folder: Path, overwrite: bool = False):
        check_folder_is_ours(folder, overwrite)
        self._model, self._folder, self._overwrite = model, folder, overwrite
        self._seen: list[Record] = []
        self._count = 0

    def answer(self, images: Tensor) -> Answers:
        """Answer for a batch of images, and keep its attention for `draw`."""
        with watch(self._model.network) as seen:
            answers = self._model.answers(images)
        grad_cam, _ = find_grad_cam(self._model, seen, self._model.preprocessing.match_channels(images), answers)
        self._seen = [*grad_cam, *seen]
        return answers

    def draw(self, batch: PredictedBatch) -> None:
        """Draw the batch that was answered last.

        Raises:
            ValueError: a network without attention.
        """
        predicted = captions(self._model.names_of(batch.answers), batch.answers.predicted_probabilities())
        images = self._model.preprocessing.match_channels(batch.images)
        with locked_folder(self._folder, self._overwrite):
            for index, name in enumerate(batch.names):
                own = [replace(each, values=each.values[index : index + 1].float()) for each in self._seen]
                picture = draw(own, images[index : index + 1], predicted[index : index + 1])
                stem = slug(str(Path(name).with_suffix(""))).strip("-.")[-LONGEST:]
                picture.save(self._folder / f"{self._count:06d}-{stem}.png")
                self._count += 1
