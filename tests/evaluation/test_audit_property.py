"""Findings of `audit` against ten lines of NumPy, for loaders of every form: the reference's figures, or a refusal."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import foveal
from foveal.core.record import Facts, Tap


class Place(nn.Module):
    """Weights that are the means of the image's channels, as gates, shares of branches, or scales along x."""

    def __init__(self, kind):
        super().__init__()
        axes = {"gate": "B C", "selection": "B K C", "transform": "B 2 3"}[kind]
        low = -float("inf") if kind == "transform" else 0
        facts = {"mechanism": "test", "domain": "channel", "value_range": (low, -low if low else 1)}
        self.kind, self.tap = kind, Tap(Facts(kind=kind, axes=axes, **facts))

    def forward(self, x):
        means = x.mean((2, 3))  # (B, C)
        if self.kind == "gate":
            return means * self.tap(means)
        if self.kind == "selection":
            return (means * self.tap(means[:, :, None])[..., 0]).sum(1)
        along, down = torch.tensor([[[1, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 0]]], dtype=x.dtype)
        return self.tap(means[:, :1, None] * along + down).flatten(1).sum(1)


class Network(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.place = Place(kind)

    def forward(self, x):
        return self.place(x)


def of_gates(gates: np.ndarray) -> dict[str, float]:
    """Findings on gates (N, C), multiples of 1/64 from 0 to 1."""
    found, closed, opened = {}, (gates == 0).mean(), (gates == 1).mean()
    if closed >= 0.95 and gates.mean() <= 0.05:
        return {"saturated closed": closed}
    if opened >= 0.95 and gates.mean() >= 0.95:
        return {"saturated open": opened}
    if closed + opened >= 0.95:
        found["saturated at both ends"] = closed + opened
    if len(gates) > 1 and (gates == gates[0]).all():
        found["constant"] = 0.0
    if gates.shape[1] > 1 and (gates == gates[:, :1]).all():
        found["uniform"] = 0.0
    return found


def of_shares(shares: np.ndarray) -> dict[str, float]:
    """Findings on shares (N, K) of K branches, with the branch in the name."""
    found, means = {}, shares.mean(0)
    for branch, share in enumerate(means):
        if share >= 0.99:
            found[f"branch always chosen, branch {branch}"] = share
        elif share <= 0.01 and means.max() < 0.99:
            found[f"branch never chosen, branch {branch}"] = share
    if (shares == 1 / shares.shape[1]).all():
        found["uniform, between the branches"] = 0.0
    if len(shares) > 1 and (shares == shares[0]).all():
        found["constant"] = 0.0
    return found


def of_scales(scales: np.ndarray) -> dict[str, float]:
    """Findings on transforms that scale x by (N, 1), y by 1."""
    if (scales == 1).all():
        return {"stuck at the identity": 0.0}
    found = {"constant": 0.0} if len(scales) > 1 and (scales == scales[0]).all() else {}
    shares = {"flipped": (scales < 0).mean(), "collapsed": (scales == 0).mean()}
    found |= {name: share for name, share in shares.items() if share > 0.01}
    outside = (np.abs(scales * (2 * np.arange(8) + 1 - 8) / 8) > 1).mean()  # of the centres of 8 pixels along x
    return found | ({"outside the image": outside} if outside > 0.5 else {})


REFERENCES = {"gate": of_gates, "selection": of_shares, "transform": of_scales}
ROWS = {
    "gate": [[0, 0], [1, 1], [0, 1], [1, 63 / 64], [1 / 64, 1 / 64]],
    "selection": [[0, 1], [1 / 128, 127 / 128], [1, 0], [0.5, 0.5]],
    "transform": [[1], [-1], [0], [0.5], [4], [-4]],
}
FORMS = {  # of images and labels; audit reads no labels
    "images": lambda images, labels: images,
    "pair": lambda images, labels: (images, labels),
    "list": lambda images, labels: [images, labels, "more", None],
    "dict": lambda images, labels: {"image": images, "label": labels, "name": "x"},
    "pixel_values": lambda images, labels: {"labels": labels, "pixel_values": images},
    "arrays": lambda images, labels: (images.numpy(), labels.numpy()),
    "array": lambda images, labels: images.numpy(),
    "labels first": lambda images, labels: (labels, images),
    "no images": lambda images, labels: {"label": labels},
    "one image": lambda images, labels: images[0],
    "list of images": lambda images, labels: [images.tolist()],
    "two keys": lambda images, labels: {"image": images, "images": images},
}
REFUSED = ("labels first", "no images", "one image", "list of images", "two keys")
DTYPES = ["float16", "float32", "float64", "uint8", "int64", "bool"]


@st.composite
def cases(draw):
    kind = draw(st.sampled_from(list(ROWS)))
    rows = draw(st.lists(st.sampled_from(ROWS[kind]), min_size=1, max_size=2, unique_by=tuple))
    chosen = draw(st.lists(st.sampled_from(rows), min_size=0, max_size=12))
    plain = draw(st.integers(0, 4)) > 0  # most loaders can be read
    form = draw(st.sampled_from([each for each in FORMS if not plain or each not in REFUSED]))
    dtype = draw(st.sampled_from(DTYPES[:3] if plain else DTYPES))
    return kind, np.array(chosen, dtype=float), form, dtype, draw(st.integers(1, 5))


@pytest.mark.slow
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(cases())
def test_audit_finds_what_the_reference_finds_or_refuses(case):
    kind, rows, form, dtype, size = case
    images = torch.tensor(rows)[:, :, None, None].expand(-1, -1, 4, 4) if len(rows) else torch.zeros(0, 2, 4, 4)
    images, labels = images.to(getattr(torch, dtype)).clone(), torch.arange(len(rows)) - 7
    loader = [FORMS[form](images[at : at + size], labels[at : at + size]) for at in range(0, len(rows), size)]
    readable = len(rows) and form not in REFUSED and dtype.startswith("float")
    if not readable:
        with pytest.raises((ValueError, TypeError)) as raised:
            foveal.audit(Network(kind), loader)
        assert "\n" not in str(raised.value)
        return
    found = foveal.audit(Network(kind), loader)
    assert (found.images, list(found.places)) == (len(rows), ["place"])
    figures = {f"{each.type}, {each.note}" if each.note else each.type: each.figure for each in found.findings}
    assert figures == pytest.approx(REFERENCES[kind](rows), abs=1e-6)
    assert len(found.faults) == sum("both ends" not in name for name in figures)
    counted = f"{len(found.faults)} fault{'s' * (len(found.faults) != 1)}, 1 place, {len(rows)} image"
    assert counted in str(found).splitlines()[-1]
