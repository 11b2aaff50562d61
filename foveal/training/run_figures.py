"""Figures of a run: those of its epochs, and the result on its test part.

Figures that are read from a run are checked field by field: each has its type and range.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from sys import float_info
from typing import Any

ACCURACY, MEAN_AVERAGE_PRECISION = "validation_accuracy", "validation_mean_average_precision"  # fields of an epoch


@dataclass(frozen=True)
class Result:
    """Figures of a finished run on its test part.

    The balanced accuracy is the mean recall over all classes of the data. It is None where the test part holds no image
    of a class; `recall` lists the classes with test images, and `absent` the others.
    """

    accuracy: float
    balanced_accuracy: float | None
    recall: dict[str, float]  # by class
    best_epoch: int  # from 1
    absent: list[str] = field(default_factory=list)
    seconds: float = field(default=0.0, compare=False)  # of training; stored in `times.json`, apart from the figures
    calibration_error: float | None = None  # expected, of the predicted classes; None for a run that did not store it

    @property
    def error(self) -> float:
        """The share of wrong predictions, in per cent."""
        return 100 * (1 - self.accuracy)

    @property
    def balanced_error(self) -> float | None:
        """The balanced error in per cent; None where it is not computed."""
        return None if self.balanced_accuracy is None else 100 * (1 - self.balanced_accuracy)


@dataclass(frozen=True)
class MultiLabelResult:
    """Figures of a finished run on a test part whose images have any number of classes.

    See `foveal.evaluation.multi_label`; the mean is over the classes with test images, and `absent` lists the others.
    """

    mean_average_precision: float
    average_precision: dict[str, float]  # by class
    best_epoch: int  # from 1
    absent: list[str] = field(default_factory=list)
    seconds: float = field(default=0.0, compare=False)  # as of `Result`

    @property
    def error(self) -> float:
        """100 minus the mean average precision in per cent."""
        return 100 * (1 - self.mean_average_precision)

    @property
    def balanced_error(self) -> None:
        """There is none: the mean over classes is the error."""
        return None


TOLERANCE = 1e-5  # of a mean in single precision
Check = tuple[Callable[[Any], bool], str]  # of a value, and what is needed


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= float_info.max


def is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_list(value: Any) -> bool:
    """Return True for a list of strings."""
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


SHARE: Check = (is_share, "a number from 0 to 1")
BY_CLASS: Check = (
    lambda value: isinstance(value, dict) and bool(value) and all(map(is_share, value.values())),
    "numbers from 0 to 1 by class",
)
EPOCH: Check = (is_count, "an epoch from 1")
EPOCH_FIELDS: dict[str, Check] = {
    "epoch": EPOCH,
    "train_loss": (is_number, "a finite number"),
}
TEST_FIELDS: dict[str, Check] = {
    "accuracy": SHARE,
    "balanced_accuracy": (lambda value: value is None or is_share(value), "a number from 0 to 1, or null"),
    "recall": BY_CLASS,
    "best_epoch": EPOCH,
    "absent": (is_list, "a list of class names"),
    "calibration_error": (lambda value: value is None or is_share(value), "a number from 0 to 1, or null"),
}


MULTI_LABEL_FIELDS: dict[str, Check] = {
    "mean_average_precision": SHARE,
    "average_precision": BY_CLASS,
    "best_epoch": EPOCH,
    "absent": (is_list, "a list of class names"),
}


def check_fields(place: str, line: Any, fields: Mapping[str, Check]) -> None:
    """Check the figures of one line.

    Raises:
        ValueError: a field is missing, unknown, or out of its range; the message names the file and the field.
    """
    if not isinstance(line, dict):
        raise ValueError(f"{place}: {line!r:.80}; fields {', '.join(fields)} are needed")
    for name, (is_valid, needed) in fields.items():
        if name not in line:
            raise ValueError(f"{place}: the field {name!r} is missing")
        if not is_valid(line[name]):
            raise ValueError(f"{place}: {name}={line[name]!r:.80}; {needed} is needed")
    unknown = next((name for name in line if name not in fields), None)
    if unknown is not None:
        raise ValueError(f"{place}: unknown field {unknown!r:.80}; there are {', '.join(fields)}")


def check_epoch(place: str, line: Any, number: int) -> None:
    """Check the figures of an epoch, the `number`-th.

    Raises:
        ValueError: a figure out of its range, or another epoch.
    """
    several = isinstance(line, dict) and MEAN_AVERAGE_PRECISION in line
    check_fields(place, line, EPOCH_FIELDS | {MEAN_AVERAGE_PRECISION if several else ACCURACY: SHARE})
    if line["epoch"] != number:
        raise ValueError(f"{place}: epoch={line['epoch']!r:.80}; the epochs from 1 on are needed, in order")


def check_test(place: str, test: Any, epochs: int) -> None:
    """Check the figures of the test part, and those that follow from others.

    Raises:
        ValueError: a figure out of its range, or one that does not agree with the others.
    """
    if isinstance(test, dict) and "mean_average_precision" in test:
        check_multi_label_test(f"{place}, test", test, epochs)
        return
    later: dict[str, Any] = {"absent": [], "calibration_error": None}  # fields that older versions did not write
    check_fields(f"{place}, test", {**later, **test} if isinstance(test, dict) else test, TEST_FIELDS)
    check_best(f"{place}, test", test, epochs)
    recall, balanced = test["recall"].values(), test["balanced_accuracy"]
    if balanced is not None and abs(balanced - sum(recall) / len(recall)) > TOLERANCE:
        raise ValueError(f"{place}, test: balanced_accuracy={balanced} is not the mean of recall")
    if not min(recall) - TOLERANCE <= test["accuracy"] <= max(recall) + TOLERANCE:
        raise ValueError(f"{place}, test: accuracy={test['accuracy']} is not between the least and largest recall")


def check_multi_label_test(place: str, test: dict[str, Any], epochs: int) -> None:
    """Check the figures of a multi-label test part as `check_test` does."""
    check_fields(place, test, MULTI_LABEL_FIELDS)
    check_best(place, test, epochs)
    found, mean = test["average_precision"].values(), test["mean_average_precision"]
    if abs(mean - sum(found) / len(found)) > TOLERANCE:
        raise ValueError(f"{place}: mean_average_precision={mean} is not the mean of average_precision")


def check_best(place: str, test: dict[str, Any], epochs: int) -> None:
    if test["best_epoch"] > epochs:
        raise ValueError(f"{place}: best_epoch={test['best_epoch']} of {epochs} epochs")


def validation_figure(line: dict[str, Any]) -> float:
    """Return the figure of an epoch's line by which epochs are chosen, from 0 to 1; more is better."""
    return float(line[MEAN_AVERAGE_PRECISION if MEAN_AVERAGE_PRECISION in line else ACCURACY])
