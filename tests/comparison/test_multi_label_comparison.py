"""Comparisons on multi-label data: the error is 100 - mAP, and it is said wherever it is printed."""

import json
from dataclasses import replace

import pytest
import torch
from comparisons import COST, make_comparison
from multi_label import write_bars

import foveal
from foveal.comparison.compare import compute_pairs_and_verdicts, row_of
from foveal.comparison.constant_answer import constant_ranking
from foveal.comparison.plan import Plan, make_plan
from foveal.core.answers import Answers
from foveal.reports.answer import answer
from foveal.reports.charts import learning_curves
from foveal.reports.comparison_page import by_class, write_report
from foveal.reports.sentences import lines, scope
from foveal.reports.tables import results_table
from foveal.training.config import CompareConfig
from foveal.training.predictions import write_predictions
from foveal.training.run_figures import MultiLabelResult
from foveal.training.run_folder import finished

LABELS = torch.tensor([[1.0, 0], [1, 1], [1, 0], [0, 0]])  # shares of images: 0.75 and 0.25
WORSE, BETTER = (35.0, 36.0, 34.5), (30.0, 31.1, 29.4)  # 100 - mAP by seed


def plan_of(folder) -> Plan:
    """Plan of two contenders with three seeds, whose runs have predictions."""
    models = {"none": "small_cnn", "se": "small_cnn+se"}
    config = CompareConfig(data="labels.csv", epochs=1, seeds=3)
    same = dict.fromkeys(models, COST)
    plan = Plan(folder, config, models, same, dict.fromkeys(models, 60.0), multi_label=True)
    for run in (run for name in models for run in plan.runs(name).values()):
        run.mkdir()
        answers = Answers(torch.zeros(4, 2), 2, multi_label=True)
        write_predictions(run, ["0", "1", "2", "3"], LABELS, ["a", "b"], answers)
    return plan


def result_of(error: float) -> MultiLabelResult:
    share = 1 - error / 100
    return MultiLabelResult(share, {"a": share + 0.1, "b": share - 0.1}, 1)


def test_compare_judges_the_mean_average_precision_without_tests_by_image(tmp_path):
    plan = plan_of(tmp_path)
    results = {
        (name, seed): result_of(error)
        for name, errors in (("none", WORSE), ("se", BETTER))
        for seed, error in enumerate(errors)
    }
    rows = [row_of(plan, name, 0.01, results) for name in plan.models]
    assert list(rows[1].errors.values()) == pytest.approx(BETTER)
    assert rows[0].average_precision == pytest.approx({"a": 1.1 - 0.351666667, "b": 0.9 - 0.351666667})
    assert (rows[0].recall, rows[0].balanced) == ({}, {})
    verdicts, pairs = compute_pairs_and_verdicts(plan, rows)
    assert pairs == {}
    assert verdicts["se"].mean == pytest.approx(5)
    unlearned = {key: result_of(50.5) if key == ("se", 1) else each for key, each in results.items()}
    rows = [row_of(plan, name, 0.01, unlearned) for name in plan.models]
    assert compute_pairs_and_verdicts(plan, rows)[0]["se"].kind == "unstable"


def test_constant_ranking_has_the_shares_of_images_as_average_precision(tmp_path):
    assert constant_ranking(plan_of(tmp_path).runs("none")[0]) == (4, pytest.approx(50))


def test_reports_say_what_the_error_is(tmp_path):
    made = make_comparison(tmp_path, {"none": WORSE, "se": BETTER}, multi_label=True)
    rows = tuple(replace(row, recall={}, average_precision={"cat": 0.9, "dog": 0.4}) for row in made.rows)
    made = replace(made, rows=rows, pairs={})
    assert f"se pays: error (100 - mAP) {made.verdicts['se'].mean:.2f} points lower" in answer(made)
    assert results_table(made)[0][2] == "error (100 - mAP), %"
    assert "error (100 - mAP) 30.17" in lines(made)[0].figures
    said = " ".join(scope(made))
    assert "in percentage points of mean average precision (mAP)" in said
    assert "the error is 100 minus the mean average precision in per cent" in said
    assert by_class(made).rows[0][:2] == ("cat", "90.0")
    page = write_report(made).read_text()
    assert "Average precision of the baseline by class" in page
    assert "Pairs of trained networks" not in page
    assert "nor McNemar" in page
    assert "percentage points of accuracy" not in page
    assert (tmp_path / "results.csv").read_text().splitlines()[0].split(",")[4] == "100_minus_map_percent"
    assert json.loads((tmp_path / "results.json").read_text())["error"] == "error (100 - mAP), %"
    assert learning_curves(made, "validation error (100 - mAP), %").alt_text.startswith("Validation error (100 - map)")


@pytest.mark.exhaustive
def test_compare_trains_and_examines_on_multi_label_data(tmp_path, jobs_here):
    data = write_bars(tmp_path, 60)
    settings = {"data": str(data), "image_size": 16, "epochs": 2, "batch_size": 8, "seeds": 1}
    result = foveal.compare(["none", "se"], output=tmp_path / "out", **settings)
    assert result.plan.multi_label
    none, se = result.rows
    assert none.errors[0] == pytest.approx(finished(tmp_path / "out/none-0").error)
    assert set(se.average_precision) <= {"left", "right", "top"}
    assert se.examination.audit is not None
    assert (se.examination.score, se.examination.failed) == (None, "")
    assert result.pairs == {}
    assert "error (100 - mAP)" in write_report(result).read_text()


def test_make_plan_refuses_a_network_or_mixing_that_needs_one_class(tmp_path):
    config = CompareConfig(data=str(write_bars(tmp_path, 40)), image_size=16, seeds=1)
    with pytest.raises(ValueError, match="network 'ram' computes its loss from one class for each image"):
        make_plan(["none"], replace(config, backbone="ram"), tmp_path / "out")
    with pytest.raises(ValueError, match=r"mixup and cutmix: data '.*' has any number of classes for an image"):
        make_plan(["none"], replace(config, mixup=0.2), tmp_path / "out")
