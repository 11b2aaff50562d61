"""Drawn sheets against those kept in `golden/`; see `golden/make.py`, which makes them.

They are compared small, so that another font is no difference and other weights are one.
"""

import io
from dataclasses import replace
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
from golden.make import HERE, SHEETS, photos, sheet
from PIL import Image

from foveal.inspection.drawing.draw import draw

WIDTH = 64  # pixels at which two sheets are compared


BOUND = 1.2  # of 255, the mean absolute difference of two sheets that are the same


def small(picture: Image.Image) -> np.ndarray:
    height = round(WIDTH * picture.height / picture.width)
    return np.asarray(picture.convert("RGB").resize((WIDTH, height), Image.Resampling.BOX), dtype=float)


def difference(first: Image.Image, second: Image.Image) -> float:
    """Mean absolute difference, of 255; infinite for sheets of another shape."""
    one, other = small(first), small(second)
    return float(np.abs(one - other).mean()) if one.shape == other.shape else float("inf")


def stored(name: str) -> Image.Image:
    return Image.open(HERE / f"{name}.png")


def as_image(picture) -> Image.Image:
    return Image.open(io.BytesIO(picture.png()))


@pytest.mark.parametrize("name", SHEETS)
def test_draw_agrees_with_the_stored_sheet(name):
    assert difference(as_image(sheet(name)), stored(name)) < BOUND


@pytest.mark.parametrize("name", SHEETS)
def test_draw_of_other_weights_differs_from_the_stored_sheet(name):
    """Draw the weights of the other image; of gates 1 - w, of selections the other branch."""
    other = [replace(record, values=altered(record)) for record in SHEETS[name]()]
    assert difference(as_image(draw(other, photos(), ["seven", "five"])), stored(name)) > BOUND


def altered(record):
    if record.axes == "B C":
        return 1 - record.values
    return record.values.flip(1 if record.kind == "selection" else 0)


@pytest.mark.parametrize("name", ["tokens", "selection"])
def test_draw_with_another_font_agrees_with_the_stored_sheet(name):
    with mpl.rc_context({"font.family": "DejaVu Serif"}):
        other = as_image(sheet(name))
    assert 0 < difference(other, stored(name)) < BOUND


def test_stored_sheets_differ_from_each_other():
    assert all(difference(stored(first), stored(second)) > BOUND for first, second in pairwise(SHEETS))


def test_stored_sheets_are_small():
    assert {path.stem for path in HERE.glob("*.png")} == set(SHEETS)
    assert max(path.stat().st_size for path in HERE.glob("*.png")) < 60_000
