"""What a comparison measures of each run on its test part, in words."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """Names of the figures by which contenders are compared.

    Attributes:
        error: what is printed in per cent, and less is better.
        quality: 100 minus the error, of which differences have percentage points.
        by_class: what is printed for each class.
        explained: a sentence that says what the error is; empty for the share of wrong predictions.
    """

    error: str
    quality: str
    by_class: str
    explained: str = ""


ACCURACY = Measure("error", "accuracy", "recall")
MEAN_AVERAGE_PRECISION = Measure(
    "error (100 - mAP)",
    "mean average precision (mAP)",
    "average precision",
    "An image has any number of classes, so that the error is 100 minus the mean average precision in per cent, and "
    "neither a score nor McNemar's test by image is computed: both need one class for each image.",
)
