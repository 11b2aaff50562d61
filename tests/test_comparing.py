"""Comparisons: the plan, the pairing, figures, costs."""

import csv
import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import foveal
from foveal.comparison import plan as plans
from foveal.comparison.compare import ComparisonResult, ContenderResult, compute_pairs_and_verdicts, row_of
from foveal.comparison.jobs import Failed
from foveal.comparison.plan import CONTENDERS, Plan, by_name, make_plan, network_name
from foveal.core.names import slug
from foveal.profiling.costs import Cost, costs, count_macs, loss_of, peak_bytes, saved_bytes
from foveal.reports.tables import costs_table, results_table, write_tables
from foveal.training.config import CompareConfig, TrainConfig
from foveal.training.run_folder import Result

COST = Cost(1_000, 2_000_000, 0.5, 10.0, 20.0, 3_000_000, 4_000_000)
CONFIG = CompareConfig(data="digits", epochs=1, seeds=1)


def test_macs_by_thought():
    """A 3x3 convolution of 2 to 4 channels on 5x5 positions, then a layer of 100 to 3."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(100, 3))
    assert count_macs(model, (2, 5, 5)) == 9 * 2 * 4 * 25 + 100 * 3


def test_costs_leave_models_and_threads_as_they_were():
    models = {"a": nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten())}
    models["b"] = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten())
    threads = torch.get_num_threads()
    measured = costs(models, (1, 8, 8))
    assert torch.get_num_threads() == threads
    assert models["a"][1].training
    assert models["a"][1].running_mean.eq(0).all()
    assert models["a"][0].weight.grad is None
    assert measured["a"].parameters == 18 + 2 + 4
    assert min(measured["b"].single, measured["b"].batch, measured["b"].step) > 0


class Powers(nn.Module):
    """A loss whose saved tensors can be counted by thought: x * w, then its exponential, which saves its answer."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 100))

    def forward(self, x):
        return (x * self.weight).exp()

    def loss(self, outputs, labels, criterion):
        return outputs.sum()


def test_saved_and_live_bytes_by_thought():
    """Of 10 images of 100 floats: the product saves x, the exponential its answer, the sum nothing. At the height of
    the backward pass there are these, the product's gradient and the sum's, and one row for the weight."""
    images = torch.rand(10, 100)
    model = Powers()
    assert saved_bytes(partial(loss_of, model, images), model.parameters()) == 2 * 4000
    weights = 400
    assert 2 * 4000 + weights <= peak_bytes(model, images) <= 4 * 4000 + 3 * weights + 100


def test_a_contender_has_a_name_and_what_it_adds():
    named = by_name(["none", "twin=none", "sk:groups=8", "wide=wider:match=macs", "two=stn+se:reduction=8"])
    assert named == {
        "none": "none",
        "twin": "none",
        "sk:groups=8": "sk:groups=8",
        "wide": "wider:match=macs",
        "two": "stn+se:reduction=8",
    }
    assert network_name("resnet18", "none") == "resnet18"
    assert network_name("resnet18", "stn+se") == "resnet18+stn+se"


@pytest.mark.parametrize(
    ("contenders", "says"),
    [
        ([], "contenders: none given"),
        (["none", "se", "none"], "contender 'none' is named twice; another name for it: twin=none"),
        (["a/b=se", "a-b=none"], "contender 'a-b' is named twice"),
        (["=se"], "contender '=se': NAME=CONTENDER"),
        (["twin="], "contender 'twin=': NAME=CONTENDER"),
        (["none", "wider"], "contender 'wider': there is no contender with attention"),
        (["se", "wider:match=weight"], "unknown match 'weight'"),
        (["se", "wider:by=macs"], "unknown option of a control 'by'"),
    ],
)
def test_contenders_are_checked_before_anything_is_written(contenders, says, tmp_path):
    with pytest.raises(ValueError, match=re.escape(says)):
        make_plan(contenders, CONFIG, tmp_path / "cmp")
    assert not (tmp_path / "cmp").exists()


@pytest.mark.parametrize(("seeds", "tune", "says"), [(0, 0, "seeds=0: 1 or more"), (1, -1, "tune=-1: 0 or more")])
def test_numbers_are_checked(seeds, tune, says):
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, seeds=seeds, tune=tune)


def test_the_contenders_of_the_main_job_stand_in_its_backbone():
    plain = sum(weight.numel() for weight in foveal.create_model("small_cnn", num_classes=10, in_chans=1).parameters())
    for name in CONTENDERS:
        if name != "wider":
            model = foveal.create_model(network_name("small_cnn", name), num_classes=10, in_chans=1)
        if name == "stn":
            localisation = sum(weight.numel() for weight in model.stem.stn.localisation.parameters())
            assert localisation <= plain / 10


def test_a_control_is_as_large_as_the_dearest_contender_and_stays_what_it_was(tmp_path):
    plan = make_plan(["none", "se:reduction=2", "wider", "deeper"], CONFIG, tmp_path / "cmp")
    dearest = plan.costs["se:reduction=2"].parameters
    assert plan.costs["none"].parameters < dearest
    assert plan.costs["wider"].parameters == pytest.approx(dearest, rel=0.05)
    plan.write()
    more = make_plan(["none", "sk:groups=8", "wider"], CONFIG, tmp_path / "cmp")
    assert more.models["wider"] == plan.models["wider"]
    more.write()
    assert set(json.loads((tmp_path / "cmp/comparison.json").read_text())["contenders"]) == {
        "none", "se:reduction=2", "wider", "deeper", "sk:groups=8",
    }  # fmt: skip


def test_a_folder_of_another_comparison_is_refused(tmp_path):
    make_plan(["none", "twin=none"], CONFIG, tmp_path / "cmp").write()
    with pytest.raises(ValueError, match="another epochs, 1; name another folder"):
        make_plan(["none"], replace(CONFIG, epochs=2), tmp_path / "cmp")
    with pytest.raises(ValueError, match="another twin, 'small_cnn'"):
        make_plan(["twin=se"], CONFIG, tmp_path / "cmp")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/to_keep.txt").write_text("dear")
    with pytest.raises(ValueError, match="holds something else"):
        make_plan(["none"], CONFIG, tmp_path / "letters")


def plan_of(folder: Path, seeds: int = 3, **models: str) -> Plan:
    """A plan that nobody measured."""
    models = models or {"none": "small_cnn", "se": "small_cnn+se"}
    same = dict.fromkeys(models, COST)
    return Plan(folder, replace(CONFIG, seeds=seeds), models, same, dict.fromkeys(models, 60.0))


def test_the_minutes_are_of_what_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "workers", lambda: 2)
    plan = plan_of(tmp_path)
    assert plan.minutes == 3.0  # six runs of a minute, two at a time
    plan.runs("se")[1].mkdir()
    (plan.runs("se")[1] / "metrics.jsonl").write_text(
        '{"epoch": 1, "train_loss": 2.0, "validation_accuracy": 0.5, "seconds": 1.0}\n'
    )
    assert plan.minutes == 2.5


def result_of(accuracy: float) -> Result:
    return Result(accuracy, accuracy, {"0": accuracy}, 1, 1.0)


def with_predictions(plan: Plan, name: str, right: int) -> None:
    """Runs that are right on the first so many of ten images."""
    for folder in plan.runs(name):
        folder.mkdir()
        lines = [["image", "class", "predicted", "probability"]]
        lines += [[str(index), "a", "a" if index < right else "b", "1"] for index in range(10)]
        with (folder / "predictions.csv").open("w", newline="") as file:
            csv.writer(file).writerows(lines)


def test_verdicts_pair_the_seeds_that_both_have(tmp_path):
    plan = plan_of(tmp_path, 4)
    accuracies = {"none": (0.70, 0.72, 0.71, 0.70), "se": (0.80, 0.81, 0.82, 0.80)}
    results = {(name, seed): result_of(each) for name, values in accuracies.items() for seed, each in enumerate(values)}
    results["se", 1] = Failed("out of memory")
    rows = [row_of(plan, name, 0.01, results) for name in plan.models]
    with_predictions(plan, "none", 7)
    with_predictions(plan, "se", 8)
    verdicts, pairs = compute_pairs_and_verdicts(plan, rows)
    assert rows[1].failed == {1: "out of memory"}
    assert list(rows[1].errors) == [0, 2, 3]
    assert verdicts["se"].seeds == 3
    assert verdicts["se"].mean == pytest.approx((10 + 11 + 10) / 3)
    assert verdicts["se"].label == "better"
    assert list(pairs["se"]) == [0, 2, 3]
    assert (pairs["se"][0].gained, pairs["se"][0].lost, pairs["se"][0].p) == (1, 0, 1.0)
    compared = ComparisonResult(plan, tuple(rows), verdicts, pairs, 1.0)
    write_tables(compared)
    assert results_table(compared)[2][:3] == ["se", "19.33 ± 1.15 (1 failed)", "+10.33"]
    assert costs_table(compared)[1] == ["none", "1,000", "2.00", "0.5", "10.0", "20.0", "3.0", "4.0"]
    with (tmp_path / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["failed"] for line in lines if line["contender"] == "se"] == ["", "out of memory", "", ""]
    assert json.loads((tmp_path / "results.json").read_text())["verdicts"]["se"]["label"] == "better"


def test_a_contender_that_always_fails_has_no_verdict_and_a_file_without_infinities(tmp_path):
    plan = plan_of(tmp_path, 1, none="small_cnn", se="small_cnn+se", eca="small_cnn+eca")
    results = {("none", 0): result_of(0.7), ("se", 0): Failed("no"), ("eca", 0): result_of(0.7)}
    rows = tuple(row_of(plan, name, 0.01, results) for name in plan.models)
    with_predictions(plan, "none", 7)
    with_predictions(plan, "eca", 7)
    verdicts, pairs = compute_pairs_and_verdicts(plan, rows)
    assert set(verdicts) == {"eca"}
    assert verdicts["eca"].label == "too few seeds to say"
    compared = ComparisonResult(plan, rows, verdicts, pairs, 1.0)
    write_tables(compared)
    assert results_table(compared)[2] == ["se", "(1 failed)", "", "", "", ""]
    assert "Infinity" not in (tmp_path / "results.json").read_text()


def test_a_row_has_mean_and_spread():
    row = ContenderResult("se", "small_cnn+se", 0.01, {0: 2.0, 1: 4.0, 2: 6.0}, {}, {}, COST)
    assert (row.mean, row.spread) == (4.0, 2.0)
    assert replace(row, errors={0: 2.0}).spread == 0.0


@pytest.mark.slow
def test_a_killed_comparison_goes_on_and_ends_as_an_undisturbed_one_and_a_twin_is_no_different(tmp_path):
    """`kill -9` in the middle, then the same command: the same figures bit for bit."""
    command = [sys.executable, "-m", "foveal", "compare", "none", "twin=none", "--data", "digits", "--epochs", "2"]
    once, twice = tmp_path / "once", tmp_path / "twice"
    subprocess.run([*command, "--output", str(once)], check=True)  # noqa: S603
    killed = subprocess.Popen([*command, "--output", str(twice)])  # noqa: S603
    begin = time.monotonic()
    while not any("epoch" in file.read_text() for file in twice.glob("*-1/metrics.jsonl")):
        assert time.monotonic() - begin < 300
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    assert not (twice / "results.json").exists()
    subprocess.run([*command, "--output", str(twice)], check=True)  # noqa: S603
    one, other = (json.loads((folder / "results.json").read_text()) for folder in (once, twice))
    for a, b in zip(one["rows"], other["rows"], strict=True):
        assert {key: a[key] for key in ("name", "errors", "balanced", "recall")} == {
            key: b[key] for key in ("name", "errors", "balanced", "recall")
        }
    assert one["verdicts"] == other["verdicts"]
    assert one["verdicts"]["twin"]["label"].startswith("no difference")
    assert (one["verdicts"]["twin"]["low"], one["verdicts"]["twin"]["high"]) == (0.0, 0.0)


@pytest.mark.slow
def test_contenders_that_fail_are_reported_as_failed(tmp_path):
    compared = foveal.compare(["none", "se"], "digits", seeds=1, epochs=1, output=tmp_path, config=TrainConfig(lr=1e30))
    assert [row.failed for row in compared.rows] == [{0: "FloatingPointError: the loss is nan at step 2"}] * 2
    assert foveal.write_report(compared).is_file()


def test_folders_have_names_that_any_system_takes():
    assert slug("sk:groups=8,dilations=3") == "sk-groups=8,dilations=3"
    assert slug("folder:/my images/birds-resnet18") == "folder-my-images-birds-resnet18"
