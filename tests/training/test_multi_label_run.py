"""Runs on multi-label data: training, files, figures, what is refused."""

import csv
import json
from dataclasses import replace

import pytest
import torch
from multi_label import CLASSES, write_bars

import foveal
from foveal.core.answers import Answers
from foveal.training.checkpoint import read_checkpoint
from foveal.training.predict_file import predict_to_file
from foveal.training.predictions import mean_average_precision_of, read_multi_label, write_predictions
from foveal.training.run_figures import MultiLabelResult, check_epoch, check_test
from foveal.training.run_folder import finished, read_lines


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("bars")
    data = write_bars(root, 120)
    config = foveal.RunConfig(
        model="small_cnn+se", data=str(data), image_size=16, epochs=6, batch_size=8, class_weights=True
    )
    return config, foveal.train(config, root / "run"), root / "run"


def test_train_learns_any_number_of_classes_and_writes_figures_of_each(run):
    config, result, folder = run
    assert isinstance(result, MultiLabelResult)
    assert result.mean_average_precision > 0.8
    assert result.error == pytest.approx(100 - 100 * result.mean_average_precision)
    assert list(result.average_precision) == sorted(CLASSES)
    lines = read_lines(folder)
    figures = [line["validation_mean_average_precision"] for line in lines[:-1]]
    assert figures.index(max(figures)) + 1 == result.best_epoch
    assert not (folder / "confusion.csv").exists()
    names, labels, probabilities = read_multi_label(folder / "predictions.csv")
    assert names == sorted(CLASSES)
    data = foveal.load_data(config.data, image_size=16)
    assert torch.equal(labels, data.test.labels)
    assert mean_average_precision_of(folder / "predictions.csv") == pytest.approx(
        result.mean_average_precision, abs=1e-12
    )
    with (folder / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == sorted(CLASSES)
    assert [float(row["average_precision"]) for row in rows] == pytest.approx(
        [*result.average_precision.values()], abs=1e-6
    )
    assert [int(row["images"]) for row in rows] == labels.sum(0).tolist()
    assert [int(row["predicted"]) for row in rows] == (probabilities > 0.5).sum(0).tolist()
    assert foveal.train(config, folder, resume=True) == result == finished(folder)


def test_load_model_predicts_what_train_wrote(run, tmp_path):
    config, result, folder = run
    loaded = foveal.load_model(folder)
    data = loaded.load_data(config.data)
    found = loaded.predict(data.test)
    assert found.probabilities.sum(1).max() > 1.01  # no softmax
    _, labels, probabilities = read_multi_label(folder / "predictions.csv")
    torch.testing.assert_close(found.probabilities, probabilities)
    assert torch.equal(found.labels, labels)
    for text, row in zip(found.predicted, found.probabilities, strict=True):
        assert text == "|".join(name for name, chance in zip(loaded.classes, row, strict=True) if chance > 0.5)
    assert len(found.top(2)[0]) == 2
    done = predict_to_file(loaded, [config.data], tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text() == (folder / "predictions.csv").read_text()
    assert (done.right, done.mean_average_precision) == (None, pytest.approx(result.mean_average_precision))
    photos = [str(folder.parent / name) for name in data.test.names[:2]]
    predict_to_file(loaded, photos, tmp_path / "photos.csv")
    with (tmp_path / "photos.csv").open() as file:
        head, *rows = csv.reader(file)
    assert head == ["image", "predicted", *(f"probability of {name}" for name in sorted(CLASSES))]
    assert [row[1] for row in rows] == found.predicted[:2]
    with pytest.raises(ValueError, match="top=2: a line of a multi-label network holds every class"):
        predict_to_file(loaded, photos, tmp_path / "photos.csv", top=2)


def test_a_run_and_data_of_another_kind_are_refused(run, tmp_path):
    config, _, folder = run
    rows = [[name, sorted(CLASSES)[index % 2]] for index, name in enumerate(foveal.load_data(config.data).train.names)]
    single = folder.parent / "single.csv"
    with single.open("w", newline="") as file:
        csv.writer(file).writerows([["image", "label"], *rows])
    with pytest.raises(ValueError, match="one class for each image, and the network was trained on any number of"):
        foveal.load_model(folder).load_data(single)
    foveal.train(replace(config, data=str(single), epochs=1, class_weights=False), tmp_path / "single")
    with pytest.raises(ValueError, match="any number of classes for each image, and the network was trained on one"):
        foveal.load_model(tmp_path / "single").load_data(config.data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixup": 0.2}, "mixup and cutmix: data '.*labels.csv' has any number of classes"),
        ({"model": "ram"}, "network 'ram' computes its loss from one class for each image; data '.*labels.csv' has"),
    ],
)
def test_train_refuses_what_needs_one_class_for_each_image(run, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        foveal.train(replace(run[0], **changes), tmp_path / "refused")
    assert not (tmp_path / "refused/metrics.jsonl").exists()


def test_a_checkpoint_states_whether_an_image_has_any_number_of_classes(run):
    assert read_checkpoint(run[2]).facts["multi_label"] is True


def test_read_multi_label_reads_what_write_predictions_wrote_or_refuses_it(tmp_path):
    """Names that a spreadsheet would compute, and probabilities to the last digit."""
    classes, logits = ["=a", "'b", "c"], torch.randn(4, 3, generator=torch.Generator().manual_seed(0)) * 9
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]])
    answers = Answers(logits, 3, multi_label=True)
    write_predictions(tmp_path, ["0", "1", "2", "3"], labels, classes, answers)
    names, read, probabilities = read_multi_label(tmp_path / "predictions.csv")
    assert names == classes
    assert torch.equal(read, labels)
    assert torch.equal(probabilities, logits.sigmoid())
    text = (tmp_path / "predictions.csv").read_text()
    head, *rows = text.splitlines()
    for broken in ("", head, f"{head}\n{rows[0]},1", f"{head}\n{rows[0]}\n{rows[0]}", text.replace("c,", "d,", 2),
                   f"{head}\n0,,,nan,1,1", f"{head}\n0,,,2,1,1", f"{head}\n0,x,,0,1,1"):  # fmt: skip
        (tmp_path / "predictions.csv").write_text(broken)
        with pytest.raises(ValueError, match=r"predictions\.csv: each line needs another image"):
            read_multi_label(tmp_path / "predictions.csv")


GOOD = {"mean_average_precision": 0.5, "average_precision": {"a": 0.4, "b": 0.6}, "best_epoch": 1, "absent": []}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean_average_precision": 0.7}, "mean_average_precision=0.7 is not the mean of average_precision"),
        ({"mean_average_precision": 1.5}, "mean_average_precision=1.5; a number from 0 to 1 is needed"),
        ({"average_precision": {"a": None}}, "average_precision={'a': None}; numbers from 0 to 1 by class"),
        ({"best_epoch": 3}, "best_epoch=3 of 2 epochs"),
        ({"accuracy": 0.5}, "unknown field 'accuracy'"),
    ],
)
def test_check_test_refuses_figures_that_do_not_agree(changes, message):
    check_test("here", GOOD, 2)
    with pytest.raises(ValueError, match=f"here, test: {message}"):
        check_test("here", GOOD | changes, 2)


def test_check_epoch_takes_one_figure_of_the_validation_part():
    line = {"epoch": 1, "train_loss": 0.5, "validation_mean_average_precision": 0.5}
    check_epoch("here", line, 1)
    with pytest.raises(ValueError, match="unknown field 'validation_accuracy'"):
        check_epoch("here", line | {"validation_accuracy": 0.5}, 1)


def test_finished_refuses_a_mean_that_its_predictions_do_not_have(run, tmp_path):
    lines = read_lines(run[2])
    test = lines[-1]["test"]
    classes = dict.fromkeys(test["average_precision"], 0.3)
    changed = [*lines[:-1], {"test": {**test, "mean_average_precision": 0.3, "average_precision": classes}}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed))
    assert finished(tmp_path).mean_average_precision == 0.3
    (tmp_path / "predictions.csv").write_bytes((run[2] / "predictions.csv").read_bytes())
    with pytest.raises(ValueError, match=r"mean_average_precision=0\.3, and predictions\.csv has"):
        finished(tmp_path)
