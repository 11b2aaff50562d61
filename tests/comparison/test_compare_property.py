"""`compare` against a count of its runs' `predictions.csv`, for folders of any classes and contenders in any order."""

import csv
import json
import tempfile
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from PIL import Image

import foveal
from foveal.comparison import compare as comparing
from foveal.comparison.examine import Examination
from foveal.comparison.jobs import JobPool, guarded
from foveal.comparison.verdicts import TOO_FEW
from foveal.core.names import slug
from foveal.reports.tables import write_tables
from foveal.training.config import CompareConfig

NAMES = ["b", "B", "10", "2", "nan", "é", "cat,dog", 'the "x"']
CONTENDERS = ["none", "twin=none", "se", "eca", "mine=se:reduction=2"]
PHASES = [Phase.explicit, Phase.generate]
Predictions = dict[str, tuple[str, str]]  # by image: its class, and the predicted one


def write_images(root: Path, counts: dict[str, int]) -> None:
    stream = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        colour = stream.integers(80, 176, (1, 1, 3))
        for index in range(count):
            pixels = (colour + stream.integers(-80, 80, (16, 16, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")


def read_predictions(run: Path) -> Predictions:
    with (run / "predictions.csv").open(newline="") as file:
        return {row["image"]: (row["class"], row["predicted"]) for row in csv.DictReader(file)}


def error_of(predictions: Predictions) -> float:
    return 100 * sum(a != b for a, b in predictions.values()) / len(predictions)


def recall_of(predictions: Predictions, name: str) -> float:
    return mean(a == b for a, b in predictions.values() if a == name)


def check_row(row: comparing.ContenderResult, own: list[Predictions], classes: list[str]) -> None:
    """Compare errors, recall and balanced errors of a contender with those of its runs' predictions."""
    present = sorted({label for label, _ in own[0].values()})
    recall = {name: [recall_of(each, name) for each in own] for name in present}
    assert row.failed == {}
    assert row.errors == pytest.approx(dict(enumerate(map(error_of, own))))
    assert row.recall == pytest.approx({name: mean(each) for name, each in recall.items()})
    balanced = {seed: 100 * (1 - mean(each[seed] for each in recall.values())) for seed in range(len(own))}
    assert row.balanced == (pytest.approx(balanced) if present == classes else {})


def check_examination(row: comparing.ContenderResult, run: Path) -> None:
    """Compare the accuracy of the score, and the images of the audit, with the files of the first run."""
    if row.model == "small_cnn":
        assert row.examination == Examination()
        return
    assert row.examination.score.accuracy == pytest.approx(1 - row.errors[0] / 100, abs=1e-6)
    assert row.examination.score.images == len(read_predictions(run))
    assert row.examination.audit.images == len(json.loads((run / "split.json").read_text())["validation"])


def check_difference(
    found: comparing.ComparisonResult, name: str, bases: list[list[Predictions]], own: list[Predictions]
) -> None:
    """Compare the mean difference, and the images that one network alone gets right, with the predictions."""
    base, verdict = bases[0], found.verdicts[name]
    errors = mean(mean(map(error_of, each)) for each in bases)
    assert verdict.mean == pytest.approx(errors - mean(map(error_of, own)), abs=1e-9)
    assert (verdict.label == TOO_FEW) == (len(own) < 3)
    for seed, (a, b) in enumerate(zip(base, own, strict=True)):
        assert {image: label for image, (label, _) in a.items()} == {image: label for image, (label, _) in b.items()}
        sides = [(a[image][0] == a[image][1], b[image][0] == b[image][1]) for image in a]
        pair = found.pairs[name][seed]
        assert (pair.gained, pair.lost) == (sides.count((False, True)), sides.count((True, False)))


def check(found: comparing.ComparisonResult, classes: list[str], seeds: int) -> None:
    """Compare every figure on the test part with the runs' files."""
    folder = found.plan.folder
    runs = {
        row.name: [read_predictions(folder / f"{slug(row.name)}-{seed}") for seed in range(seeds)] for row in found.rows
    }
    base = next((row.name for row in found.rows if row.model == "small_cnn"), found.rows[0].name)
    assert found.plan.baseline == base
    assert found.plan.twin == (f"{base} again" if seeds >= 3 else None)
    assert set(found.verdicts) == set(found.pairs) == set(runs) - {base, found.plan.twin}
    for row in found.rows:
        check_row(row, runs[row.name], classes)
        check_examination(row, folder / f"{slug(row.name)}-0")
        if row.name not in (base, found.plan.twin):
            bases = [runs[name] for name in (base, found.plan.twin) if name]
            check_difference(found, row.name, bases, runs[row.name])
    write_tables(found)
    with (folder / "results.csv").open(newline="") as file:
        errors = [float(line["error_percent"]) for line in csv.DictReader(file)]
    assert errors == pytest.approx([error_of(each) for own in runs.values() for each in own], abs=1e-4)


class Here(JobPool):
    """Run jobs one after the other, in this process."""

    def run(self, jobs, on_report=None):
        return {key: guarded(call, *arguments) for key, (call, arguments) in jobs.items()}


@st.composite
def cases(draw):
    names = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=3, unique=True))
    rare = {names[0]: draw(st.integers(1, 2))} if draw(st.integers(0, 3)) == 3 else {}
    counts = {name: draw(st.integers(12, 30)) for name in names} | rare  # of a rare class there is no test image
    contenders = draw(st.lists(st.sampled_from(CONTENDERS), min_size=2, max_size=3))
    return counts, contenders, draw(st.integers(1, 3))


@pytest.mark.exhaustive
@settings(max_examples=4, deadline=None, derandomize=True, database=None, phases=PHASES)
@given(cases())
@example(({"b": 2, "é": 30, "B": 21}, ["se", "twin=none", "none"], 3))
def test_compare_gives_the_figures_that_its_runs_give_or_refuses(case):
    counts, contenders, seeds = case
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "JobPool", Here)
        write_images(Path(folder) / "data", counts)
        options = {"image_size": 16, "epochs": 1, "batch_size": 8, "lr": 5e-3, "seeds": seeds}
        arguments = contenders, CompareConfig(data=f"folder:{folder}/data", **options), f"{folder}/cmp"
        if len(set(contenders)) == len(contenders):
            check(foveal.compare(*arguments), sorted(counts), seeds)
            return
        with pytest.raises(ValueError, match="is named twice"):
            foveal.compare(*arguments)
