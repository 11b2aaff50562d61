"""Figures that an experiment states: the test error, and what is measured of a stored network in a job of its own.

A measurement gives a value for each place of a network, and a figure is made of them. The libraries are imported in the
functions, since `foveal reproduce` lists figures without them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

SCALES = (1.0, 1.25, 1.5, 1.75, 2.0)  # of the central object, as in Figures 3 and 4 of Li et al., 2019
Measure = Callable[[Path], dict[str, float]]  # from the folder of a run to a value for each place


def shares_between_classes(run: Path) -> dict[str, float]:
    """Measure the share of variance of each place's gates that is between classes, on the test part."""
    from foveal.evaluation.paper_analyses import excitation_by_class
    from foveal.training.load_model import load_on_device

    opened = load_on_device(run)
    data = opened.load_data(opened.data or "")
    return excitation_by_class(opened.network, opened.batches(data.test), data.classes).variance_between()


def slopes_by_size(run: Path) -> dict[str, float]:
    """Measure how the share of each place's largest kernel changes with each doubling of the central object.

    Of test images with known objects, those are read whose objects stay whole; of others all, as in the paper.
    """
    from foveal.evaluation.central_objects import iter_central
    from foveal.evaluation.paper_analyses import selection_by_size
    from foveal.training.load_model import load_on_device

    opened = load_on_device(run)
    test = opened.load_data(opened.data or "").test
    images: Iterable[Any] = opened.batches(test)
    if getattr(test, "boxes", None) is not None:
        images = iter_central(images, opened.network, SCALES[-1])
    return selection_by_size(opened.network, images, SCALES).slopes()


def localized(run: Path) -> dict[str, float]:
    """Measure the share of test images, in per cent, whose digit's frame a transformer shows at IoU above 0.5."""
    from dataclasses import replace

    from foveal.evaluation.co_localization import localization_of_objects, shown_boxes
    from foveal.training.load_model import load_on_device

    opened = load_on_device(run)
    data = opened.load_data(opened.data or "")
    test: Any = data.test  # distorted digits, with their true transforms
    frames = replace(test, boxes=shown_boxes(test.theta, *data.shape[1:]))
    found = localization_of_objects(opened.network, opened.batches(frames))
    return {path: 100 * each.share() for path, each in found.items()}


def digits_in_crops(run: Path) -> dict[str, float]:
    """Measure the share of test images, in per cent, with the whole object in one of the hard crops."""
    from foveal.evaluation.objects_in_crops import whole_in_crops
    from foveal.training.load_model import load_on_device

    opened = load_on_device(run)
    test = opened.load_data(opened.data or "").test
    found = whole_in_crops(opened.network, opened.batches(test))
    return {path: 100 * each.float().mean().item() for path, each in found.items()}


def error_of_one_path(run: Path) -> dict[str, float]:
    """Measure the test error, in per cent, of a recurrent attention model that takes one path over each image.

    A learned policy's path is that of its means, a random one's is drawn once.
    """
    from foveal.networks.ram import RAM
    from foveal.training.evaluate import share_right
    from foveal.training.load_model import load_on_device

    opened = load_on_device(run)
    if not isinstance(opened.network, RAM):
        raise ValueError(f"{run}: a {type(opened.network).__name__}, and only a RAM takes a path over an image")
    opened.network.samples = 0
    test = opened.load_data(opened.data or "").test
    predicted = opened.predict(test).answers.logits.argmax(1)
    return {"glimpse": 100 * (1 - share_right(predicted, test.labels))}


def early(values: Sequence[float]) -> float:
    """Return the mean of the first third of the places."""
    return fmean(values[: max(1, len(values) // 3)])


def late(values: Sequence[float]) -> float:
    """Return the mean of the last third of the places."""
    return early(values[::-1])


def before_late(values: Sequence[float]) -> float:
    """Return the mean of all places before the last third; of a single place, its value."""
    return fmean(values[: -max(1, len(values) // 3)] or values)


def rise(values: Sequence[float]) -> float:
    """Return the mean of the last third of the places minus that of the first third."""
    return late(values) - early(values)


@dataclass(frozen=True)
class Figure:
    """A figure of a run.

    Attributes:
        unit: Printed after its name.
        measure: What is measured; None for the test error, which runs store.
        value: Function from the values of the places, in the order of the network, to the figure.
    """

    unit: str = ""
    measure: Measure | None = None
    value: Callable[[Sequence[float]], float] = fmean


FIGURES = {
    "error": Figure("%"),
    "error of one path": Figure("%", error_of_one_path),
    "images with the digit at IoU above 0.5": Figure("%", localized),
    "images with the whole digit in the crop": Figure("%", digits_in_crops),
    "share of variance between classes, last third of the layers minus first": Figure("", shares_between_classes, rise),
    "slope of the larger kernel by size, first third of the layers": Figure("", slopes_by_size, early),
    "slope of the larger kernel by size, all but the last third of the layers": Figure("", slopes_by_size, before_late),
    "slope of the larger kernel by size, last third of the layers": Figure("", slopes_by_size, late),
}
