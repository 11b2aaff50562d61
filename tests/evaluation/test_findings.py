"""Findings from weights and transforms alone: which values count as a fault."""

import math

import pytest
import torch

from foveal.core.record import Facts, Record
from foveal.evaluation.finding_types import FINDING_TYPES
from foveal.evaluation.findings import Finding, findings_of, signed_area
from foveal.inspection.record_statistics import summarize
from foveal.ops.warps import CONTROL


def gate(
    values: torch.Tensor, axes: str = "B C", kind: str = "gate", value_range=(0.0, 1.0), hard: bool = False
) -> list:
    facts = Facts(mechanism="se", kind=kind, domain="channel", axes=axes, value_range=value_range, hard=hard)
    seen = summarize(Record(**vars(facts), path="here", values=values))
    return [each.type for each in findings_of(seen, "here", weighed=(7, 7))]


SPREAD = torch.linspace(0.1, 0.9, 40).view(5, 8)  # every image and channel has a weight of its own


class TestFindingsOfWeights:
    @pytest.mark.parametrize(
        ("values", "names"),
        [
            (SPREAD, []),
            (SPREAD[:1].expand(5, 8), ["constant"]),
            (SPREAD[:1], []),  # of one image nobody can tell
            (SPREAD[:, :1].expand(5, 8), ["uniform"]),
            (SPREAD[:, :1], []),  # one channel has no other to differ from
            (torch.full((5, 8), 0.5), ["constant", "uniform"]),
            (torch.full((5, 8), 0.5) + 1e-4 * SPREAD, ["constant", "uniform"]),
            (0.001 * SPREAD, ["saturated closed"]),
            (1 - 0.001 * SPREAD, ["saturated open"]),
            ((SPREAD > 0.5).float(), ["saturated at both ends"]),
            (SPREAD.where(SPREAD > 0.2, torch.nan), ["not finite"]),
            (SPREAD.where(SPREAD > 0.2, torch.inf), ["not finite"]),
            (1 + SPREAD, []),  # driven out of the range by a strength below 0, which is no end of it
        ],
    )
    def test_findings_of_gates(self, values, names):
        assert gate(values) == names

    def test_findings_of_a_gate_from_1_to_2_closed_at_1(self):
        assert gate(1 + 0.001 * SPREAD, value_range=(1.0, 2.0)) == ["saturated closed"]

    def test_findings_of_masks(self):
        maps = torch.rand(5, 7, 7)
        assert gate(maps, "B H W", "mask") == []
        assert gate(maps[:, :1, :1], "B H W", "mask") == ["collapsed map"]
        assert gate(torch.rand(5, 8, 1, 1), "B C H W", "mask") == ["collapsed map"]
        assert gate(maps[:, :1, :1], "B H W", "mask", hard=True) == []  # scores of candidates, of which there is one
        assert gate(maps[:, :1, :1].expand(5, 7, 7), "B H W", "mask") == ["uniform"]

    def test_findings_of_weights_that_sum_to_one(self):
        """A softmax over 64 positions: nearly all its weights are small, which is no saturation."""
        logits = torch.randn(5, 8, 8)
        assert gate(logits.flatten(1).softmax(1).view(5, 8, 8), "B H W", "mask") == []
        assert gate(torch.full((5, 8, 8), 1 / 64), "B H W", "mask") == ["constant", "uniform"]
        affinity = torch.randn(5, 2, 16, 16).softmax(3)
        assert gate(affinity, "B G Q K", "affinity") == []
        assert gate(affinity[:1].expand(5, -1, -1, -1), "B G Q K", "affinity") == ["constant"]
        assert gate((1e4 * affinity).softmax(3), "B G Q K", "affinity") == ["saturated on one key"]
        assert gate(affinity.view(5, 2, 4, 4, 4, 4), "B G H W Y X", "affinity") == []
        identical_rows = affinity[:, :, :1].expand(
            -1, -1, 16, -1
        )  # every query reads the same keys, not all keys the same
        assert gate(identical_rows, "B G Q K", "affinity") == []
        assert gate(identical_rows.reshape(5, 2, 4, 4, 4, 4), "B G H W Y X", "affinity") == []
        mixed = torch.randn(5, 2, 16, 16)  # heads mixed after the softmax: any sign, any sum
        assert gate(mixed, "B G Q K", "affinity", value_range=(-math.inf, math.inf)) == []
        assert gate(torch.ones(5, 2, 9, 1), "B G Q K", "affinity") == ["constant", "uniform"]  # a single key

    def test_findings_of_selections(self):
        selection = torch.randn(5, 3, 8).softmax(1)
        assert gate(selection, "B K C", "selection") == []
        never = torch.stack([SPREAD, 1 - SPREAD, 0 * SPREAD], dim=1)
        assert gate(never, "B K C", "selection") == ["branch never chosen"]
        always = torch.stack([0 * SPREAD, 1 - 0 * SPREAD], dim=1)
        assert gate(always, "B K C", "selection") == ["branch always chosen", "constant"]
        assert gate(torch.full((5, 4, 8), 1 / 4), "B K C", "selection") == ["uniform", "constant"]


def transform(values: torch.Tensor, axes: str = "B 2 3", untrained: bool = False, kind: str = "transform") -> list[str]:
    within = (-math.inf, math.inf)
    facts = Facts(mechanism="stn", kind=kind, domain="spatial", axes=axes, value_range=within)
    return [each.type for each in findings_of(Record(**vars(facts), path="", values=values), "", untrained=untrained)]


def thetas(x_scales, y_scales, shifts=None) -> torch.Tensor:
    shifts = shifts or [0.0] * len(x_scales)
    return torch.tensor([[[a, 0, t], [0, b, 0]] for a, b, t in zip(x_scales, y_scales, shifts, strict=True)])


class TestFindingsOfTransforms:
    @pytest.mark.parametrize(
        ("values", "names"),
        [
            (thetas([0.5, 0.7, 0.9], [0.5, 0.7, 0.9]), []),
            (thetas([1.0, 1.0, 1.001], [1.0, 1.0, 1.0]), ["stuck at the identity"]),
            (thetas([0.5, 0.5], [0.5, 0.5]), ["constant"]),
            (thetas([0.5, -0.7, 0.9], [0.5, 0.7, 0.9]), ["flipped"]),
            (thetas([-0.5, -0.7], [-0.5, -0.7]), []),  # both axes: half a turn
            (thetas([0.01, 0.5], [0.02, 0.9]), ["collapsed"]),
            (thetas([1.8, 2.5], [1.8, 2.5]), ["outside the image"]),
            (thetas([0.5, 0.6], [0.5, 0.6], [1.6, 2.0]), ["outside the image"]),
            (thetas([0.5, math.nan], [0.5, 0.6]), ["not finite"]),
        ],
    )
    def test_findings_of_affine_transforms(self, values, names):
        assert transform(values) == names

    def test_findings_of_every_family_at_its_identity(self):
        homography = torch.eye(3).expand(4, 3, 3)
        spline = torch.tensor(CONTROL).expand(4, 16, 2)
        for values, axes in ((homography, "B 3 3"), (spline, "B P 2")):
            assert transform(values, axes) == ["stuck at the identity"]
            assert transform(values, axes, untrained=True) == ["at birth"]
        scales = torch.linspace(0.5, 0.9, 4).view(4, 1, 1)
        assert transform(scales * spline, "B P 2") == []
        assert transform(spline * scales * torch.tensor([-1.0, 1.0]), "B P 2") == ["flipped"]

    def test_findings_of_crops(self):
        """Two crops per image: one constant and one varying count as varying."""
        moves = thetas([0.3] * 4, [0.3] * 4, [-0.6, -0.2, 0.2, 0.6])
        stays = thetas([0.3] * 4, [0.3] * 4)
        assert transform(torch.stack([stays, moves], 1), "B K 2 3", kind="crop") == []
        assert transform(torch.stack([stays, stays], 1), "B K 2 3", kind="crop") == ["constant"]

    def test_signed_area_of_an_unchanged_image_is_positive(self):
        square = torch.tensor([[[-1.0, -1], [1, -1], [1, 1], [-1, 1]]])
        assert signed_area(square).tolist() == [4.0]
        assert signed_area(square.flip(1)).tolist() == [-4.0]

    @pytest.mark.parametrize(
        ("path", "untrained", "names"),
        [
            (2 * torch.rand(6, 4, 2) - 1, False, []),
            (torch.zeros(6, 4, 2), False, ["never moves"]),
            (torch.zeros(6, 4, 2), True, ["at birth"]),
            (torch.rand(1, 4, 2).expand(6, 4, 2), False, ["constant"]),
            (torch.tensor([[0.0, 0.0], [0.999, -1.0]]).expand(6, 2, 2), False, ["in a corner", "constant"]),
            (torch.full((6, 4, 2), math.nan), False, ["not finite"]),
        ],
    )  # fmt: skip
    def test_findings_of_glimpse_paths(self, path, untrained, names):
        assert transform(path, "B T 2", untrained, "glimpse") == names


def test_finding_describes_every_figure():
    for what, meaning in FINDING_TYPES.items():
        assert str(Finding("here", what, 0.5, "why")).startswith(what)
        assert meaning.explanation.endswith(".")
        assert meaning.remedy.endswith(".")
