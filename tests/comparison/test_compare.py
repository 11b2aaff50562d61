"""Comparisons: figures, pairing, resumed and failed runs."""

import csv
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from comparisons import COST
from helpers import write_halves

import foveal
from foveal.comparison.compare import ComparisonResult, ContenderResult, compute_pairs_and_verdicts, row_of
from foveal.comparison.jobs import Failed
from foveal.comparison.plan import Plan, epochs_done
from foveal.reports.tables import costs_table, results_table, write_tables
from foveal.training.config import CompareConfig
from foveal.training.run_figures import Result

CONFIG = CompareConfig(data="digits", epochs=1, seeds=1)


def plan_of(folder: Path, seeds: int = 3, **models: str) -> Plan:
    """Plan with made-up costs."""
    models = models or {"none": "small_cnn", "se": "small_cnn+se"}
    same = dict.fromkeys(models, COST)
    return Plan(folder, replace(CONFIG, seeds=seeds), models, same, dict.fromkeys(models, 60.0))


def result_of(accuracy: float) -> Result:
    return Result(accuracy, accuracy, {"0": accuracy}, 1, 1.0)


def with_predictions(plan: Plan, name: str, right: int) -> None:
    """Write predictions that are correct on the first `right` of 100 images, of two classes in turn."""
    for folder in plan.runs(name).values():
        folder.mkdir()
        lines = [["image", "class", "predicted", "probability"]]
        lines += [[str(index), "ab"[index % 2], "ab"[(index + (index >= right)) % 2], "1"] for index in range(100)]
        with (folder / "predictions.csv").open("w", newline="") as file:
            csv.writer(file).writerows(lines)


def test_compare_pairs_the_seeds_that_both_contenders_have(tmp_path):
    plan = plan_of(tmp_path, 4)
    accuracies = {"none": (0.70, 0.72, 0.71, 0.70), "se": (0.80, 0.81, 0.82, 0.80)}
    results = {(name, seed): result_of(each) for name, values in accuracies.items() for seed, each in enumerate(values)}
    results["se", 1] = Failed("out of memory")
    rows = [row_of(plan, name, 0.01, results) for name in plan.models]
    with_predictions(plan, "none", 70)
    with_predictions(plan, "se", 80)
    verdicts, pairs = compute_pairs_and_verdicts(plan, rows)
    assert rows[1].failed == {1: "out of memory"}
    assert list(rows[1].errors) == [0, 2, 3]
    assert verdicts["se"].seeds == 3
    assert verdicts["se"].mean == pytest.approx((10 + 11 + 10) / 3)
    assert verdicts["se"].label == "better"
    assert list(pairs["se"]) == [0, 2, 3]
    assert (pairs["se"][0].gained, pairs["se"][0].lost) == (10, 0)
    assert pairs["se"][0].p == pytest.approx(2 / 2**10)
    compared = ComparisonResult(plan, tuple(rows), verdicts, pairs, 1.0)
    write_tables(compared)
    assert results_table(compared)[1][:4] == ["se", "better", "19.33 ± 1.15 (1 failed)", "+10.33"]
    assert costs_table(compared)[2] == ["none", "1,000", "2.00", "0.5", "10.0", "20.0", "3.0", "4.0"]
    with (tmp_path / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["failed"] for line in lines if line["contender"] == "se"] == ["", "out of memory", "", ""]
    assert json.loads((tmp_path / "results.json").read_text())["verdicts"]["se"]["label"] == "better"


def test_compare_gives_no_verdict_to_a_contender_that_always_fails(tmp_path):
    plan = plan_of(tmp_path, 1, none="small_cnn", se="small_cnn+se", eca="small_cnn+eca")
    results = {("none", 0): result_of(0.7), ("se", 0): Failed("no"), ("eca", 0): result_of(0.7)}
    rows = tuple(row_of(plan, name, 0.01, results) for name in plan.models)
    with_predictions(plan, "none", 70)
    with_predictions(plan, "eca", 70)
    verdicts, pairs = compute_pairs_and_verdicts(plan, rows)
    assert set(verdicts) == {"eca"}
    assert verdicts["eca"].label == "too few seeds"
    compared = ComparisonResult(plan, rows, verdicts, pairs, 1.0)
    write_tables(compared)
    assert results_table(compared)[2][:6] == ["se", "failed", "(1 failed)", "", "", ""]
    assert "Infinity" not in (tmp_path / "results.json").read_text()


def test_compare_does_not_judge_a_contender_that_learned_nothing(tmp_path):
    plan = plan_of(tmp_path)
    accuracies = {"none": (0.70, 0.72, 0.71), "se": (0.80, 0.5, 0.82)}
    results = {(name, seed): result_of(each) for name, values in accuracies.items() for seed, each in enumerate(values)}
    with_predictions(plan, "none", 70)
    with_predictions(plan, "se", 80)
    verdicts, _ = compute_pairs_and_verdicts(plan, [row_of(plan, name, 0.01, results) for name in plan.models])
    assert verdicts["se"].label == "unstable"
    assert "with seed 1 it learned nothing" in verdicts["se"].reason


def test_row_averages_a_class_over_the_seeds_that_test_it(tmp_path):
    """With groups across classes, a seed's test part may lack a class."""
    plan = plan_of(tmp_path, 3, none="small_cnn")
    recalls = ({"a": 0.5, "b": 0.25}, {"a": 0.75}, {"a": 1.0, "b": 0.75})
    results = {("none", seed): Result(0.5, None, recall, 1, 1.0) for seed, recall in enumerate(recalls)}
    assert row_of(plan, "none", 0.01, results).recall == {"a": 0.75, "b": 0.5}


def test_contender_result_has_mean_and_spread():
    row = ContenderResult("se", "small_cnn+se", 0.01, {0: 2.0, 1: 4.0, 2: 6.0}, {}, {}, COST)
    assert (row.mean, row.spread) == (4.0, 2.0)
    assert replace(row, errors={0: 2.0}).spread == 0.0


@pytest.mark.slow
def test_compare_resumes_after_kill_with_the_same_results_and_trains_copies_from_other_weights(tmp_path, jobs_here):
    """Kill the command with SIGKILL between two epochs, continue here, and compare the results bitwise."""
    contenders, data = ["none", "twin=none"], f"folder:{write_halves(tmp_path / 'halves', 100)}"
    once, twice = tmp_path / "once", tmp_path / "twice"
    command = [sys.executable, "-m", "foveal", "compare", *contenders, "--epochs", "4"]
    killed = subprocess.Popen([*command, "--image-size", "32", "--data", data, "--output", str(twice)])  # noqa: S603
    begin = time.monotonic()
    while not any("epoch" in file.read_text() for file in twice.glob("*-1/metrics.jsonl")):
        assert time.monotonic() - begin < 300
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert 0 < sum(map(epochs_done, twice.glob("*-?"))) < 2 * 3 * 4  # contenders, seeds, epochs
    one, other = (
        foveal.compare(contenders, output=folder, data=data, epochs=4, image_size=32) for folder in (once, twice)
    )
    for a, b in zip(one.rows, other.rows, strict=True):
        assert (a.name, a.errors, a.balanced, a.recall) == (b.name, b.errors, b.balanced, b.recall)
    assert one.verdicts == other.verdicts
    copies = [(once / f"{name}-0" / "last.safetensors").read_bytes() for name in ("none", "none-again", "twin")]
    assert len(set(copies)) == 3


@pytest.mark.slow
def test_compare_reports_failed_contenders(tmp_path, jobs_here):
    compared = foveal.compare(["none", "se"], output=tmp_path, data="digits", seeds=1, epochs=1, lr=1e30)
    assert [row.failed for row in compared.rows] == [{0: "FloatingPointError: the loss is nan at step 2"}] * 2
    assert foveal.write_report(compared).is_file()
